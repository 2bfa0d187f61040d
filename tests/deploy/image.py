"""The image, without a container engine: its content is assembled as the Dockerfile says, and started as it says."""

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

from setup import DEPLOY, ROOT, clean_environment, eventually, program, servers, settings

DOCKERFILE = DEPLOY / "image" / "Dockerfile"
# What the last stage may say. Anything else would not be tried here, so it fails.
KNOWN = {"FROM", "COPY", "VOLUME", "ENV", "EXPOSE", "USER", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
# Nothing of these belongs into an image whose only program is ours.
SHELLS = re.compile(r"(^|/)(sh|bash|dash|busybox|python[0-9.]*|perl|apt|dpkg|curl|wget)$")


def stages(text):
    """The stages of a Dockerfile: for each the base, and its instructions as (word, rest)."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = re.sub(r"\\\n", " ", text)
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append((rest.split(), [(word, rest.strip())]))
        elif found:
            found[-1][1].append((word, rest.strip()))
    return found


class Image:
    """The last stage, read."""

    def __init__(self):
        read = stages(DOCKERFILE.read_text(encoding="utf-8"))
        self.builds = {base[2]: lines for base, lines in read[:-1] if len(base) == 3 and base[1] == "AS"}
        self.base, self.lines = read[-1][0], read[-1][1]

    def all(self, word):
        """What stands after each instruction of that name."""
        return [rest for one, rest in self.lines if one == word]

    def one(self, word):
        """What stands after the one instruction of that name."""
        (rest,) = self.all(word)
        return rest

    def environment(self):
        """Its variables."""
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))

    def user(self):
        """User and group, as numbers."""
        user, group = self.one("USER").split(":")
        return int(user), int(group)

    def probe(self):
        """The command of the health check."""
        return json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])

    def assemble(self, work):
        """Makes the image's root below `work`, with the build's own commands and this file's COPY lines."""
        (command,) = [rest for word, rest in self.builds["build"] if word == "RUN" and "assemble" in rest]
        words = shlex.split(command)
        assert words[:2] == ["sh", "deploy/image/assemble"] and words[3] == "/image", words
        assert words[2] == "target/release/hansa", "the program that the build has built"
        built = work / "build"
        subprocess.run(["sh", words[1], str(program()), str(built / "image")], cwd=ROOT, check=True)
        root = work / "root"
        root.mkdir(mode=0o755)
        for rest in self.all("COPY"):
            options = [word for word in rest.split() if word.startswith("--")]
            source, target = [word for word in rest.split() if not word.startswith("--")]
            assert options[0] == "--from=build", f"COPY {rest}: from the build alone"
            assert source.endswith("/") and target.endswith("/"), f"COPY {rest}: folders"
            place = root / target.lstrip("/")
            shutil.copytree(built / source.lstrip("/"), place, dirs_exist_ok=True)
            for option in options[1:]:
                name, owner = option.split("=")
                assert name == "--chown", option
                self.give(place, owner)
        return root

    def give(self, place, owner):
        """Gives a folder and what is in it to a user, where this process may."""
        assert owner == self.one("USER"), "what is given away belongs to the user"
        if os.geteuid() == 0:
            for path in (place, *place.rglob("*")):
                os.chown(path, *self.user())


class Container:
    """The root of an image, read-only but for its volumes, seen by one user without rights."""

    def __init__(self, image, root, mounts):
        """`mounts`: folders of this machine by the place at which they are seen, and whether they may be written to."""
        self.image, self.root, self.mounts = image, root, mounts
        for place in mounts:
            (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def command(self, words):
        """The words that run `words` inside. Not as root: a namespace of the caller's own has no second user to be."""
        lines = ["set -e", f"mount --bind {self.root} {self.root}"]
        for place, (folder, writable) in self.mounts.items():
            lines.append(f"mount --bind {folder} {self.root}{place}")
            lines += [] if writable else [f"mount -o remount,bind,ro {self.root}{place}"]
        script = "; ".join([*lines, f"mount -o remount,bind,ro {self.root}", 'exec "$@"'])
        namespace = ["unshare", "--mount", "--propagation", "private"]
        user, group = self.image.user()
        drop = ["setpriv", "--no-new-privs", "chroot", f"--userspec={user}:{group}", "--groups="]
        if os.geteuid() != 0:
            namespace = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
            drop = ["setpriv", "--no-new-privs", "chroot"]
        return [*namespace, "sh", "-c", script, "sh", *drop, str(self.root), *words]

    def run(self, words, **variables):
        """Runs a command inside to its end."""
        environment = environment_with_path(self.image.environment() | variables)
        return subprocess.run(
            self.command(words), env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, words, log, **variables):
        """Starts a command inside."""
        environment = environment_with_path(self.image.environment() | variables)
        return subprocess.Popen(self.command(words), env=environment, stdout=log, stderr=log)


def own(image, path, group_only=False):
    """Gives a folder or file to the image's user, or to its group alone, where this process may."""
    if os.geteuid() == 0:
        user, group = image.user()
        os.chown(path, 0 if group_only else user, group)


def environment_with_path(environment):
    """The image's variables alone, and where to find what makes the container."""
    return {"PATH": clean_environment().get("PATH", os.defpath)} | environment


class ImageCheck(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.image = Image()
        cls.work = tempfile.TemporaryDirectory(prefix="hansa-image-")
        work = Path(cls.work.name)
        work.chmod(0o755)
        cls.root = cls.image.assemble(work)
        (volume,) = json.loads(cls.image.one("VOLUME"))
        # A volume begins with what the image has at its place.
        cls.data = work / "volume"
        shutil.copytree(cls.root / volume.lstrip("/"), cls.data)
        own(cls.image, cls.data)
        cls.container = Container(cls.image, cls.root, {volume: (cls.data, True)})

    @classmethod
    def tearDownClass(cls):
        cls.work.cleanup()

    def test_the_last_stage_says_nothing_that_is_not_tried_here(self):
        self.assertEqual({word for word, _ in self.image.lines} - KNOWN, set())
        self.assertEqual(self.image.base, ["scratch"])
        self.assertEqual(self.image.one("STOPSIGNAL"), "SIGTERM")

    def test_user_and_ports_fit_the_program(self):
        self.assertTrue(all(number > 0 for number in self.image.user()), "not root")
        known, _ = settings()
        variables = {one["variable"]: one["key"] for one in known.values()}
        for name in self.image.environment():
            self.assertIn(name, variables)
        self.assertEqual(self.image.environment()["HANSA_LISTEN"].rpartition(":")[2], self.image.one("EXPOSE"))
        (volume,) = json.loads(self.image.one("VOLUME"))
        self.assertEqual(self.image.environment()["HANSA_DATA"], volume)

    def test_nothing_is_in_it_that_is_not_needed(self):
        (entry,) = json.loads(self.image.one("ENTRYPOINT"))
        for path in self.root.rglob("*"):
            inside = f"/{path.relative_to(self.root)}"
            mode = path.lstat().st_mode
            self.assertFalse(stat.S_ISLNK(mode), f"{inside} is a link")
            self.assertIsNone(SHELLS.search(inside), f"{inside} is no part of hansa")
            self.assertEqual(mode & (stat.S_ISUID | stat.S_ISGID), 0, f"{inside} lends rights")
            self.assertEqual(mode & 0o022, 0, f"{inside} may be written by others")
            if stat.S_ISREG(mode) and mode & 0o111:
                self.assertTrue(inside == entry or ".so" in path.name, f"{inside} can be run")
            if os.geteuid() == 0:
                ours = path.stat().st_uid == self.image.user()[0]
                self.assertEqual(ours, inside.startswith("/var/lib/hansa"), f"{inside} belongs to {path.stat().st_uid}")
        self.assertEqual(list((self.root / "var/lib/hansa").iterdir()), [])

    def test_it_does_not_serve_plain_text_unasked(self):
        said = self.container.run([*json.loads(self.image.one("ENTRYPOINT")), *json.loads(self.image.one("CMD"))])
        self.assertEqual(said.returncode, 1, said.stderr)
        self.assertIn("without TLS", said.stderr)

    def test_it_starts_serves_and_ends(self):
        words = [*json.loads(self.image.one("ENTRYPOINT")), *json.loads(self.image.one("CMD"))]
        place = {"HANSA_LISTEN": f"0.0.0.0:{servers.free_port()}", "HANSA_PLAINTEXT": "true"}
        log = Path(self.work.name) / "log"
        with open(log, "wb") as out:
            running = self.container.start(words, out, **place)
        try:

            def serves():
                self.assertIsNone(running.poll(), log.read_text(encoding="utf-8"))
                return self.container.run(self.image.probe(), **place).returncode == 0

            eventually("it serves", serves)
            status = Path(f"/proc/{running.pid}/status").read_text(encoding="utf-8")
            self.assertIn("NoNewPrivs:\t1", status)
            if os.geteuid() == 0:
                self.assertIn(f"Uid:\t{self.image.user()[0]}\t{self.image.user()[0]}", status)
                self.assertIn("CapEff:\t0000000000000000", status)
            mounts = Path(f"/proc/{running.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
            (flags,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
            self.assertIn("ro", flags.split(","), "its root is read-only")
            key = self.data / "node.key"
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        finally:
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(timeout=40), 0, log.read_text(encoding="utf-8"))
        self.assertNotEqual(self.container.run(self.image.probe(), **place).returncode, 0, "the probe sees that it is gone")
