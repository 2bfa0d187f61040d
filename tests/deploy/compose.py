#!/usr/bin/env python3
"""Tests the compose file without a container engine.

    compose.py up --at FOLDER --otlp URL     start its PostgreSQL and NATS, and print how to start its hansa services
    compose.py down --at FOLDER              stop both

`check.py compose` compares the file with the program. `tests/journey.rs` starts the services that `up` prints and runs
the journey on them. This module replaces only the parts that need an engine: host names, ports, and the folders of
volumes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import setup
from image import Image
from setup import DEPLOY, read_yaml, servers, settings

HERE = DEPLOY / "compose"
FILE = HERE / "compose.yaml"


def passwords():
    """Returns a password for each name in example.env. Passwords begin with a digit, because real ones may do so."""
    lines = (HERE / "example.env").read_text(encoding="utf-8").splitlines()
    names = [line.rstrip("=") for line in lines if line.endswith("=")]
    return {name: f"{number}e{number}{name.lower().replace('_', '')}" for number, name in enumerate(names, 1)}


def substituted(text, variables):
    """Replaces ${NAME}, ${NAME:-default} and ${NAME:?message} in a text as compose does."""

    def put(found):
        name, mark, rest = found.group(1), found.group(2), found.group(3)
        if name in variables:
            return variables[name]
        assert mark == ":-", f"{name} is not in example.env and has no default"
        return rest

    return re.sub(r"\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", put, text)


def services(variables):
    """Returns the services of the file, and the whole file, as compose reads them."""
    (file,) = read_yaml(substituted(FILE.read_text(encoding="utf-8"), variables))
    return file["services"], file


def ours(all_services):
    """Returns the services that run hansa, in file order."""
    return {name: one for name, one in all_services.items() if one["image"].startswith("hansa:")}


def serving(all_services):
    """Returns the services that run `hansa serve`."""
    return {name: one for name, one in ours(all_services).items() if one["command"][0] == "serve"}


def mounts(service):
    """Returns the mounts of a service as (source, target, read-only)."""
    split = [mount.split(":") for mount in service.get("volumes", [])]
    return [(mount[0], mount[1], mount[2:] == ["ro"]) for mount in split]


def environment(service):
    """Returns the variables of a hansa service: those of the image, overridden by its own."""
    return Image().environment() | service.get("environment", {})


class Places:
    """Maps hosts, ports and volumes of the file to this machine."""

    def __init__(self, folder, hosts):
        self.folder, self.hosts = folder, hosts

    def volume(self, source):
        """Returns the path of the source of a mount."""
        return (HERE / source).resolve() if source.startswith(".") else self.folder / source

    def localised(self, service, text):
        """Replaces hosts and paths in a text by those of this machine."""
        for host, here in self.hosts.items():
            text = text.replace(host, here)
        for source, target, _ in mounts(service):
            text = text.replace(target, str(self.volume(source)))
        return text

    def file(self, service, target):
        """Writes a copy of a mounted file with hosts and paths of this machine. Returns its path."""
        (source,) = [source for source, inside, _ in mounts(service) if inside == target]
        copy = self.folder / f"{Path(target).name}"
        copy.write_text(self.localised(service, self.volume(source).read_text(encoding="utf-8")), encoding="utf-8")
        return str(copy)


def up(folder, otlp):
    """Starts PostgreSQL and NATS as in the file. Returns how to start the hansa services."""
    variables = passwords()
    all_services, _ = services(variables)
    servers.start(folder, names=("postgres",))
    state = servers.load(folder)
    make_users(all_services["postgres"], state["postgres"])
    nats = all_services["nats"]
    port, monitor = servers.free_port(), servers.free_port()
    hosts = {
        "@postgres:5432": f"@127.0.0.1:{state['postgres']['port']}", "@nats:4222": f"@127.0.0.1:{port}",
        "port: 4222": f"port: {port}\nhost: 127.0.0.1", "127.0.0.1:8222": f"127.0.0.1:{monitor}",
        "http://collector:4317": otlp,
    }
    places = Places(folder, hosts)
    start_nats(folder, places, nats, port)
    processes = [process(places, name, one) for name, one in serving(all_services).items()]
    caretaker = process(places, "caretaker", all_services["caretaker"])
    return {"processes": processes, "caretaker": caretaker, "data": str(places.volume("node"))}


def make_users(service, server):
    """Runs the script that the PostgreSQL image would run on an empty volume."""
    (script,) = [source for source, target, _ in mounts(service) if target.startswith("/docker-entrypoint-initdb.d/")]
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(server["port"]), "PGPASSWORD": server["password"]}
    own = {name: service["environment"][name] for name in service["environment"] if name != "POSTGRES_PASSWORD"}
    path = f"{server['bin']}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    subprocess.run(["sh", str(HERE / script)], env={"PATH": path, **where, **own}, check=True)


def start_nats(folder, places, service, port):
    """Starts nats-server with the configuration of the file, and saves it in the state that `down` reads."""
    store = places.volume("nats")
    store.mkdir()
    option, config = service["command"]
    assert option == "--config", service["command"]
    nats = str(servers.tool("nats-server"))
    log = folder / "nats.log"
    words = [nats, option, places.file(service, config)]
    child = servers.spawn(words, log, env=setup.clean_environment(**service["environment"]))
    state = servers.load(folder)
    state["nats"] = {"folder": str(folder), "bin": nats, "pid": child.pid, "port": port}
    servers.save(folder, state)

    def listens():
        assert child.poll() is None, servers.log_tail(log)
        return "Server is ready" in log.read_text(encoding="utf-8")

    setup.eventually("nats-server is ready", listens)


def process(places, name, service):
    """Returns how to start one service on this machine."""
    variables = {key: places.localised(service, value) for key, value in environment(service).items()}
    variables["HANSA_CONFIG"] = places.file(service, environment(service)["HANSA_CONFIG"])
    port = servers.free_port()
    variables["HANSA_LISTEN"] = variables["HANSA_LISTEN"].replace("0.0.0.0:7400", f"127.0.0.1:{port}")
    return {"service": name, "arguments": service["command"], "environment": variables, "address": f"127.0.0.1:{port}"}


class ComposeCheck(unittest.TestCase):
    def setUp(self):
        self.all, self.file = services(passwords())

    def test_the_program_takes_every_setting(self):
        for name, service in ours(self.all).items():
            config = dict((target, source) for source, target, _ in mounts(service))[environment(service)["HANSA_CONFIG"]]
            variables = environment(service) | {"HANSA_CONFIG": str(HERE / config)}
            found, told = settings(environment=variables)
            self.assertEqual(found["listen"]["value"], "0.0.0.0:7400")
            if service["command"][0] == "serve":
                self.assertEqual(service["command"], ["serve", "--only", name])
                self.assertEqual([port.split(":")[2] for port in service["ports"]], ["7400"])
            help_ = setup.hansa(*service["command"], "--help")
            self.assertEqual(help_.returncode, 0, help_.stderr)
        self.assertEqual(sorted(serving(self.all)), sorted(told["services"]))

    def test_every_address_is_a_service_that_listens_there(self):
        listening = {"postgres": "5432", "nats": "4222", "collector": "4317"}
        config = (HERE / "nats.conf").read_text(encoding="utf-8")
        self.assertIn("port: 4222", config)
        (collector,) = read_yaml(DEPLOY / "observability" / "collector" / "collector.yaml")
        self.assertTrue(collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317"))
        text = FILE.read_text(encoding="utf-8") + (HERE / "hansa.toml").read_text(encoding="utf-8")
        found = re.findall(r"(?:@|//)([a-z]+):([0-9]+)", text)
        self.assertTrue(found)
        for host, port in found:
            self.assertEqual(listening.get(host), port, f"{host}:{port}")

    def test_services_are_confined_and_wait_for_what_they_need(self):
        for name, service in ours(self.all).items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            self.assertGreaterEqual(service["depends_on"].keys(), {"postgres", "nats"})
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), f"{port}: plain text is allowed on loopback only")
        makers = [name for name, one in ours(self.all).items() if ("node", "/var/lib/hansa", False) in mounts(one)]
        self.assertEqual(makers, ["register"], "only one service may create the key of the node")
        for name in set(ours(self.all)) - set(makers):
            self.assertEqual(self.all[name]["depends_on"]["register"], {"condition": "service_healthy"})

    def test_files_and_volumes_are_there(self):
        for name, service in self.all.items():
            for source, _, read_only in mounts(service):
                if source.startswith("."):
                    self.assertTrue((HERE / source).is_file() and read_only, f"{name}: {source}")
                else:
                    self.assertIn(source, self.file["volumes"])

    def test_every_password_is_asked_for(self):
        named = set(re.findall(r"\$\{([A-Z]+_PASSWORD)", FILE.read_text(encoding="utf-8")))
        self.assertEqual(named, set(passwords()))
        for found in re.findall(r"\$\{[A-Z]+_PASSWORD[^}]*\}", FILE.read_text(encoding="utf-8")):
            self.assertIn(":?", found, "a missing password must be an error")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--at", type=Path, required=True)
    parser.add_argument("--otlp", default="http://127.0.0.1:4317")
    given = parser.parse_args()
    if given.what == "down":
        servers.stop(given.at)
        return
    print(json.dumps(up(given.at.resolve(), given.otlp)))


if __name__ == "__main__":
    setup.use_packages()
    main()
