"""Shared parts of the checks of `deploy/`: paths, the program, tools, and readers of files."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PINS = Path(__file__).resolve().with_name("tools.txt")
sys.path.insert(0, str(ROOT / "tests"))

import servers  # noqa: E402  (a module in the parent folder)

WAIT_SECONDS = 60


def use_packages():
    """Makes the pinned packages importable."""
    folder = servers.install(PINS)
    for packages in (*folder.glob("lib/python*/site-packages"), folder):
        if (packages / "fastjsonschema").is_dir():
            sys.path.insert(0, str(packages))
            return
    raise servers.Failed(f"the packages of {PINS.name} were installed, but are not in {folder}")


def program():
    """Returns the path of the program: from HANSA, or of the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = Path(os.environ.get("HANSA", target / "debug" / "hansa"))
    if not found.exists():
        raise servers.Failed(f"{found} does not exist: run `cargo build -p hansa`")
    return found


def clean_environment(**more):
    """Returns the variables of this process without those that the program reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HANSA")} | more


def hansa(*arguments, environment=None):
    """Runs the program. Returns the completed process."""
    return subprocess.run(
        [str(program()), *arguments],
        env=clean_environment(**(environment or {})), capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
    )


def settings(*arguments, environment=None):
    """Returns the settings by key as the program reads them, and its whole report. Fails if it refuses them."""
    said = hansa(*arguments, "config", "--json", environment=environment)
    if said.returncode != 0:
        raise AssertionError(f"the program refuses the configuration: {said.stderr.strip()}")
    told = json.loads(said.stdout)
    return {one["key"]: one for one in told["settings"]}, told


def read_yaml(path_or_text):
    """Returns all documents of a YAML file or text."""
    from ruamel.yaml import YAML

    text = path_or_text.read_text(encoding="utf-8") if isinstance(path_or_text, Path) else path_or_text
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document is not None]


def kubectl():
    """Returns the path of kubectl: from KUBECTL, or of the pinned version."""
    return Path(os.environ["KUBECTL"]) if "KUBECTL" in os.environ else servers.tool("kubectl", PINS.with_name("kubectl.txt"))


def promtool():
    """Returns the path of promtool: from PROMTOOL, an installed one, or the one in Debian's package `prometheus`, which
    is unpacked next to the other tools and not installed."""
    if given := os.environ.get("PROMTOOL") or shutil.which("promtool"):
        return Path(given)
    found = servers.HOME / "promtool" / "usr" / "bin" / "promtool"
    if not found.exists():
        with servers.locked(servers.HOME / "promtool.lock"), tempfile.TemporaryDirectory() as folder:
            servers.say("fetching promtool (Debian's package prometheus)")
            options = {"cwd": folder, "capture_output": True, "text": True, "check": False}
            fetch = ["apt-get", "-q", "-y", "download", "prometheus"]
            try:
                fetched = subprocess.run(fetch, **options)
                if fetched.returncode != 0:
                    subprocess.run(["apt-get", "-q", "update"], **options)
                    fetched = subprocess.run(fetch, **options)
            except FileNotFoundError as error:
                raise servers.Failed("promtool and apt-get are missing: set PROMTOOL to its path") from error
            packages = list(Path(folder).glob("prometheus_*.deb"))
            if not packages:
                raise servers.Failed(f"fetching promtool failed: set PROMTOOL to its path\n{fetched.stderr}")
            subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(servers.HOME / "promtool")], check=True)
    return found


def eventually(what, condition):
    """Waits until `condition` returns a true value, and returns that value."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS} s"
        time.sleep(0.05)
    return found
