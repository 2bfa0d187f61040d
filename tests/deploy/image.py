"""Tests the image without a container engine: assembles its content and starts it as the Dockerfile says."""

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
# Instructions allowed in the last stage. These checks do not cover any other.
KNOWN = {"FROM", "COPY", "VOLUME", "ENV", "EXPOSE", "USER", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
# Programs that the image must not contain: hansa is its only program.
SHELLS = re.compile(r"(^|/)(sh|bash|dash|busybox|python[0-9.]*|perl|apt|dpkg|curl|wget)$")


def stages(text):
    """Returns base and instructions, as (word, rest), of each stage of a Dockerfile."""
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
    """The last stage of the Dockerfile."""

    def __init__(self):
        read = stages(DOCKERFILE.read_text(encoding="utf-8"))
        self.builds = {base[2]: lines for base, lines in read[:-1] if len(base) == 3 and base[1] == "AS"}
        self.base, self.lines = read[-1][0], read[-1][1]

    def all(self, word):
        """Returns the arguments of each instruction of that name."""
        return [rest for one, rest in self.lines if one == word]

    def one(self, word):
        """Returns the arguments of the only instruction of that name."""
        (rest,) = self.all(word)
        return rest

    def environment(self):
        """Returns the variables of the image."""
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))

    def user(self):
        """Returns the numeric ids of user and group."""
        user, group = self.one("USER").split(":")
        return int(user), int(group)

    def probe(self):
        """Returns the command of the health check."""
        return json.loads(self.one("HEALTHCHECK").partition("CMD ")[2])

    def assemble(self, work):
        """Creates the root of the image below `work`, by the commands of the build stage and the COPY lines."""
        (command,) = [rest for word, rest in self.builds["build"] if word == "RUN" and "assemble" in rest]
        words = shlex.split(command)
        assert words[:2] == ["sh", "deploy/image/assemble"] and words[3] == "/image", words
        assert words[2] == "target/release/hansa", "the build must assemble the program that it has built"
        built = work / "build"
        subprocess.run(["sh", words[1], str(program()), str(built / "image")], cwd=ROOT, check=True)
        root = work / "root"
        root.mkdir(mode=0o755)
        for rest in self.all("COPY"):
            options = [word for word in rest.split() if word.startswith("--")]
            source, target = [word for word in rest.split() if not word.startswith("--")]
            assert options[0] == "--from=build", f"COPY {rest}: only copies from the build are supported"
            assert source.endswith("/") and target.endswith("/"), f"COPY {rest}: only folders are supported"
            place = root / target.lstrip("/")
            shutil.copytree(built / source.lstrip("/"), place, dirs_exist_ok=True)
            for option in options[1:]:
                name, owner = option.split("=")
                assert name == "--chown", option
                self.give(place, owner)
        return root

    def give(self, place, owner):
        """Changes the owner of a folder and its content, if this process may."""
        assert owner == self.one("USER"), "the owner must be the user of the image"
        if os.geteuid() == 0:
            for path in (place, *place.rglob("*")):
                os.chown(path, *self.user())


class Container:
    """A namespace with the read-only root of an image and its volumes, for an unprivileged user."""

    def __init__(self, image, root, mounts):
        """`mounts` maps each path in the container to a folder of this machine and whether the folder is writable."""
        self.image, self.root, self.mounts = image, root, mounts
        for place in mounts:
            (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def command(self, words):
        """Returns the command that runs `words` inside. If the caller is not root, the user namespace has only one
        user, so the command cannot switch to the user of the image."""
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
        """Runs a command inside, and waits for its end."""
        environment = environment_with_path(self.image.environment() | variables)
        return subprocess.run(
            self.command(words), env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, words, log, **variables):
        """Starts a command inside."""
        environment = environment_with_path(self.image.environment() | variables)
        return subprocess.Popen(self.command(words), env=environment, stdout=log, stderr=log)


def own(image, path, group_only=False):
    """Changes the owner of a path to the user of the image, or only its group, if this process may."""
    if os.geteuid() == 0:
        user, group = image.user()
        os.chown(path, 0 if group_only else user, group)


def environment_with_path(environment):
    """Returns the variables of the image, with the PATH that finds the tools of the container."""
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
        # A new volume starts with the content of the image at its path.
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
        self.assertTrue(all(number > 0 for number in self.image.user()), "the user must not be root")
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
            self.assertIsNone(SHELLS.search(inside), f"{inside} does not belong to hansa")
            self.assertEqual(mode & (stat.S_ISUID | stat.S_ISGID), 0, f"{inside} is setuid or setgid")
            self.assertEqual(mode & 0o022, 0, f"{inside} is writable for other users")
            if stat.S_ISREG(mode) and mode & 0o111:
                self.assertTrue(inside == entry or ".so" in path.name, f"{inside} is executable")
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

            eventually("the program serves", serves)
            status = Path(f"/proc/{running.pid}/status").read_text(encoding="utf-8")
            self.assertIn("NoNewPrivs:\t1", status)
            if os.geteuid() == 0:
                self.assertIn(f"Uid:\t{self.image.user()[0]}\t{self.image.user()[0]}", status)
                self.assertIn("CapEff:\t0000000000000000", status)
            mounts = Path(f"/proc/{running.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
            (flags,) = [line.split()[5] for line in mounts if line.split()[4] == "/"]
            self.assertIn("ro", flags.split(","), "the root is not read-only")
            key = self.data / "node.key"
            self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        finally:
            running.send_signal(signal.SIGTERM)
            self.assertEqual(running.wait(timeout=40), 0, log.read_text(encoding="utf-8"))
        self.assertNotEqual(self.container.run(self.image.probe(), **place).returncode, 0, "the program still runs")
