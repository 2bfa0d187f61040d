"""What the checks of `deploy/` share: where things are, the program, the tools, and a few small readers."""

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

import servers  # noqa: E402  (it lies beside this folder)

WAIT_SECONDS = 60


def use_packages():
    """Makes the pinned packages importable."""
    folder = servers.install(PINS)
    for packages in (*folder.glob("lib/python*/site-packages"), folder):
        if (packages / "fastjsonschema").is_dir():
            sys.path.insert(0, str(packages))
            return
    raise servers.Failed(f"{PINS.name} was installed, and its packages are not in {folder}")


def program():
    """The program: what HANSA names, or the debug build."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = Path(os.environ.get("HANSA", target / "debug" / "hansa"))
    if not found.exists():
        raise servers.Failed(f"{found} is not there: cargo build -p hansa")
    return found


def clean_environment(**more):
    """This process's variables without those that the program reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HANSA")} | more


def hansa(*arguments, environment=None):
    """Runs the program; returns what came of it."""
    return subprocess.run(
        [str(program()), *arguments],
        env=clean_environment(**(environment or {})), capture_output=True, text=True, timeout=WAIT_SECONDS, check=False,
    )


def settings(*arguments, environment=None):
    """The program's settings as it reads them itself, by key, with what it says beside them; fails where it refuses."""
    said = hansa(*arguments, "config", "--json", environment=environment)
    if said.returncode != 0:
        raise AssertionError(f"the program refuses the configuration: {said.stderr.strip()}")
    told = json.loads(said.stdout)
    return {one["key"]: one for one in told["settings"]}, told


def read_yaml(path_or_text):
    """All documents of a YAML file or text."""
    from ruamel.yaml import YAML

    text = path_or_text.read_text(encoding="utf-8") if isinstance(path_or_text, Path) else path_or_text
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document is not None]


def kubectl():
    """The path of kubectl: what KUBECTL names, or the pinned one."""
    return Path(os.environ["KUBECTL"]) if "KUBECTL" in os.environ else servers.tool("kubectl", PINS.with_name("kubectl.txt"))


def promtool():
    """The path of promtool: what PROMTOOL names, one that is installed, or the one of Debian's package `prometheus`, which is
    unpacked beside the other tools and not installed."""
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
                raise servers.Failed("no promtool here, and no apt-get: set PROMTOOL to the path of one") from error
            packages = list(Path(folder).glob("prometheus_*.deb"))
            if not packages:
                raise servers.Failed(f"promtool could not be fetched; set PROMTOOL to the path of one\n{fetched.stderr}")
            subprocess.run(["dpkg-deb", "-x", str(packages[0]), str(servers.HOME / "promtool")], check=True)
    return found


def eventually(what, condition):
    """Waits until something is true, and returns it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_SECONDS} s"
        time.sleep(0.05)
    return found
