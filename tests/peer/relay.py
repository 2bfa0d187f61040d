"""The relay of the peer (outbox to JetStream), and its subscriber (JetStream to tallies, through an inbox)."""

import asyncio
import os
import uuid

import nats
import orjson
from app import Inbox, Outbox, Tally, engine
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import async_sessionmaker

BATCH = 500
IDLE_SECONDS = 0.02
STREAM = "peer"


async def relay(sessions, stream):
    """Publishes the outbox in order, and deletes the rows that the broker has acknowledged."""
    while True:
        async with sessions.begin() as session:
            waiting = select(Outbox).order_by(Outbox.id).limit(BATCH).with_for_update(skip_locked=True)
            rows = (await session.scalars(waiting)).all()
            await asyncio.gather(*(publish(stream, row) for row in rows))
            await session.execute(delete(Outbox).where(Outbox.id.in_([row.id for row in rows])))
        if len(rows) < BATCH:
            await asyncio.sleep(IDLE_SECONDS)


async def publish(stream, row):
    """Publishes a message. By its id the broker drops duplicates."""
    await stream.publish(row.subject, orjson.dumps(row.payload), headers={"Nats-Msg-Id": str(row.message)})


async def subscribe(sessions, stream):
    """Applies messages: writes inbox rows and effects in one transaction, then acknowledges the messages."""
    pull = await stream.pull_subscribe("agreements.*", durable="tally", stream=STREAM)
    while True:
        try:
            messages = await pull.fetch(BATCH, timeout=1)
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        if not messages:
            continue
        async with sessions.begin() as session:
            ids = {uuid.UUID(message.headers["Nats-Msg-Id"]): orjson.loads(message.data) for message in messages}
            new = insert(Inbox).values([{"consumer": "tally", "message": id} for id in ids]).on_conflict_do_nothing()
            fresh = set((await session.scalars(new.returning(Inbox.message))).all())
            counts = {}
            for id in fresh:
                city = uuid.UUID(ids[id]["terms"]["initiator"])
                counts[city] = counts.get(city, 0) + 1
            if counts:
                rows = insert(Tally).values([{"city": city, "proposed": n} for city, n in sorted(counts.items())])
                more = {"proposed": Tally.proposed + rows.excluded.proposed}
                await session.execute(rows.on_conflict_do_update(index_elements=[Tally.city], set_=more))
        await asyncio.gather(*(message.ack() for message in messages))


async def main():
    """Runs relay and subscriber until the process is stopped."""
    client = await nats.connect(os.environ["NATS_URL"])
    stream = client.jetstream()
    await stream.add_stream(name=STREAM, subjects=["agreements.*"])
    sessions = async_sessionmaker(engine(4), expire_on_commit=False)
    print("ready", flush=True)
    await asyncio.gather(relay(sessions, stream), subscribe(sessions, stream))


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
