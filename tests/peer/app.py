"""The peer: one durable command as one would write it by hand today, with FastAPI, SQLAlchemy and PostgreSQL.

A city proposes an agreement. As in Hansa, a call carries a token that is verified, a role is needed, rules are checked, and one
transaction writes the agreement, a change for its history, the row that lists show, the request id with its answer, and an
outbox row that `relay.py` brings to NATS. What Hansa does beyond that (chain and signatures, seals, `validate_only`, etags) is
not here.
"""

import datetime
import hashlib
import os
import uuid
from contextlib import asynccontextmanager
from typing import Annotated

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, Text, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Connections of each of the two workers.
POOL = 16
KEY = load_pem_public_key(os.environ["PEER_KEY"].encode()) if "PEER_KEY" in os.environ else None


class Base(DeclarativeBase):
    """All tables."""


class City(Base):
    """A city and the tenant that acts for it."""

    __tablename__ = "cities"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str]
    tenant: Mapped[uuid.UUID]


class Agreement(Base):
    """An agreement as it stands."""

    __tablename__ = "agreements"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    state: Mapped[dict] = mapped_column(JSONB)


class Change(Base):
    """What happened to it."""

    __tablename__ = "changes"
    agreement: Mapped[uuid.UUID] = mapped_column(ForeignKey("agreements.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime.datetime] = mapped_column()
    payload: Mapped[dict] = mapped_column(JSONB)


class Listed(Base):
    """What lists filter and sort by."""

    __tablename__ = "listed"
    agreement: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    initiator: Mapped[uuid.UUID]
    partner: Mapped[uuid.UUID]
    status: Mapped[str]
    created_at: Mapped[datetime.datetime]
    __table_args__ = (Index("listed_initiator", "initiator", "status"), Index("listed_partner", "partner", "status"))


class Request(Base):
    """A request that was done, with its answer."""

    __tablename__ = "requests"
    tenant: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[dict] = mapped_column(JSONB)


class Outbox(Base):
    """What is still to be published."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    message: Mapped[uuid.UUID]
    subject: Mapped[str]
    payload: Mapped[dict] = mapped_column(JSONB)


class Inbox(Base):
    """What a subscriber has taken, once."""

    __tablename__ = "inbox"
    consumer: Mapped[str] = mapped_column(Text, primary_key=True)
    message: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    __table_args__ = (UniqueConstraint("consumer", "message"),)


class Tally(Base):
    """What the subscriber keeps: how many agreements a city has proposed."""

    __tablename__ = "tallies"
    city: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    proposed: Mapped[int]


def engine(pool=POOL):
    """A pool of connections."""
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+asyncpg://").split("?")[0]
    return create_async_engine(url, pool_size=pool, max_overflow=0)


class Proposal(BaseModel):
    """What is proposed."""

    initiator: uuid.UUID
    partner: uuid.UUID
    kind: str = Field(pattern="^(TWINNING|COOPERATION|MEMORANDUM)$")
    title: str = Field(min_length=1, max_length=10_000)
    sectors: list[str] = Field(min_length=1, max_length=100)
    term_months: int = Field(ge=1, le=1_200)


class Caller(BaseModel):
    """Who calls."""

    subject: str
    tenant: uuid.UUID
    roles: list[str]


def caller(authorization: Annotated[str, Header()] = "") -> Caller:
    """The holder of the token."""
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), KEY, algorithms=["EdDSA"], audience="peer")
    except jwt.PyJWTError as error:
        raise HTTPException(401, "no valid token") from error
    return Caller(subject=claims["sub"], tenant=claims["tenant"], roles=claims["roles"])


@asynccontextmanager
async def lifespan(app):
    """Opens the pool of this worker."""
    app.state.engine = engine()
    app.state.sessions = async_sessionmaker(app.state.engine, expire_on_commit=False)
    yield
    await app.state.engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    """Whether this worker serves."""
    return {}


@app.post("/agreements", status_code=201)
async def propose(
    proposal: Proposal, who: Annotated[Caller, Depends(caller)], idempotency_key: Annotated[uuid.UUID, Header()]
):
    """Proposes an agreement, once for each idempotency key."""
    if not {"mayor", "ir_officer"} & set(who.roles):
        raise HTTPException(403, "your role does not permit this")
    fingerprint = hashlib.sha256(proposal.model_dump_json().encode()).digest()
    try:
        async with app.state.sessions.begin() as session:
            return await decide(session, proposal, who, idempotency_key, fingerprint)
    except IntegrityError as error:
        # The same key at the same moment: the other one was first.
        async with app.state.sessions() as session:
            if done := await session.get(Request, (who.tenant, idempotency_key)):
                return repeated(done, fingerprint)
        raise HTTPException(409, "try again") from error


def repeated(done, fingerprint):
    """The first answer to a request that comes again."""
    if done.fingerprint != fingerprint:
        raise HTTPException(422, "this key was used for another request")
    return done.answer


async def decide(session, proposal, who, key, fingerprint):
    """Checks the rules and writes what follows, in the session's transaction."""
    if done := await session.get(Request, (who.tenant, key)):
        return repeated(done, fingerprint)
    found = await session.scalars(select(City).where(City.id.in_([proposal.initiator, proposal.partner])))
    cities = {city.id: city for city in found}
    if len(cities) != 2:
        raise HTTPException(404, "there is no such city")
    if cities[proposal.initiator].tenant != who.tenant:
        raise HTTPException(403, "a city proposes in its own name alone")
    if cities[proposal.partner].tenant == who.tenant:
        raise HTTPException(409, "one tenant cannot act for both sides")
    now, id, message = datetime.datetime.now(), uuid.uuid4(), uuid.uuid4()
    terms = proposal.model_dump(mode="json")
    answer = {"id": str(id), "version": 1, "status": "PROPOSED", "terms": terms, "created_at": now.isoformat()}
    change = {"agreement": str(id), "version": 1, "kind": "proposed", "terms": terms}
    session.add(Agreement(id=id, version=1, state=answer))
    await session.flush()
    session.add_all([
        Change(agreement=id, version=1, kind="proposed", actor=who.subject, at=now, payload=terms),
        Listed(agreement=id, initiator=proposal.initiator, partner=proposal.partner, status="PROPOSED", created_at=now),
        Request(tenant=who.tenant, id=key, fingerprint=fingerprint, answer=answer),
        Outbox(message=message, subject=f"agreements.{id}", payload=change),
    ])
    return answer
