#!/usr/bin/env python3
"""Q-12: compares Hansa with a hand-written service for the same job, in one run on one machine (`make bench-peer`).

    run.py HANSA_BENCH      needs DATABASE_URL, NATS_URL and PGBENCH, as `make bench-peer` sets them

The peer (`app.py`, `relay.py`) runs as two uvicorn workers on uvloop and one relay. 32 callers propose agreements, each
over a connection of its own, and one subscriber applies them. The bench of Hansa measures Hansa. Q-12 is the same job:
32 callers propose agreements to a node with all services, and the strategy service applies them and evaluates the
cities. The rows of Q-1 are another job, the rename of a city: the register only, the register with records that are not
cached, and the whole node. The script measures peer and Hansa alternately, and prints medians.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).resolve().parent
CALLERS = 32
CITIES = 5_000
RUNS = int(os.environ.get("RUNS", "5"))
SECONDS = 5.0
WARM_SECONDS = 2.0
START_SECONDS = 60
WORKERS = 2


async def caller(port, headers, number, until, millis):
    """Sends requests one after the other over one connection until `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turn = 0
    while (asked := time.perf_counter()) < until:
        initiator = (number + turn * CALLERS) % CITIES
        body = json.dumps({
            "initiator": str(city(initiator)), "partner": str(city((initiator + 1) % CITIES)), "kind": "COOPERATION",
            "title": "Cooler streets", "sectors": ["CLIMATE"], "term_months": 60,
        }).encode()
        head = f"{headers(initiator)}idempotency-key: {uuid.uuid4()}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        status = await reader.readline()
        length = 0
        while (line := await reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        answer = await reader.readexactly(length)
        if b" 201 " not in status:
            raise SystemExit(f"the peer refused: {status!r} {answer!r}")
        millis.append((time.perf_counter() - asked) * 1e3)
        turn += 1
    writer.close()


def city(number):
    """Returns the id of a city."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"city {number}")


def tenant(number):
    """Returns the id of the tenant of a city."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"tenant {number}")


async def load(port, headers, seconds):
    """Runs all callers for a time. Returns answers per second, and the sorted latencies."""
    millis, began = [], time.perf_counter()
    await asyncio.gather(*(caller(port, headers, number, began + seconds, millis) for number in range(CALLERS)))
    return len(millis) / (time.perf_counter() - began), sorted(millis)


async def prepare(url):
    """Creates a database with the tables and cities of the peer. Returns its URL."""
    import app
    from sqlalchemy.ext.asyncio import create_async_engine

    name = f"peer_{uuid.uuid4().hex}"
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()
    base = url.rsplit("/", 1)[0]
    engine = create_async_engine(f"{base}/{name}".replace("postgres://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(app.Base.metadata.create_all)
    await engine.dispose()
    filled = await asyncpg.connect(f"{base}/{name}")
    rows = [(city(n), f"City {n}", "DE", tenant(n)) for n in range(CITIES)]
    await filled.copy_records_to_table("cities", records=rows)
    await filled.execute("ANALYZE")
    await filled.close()
    return f"{base}/{name}"


def keys():
    """Returns a public key in PEM format, and its private key."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public.decode(), private


def start(env, port):
    """Starts the processes of the peer and waits until they are ready."""
    serve = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--workers", str(WORKERS), "--loop", "uvloop"]
    server = subprocess.Popen([*serve, "--http", "httptools", "--no-access-log", "--log-level", "warning"], cwd=HERE, env=env)
    relay = subprocess.Popen([sys.executable, "relay.py"], cwd=HERE, env=env, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + START_SECONDS
    while relay.stdout.readline().strip() != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return [server, relay]
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the peer did not start")


def hansa(bench):
    """Runs Q-12 and Q-1 once. Returns their rows, Q-12 first."""
    output = HERE.parent.parent / "target/bench-peer-hansa.json"
    command = [bench, "--only", "Q-1,Q-12", "--runs", "1", "--seconds", str(int(SECONDS)), "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
    for row in rows:
        if row["failed"]:
            raise SystemExit(f"measuring {row['id']} failed: {row['failed']}")
    return sorted(rows, key=lambda row: row["id"] != "Q-12")


def part(values, share):
    """Returns a quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


async def settled(url):
    """Waits until the subscriber has applied all messages. Returns the time in seconds."""
    began = time.perf_counter()
    connection = await asyncpg.connect(url)
    while await connection.fetchval("SELECT (SELECT count(*) FROM agreements) > (SELECT count(*) FROM inbox)"):
        if time.perf_counter() - began > START_SECONDS:
            raise SystemExit("the relay of the peer does not catch up")
        await asyncio.sleep(0.05)
    await connection.close()
    return time.perf_counter() - began


async def main():
    """Measures peer and Hansa alternately, and prints the results."""
    bench = sys.argv[1]
    public, private = keys()
    url = await prepare(os.environ["DATABASE_URL"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "DATABASE_URL": url, "PEER_KEY": public}
    claims = {"sub": "the office", "roles": ["ir_officer"], "aud": "peer", "exp": int(time.time()) + 86_400}
    tokens = [jwt.encode({**claims, "tenant": str(tenant(n))}, private, "EdDSA") for n in range(CITIES)]

    def headers(n):
        start = "POST /agreements HTTP/1.1\r\nhost: peer\r\ncontent-type: application/json\r\n"
        return f"{start}authorization: Bearer {tokens[n]}\r\n"

    processes = start(env, port)
    peer, rows, lag = [], [], []
    try:
        await load(port, headers, WARM_SECONDS)
        for _ in range(RUNS):
            await settled(url)
            peer.append(await load(port, headers, SECONDS))
            lag.append(await settled(url))
            rows.append(hansa(bench))
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=START_SECONDS)
    tell(peer, rows, lag)


def tell(peer, rows, lag):
    """Prints the table, and writes it as JSON."""
    rate = statistics.median(one[0] for one in peer)
    millis = sorted(ms for one in peer for ms in one[1])
    table = {"peer": {"rate": rate, "p50": part(millis, 0.5), "p99": part(millis, 0.99), "runs": [one[0] for one in peer]}}
    print(f"\n{CALLERS} callers, medians of {RUNS} alternating runs of {SECONDS:.0f} s\n")
    print(f"  {'FastAPI, SQLAlchemy, nats-py':44} {rate:8.0f}/s   p50 {part(millis, 0.5):6.1f} ms   p99 {part(millis, 0.99):6.1f} ms")
    for row in rows[0]:
        if f" {CALLERS} callers" in row["what"]:
            same = row["id"] == "Q-12"
            figures = [r["figure"] for one in rows for r in one if r["what"] == row["what"]]
            figure = statistics.median(figures)
            entry = {"rate": figure, "ratio": figure / rate, "runs": figures, "notes": row["notes"], "same_job": same}
            table[row["what"]] = entry
            print(f"\n  Hansa, {'the same job' if same else 'another job'}: {row['what']}")
            print(f"  {'':44} {figure:8.0f}/s   {figure / rate:5.1f} x   {row['notes'][0]}")
    print(f"\n  The peer's subscriber had applied all messages {statistics.median(lag):.1f} s after the load.")
    Path(HERE.parent.parent / "target/bench-peer.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    uvloop.run(main())
