"""The peer: one durable command, hand-written in common style with FastAPI, SQLAlchemy and PostgreSQL.

A city proposes an agreement. As in Hansa, the peer verifies the token, requires a role and checks the rules. One
transaction writes the agreement, a change for its history, the row of the list, the idempotency key with its answer,
and an outbox row that `relay.py` publishes to NATS. The peer has no chain, signatures, seals, `validate_only` or etags.
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

# Connections per worker.
POOL = 16
KEY = load_pem_public_key(os.environ["PEER_KEY"].encode()) if "PEER_KEY" in os.environ else None


class Base(DeclarativeBase):
    """The base class of all tables."""


class City(Base):
    """A city and the tenant that acts for it."""

    __tablename__ = "cities"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str]
    tenant: Mapped[uuid.UUID]


class Agreement(Base):
    """The current state of an agreement."""

    __tablename__ = "agreements"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    version: Mapped[int]
    state: Mapped[dict] = mapped_column(JSONB)


class Change(Base):
    """A change of an agreement."""

    __tablename__ = "changes"
    agreement: Mapped[uuid.UUID] = mapped_column(ForeignKey("agreements.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime.datetime] = mapped_column()
    payload: Mapped[dict] = mapped_column(JSONB)


class Listed(Base):
    """The columns that lists filter and sort by."""

    __tablename__ = "listed"
    agreement: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    initiator: Mapped[uuid.UUID]
    partner: Mapped[uuid.UUID]
    status: Mapped[str]
    created_at: Mapped[datetime.datetime]
    __table_args__ = (Index("listed_initiator", "initiator", "status"), Index("listed_partner", "partner", "status"))


class Request(Base):
    """An executed request, with its answer."""

    __tablename__ = "requests"
    tenant: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[dict] = mapped_column(JSONB)


class Outbox(Base):
    """A message that is not published yet."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    message: Mapped[uuid.UUID]
    subject: Mapped[str]
    payload: Mapped[dict] = mapped_column(JSONB)


class Inbox(Base):
    """A message that a subscriber has applied."""

    __tablename__ = "inbox"
    consumer: Mapped[str] = mapped_column(Text, primary_key=True)
    message: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    __table_args__ = (UniqueConstraint("consumer", "message"),)


class Tally(Base):
    """The projection of the subscriber: the number of agreements that a city has proposed."""

    __tablename__ = "tallies"
    city: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    proposed: Mapped[int]


def engine(pool=POOL):
    """Returns an engine with a connection pool."""
    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql+asyncpg://").split("?")[0]
    return create_async_engine(url, pool_size=pool, max_overflow=0)


class Proposal(BaseModel):
    """The body of a proposal."""

    initiator: uuid.UUID
    partner: uuid.UUID
    kind: str = Field(pattern="^(TWINNING|COOPERATION|MEMORANDUM)$")
    title: str = Field(min_length=1, max_length=10_000)
    sectors: list[str] = Field(min_length=1, max_length=100)
    term_months: int = Field(ge=1, le=1_200)


class Caller(BaseModel):
    """The caller of a request."""

    subject: str
    tenant: uuid.UUID
    roles: list[str]


def caller(authorization: Annotated[str, Header()] = "") -> Caller:
    """Returns the holder of the token."""
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), KEY, algorithms=["EdDSA"], audience="peer")
    except jwt.PyJWTError as error:
        raise HTTPException(401, "the token is not valid") from error
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
    """Answers if this worker serves."""
    return {}


@app.post("/agreements", status_code=201)
async def propose(
    proposal: Proposal, who: Annotated[Caller, Depends(caller)], idempotency_key: Annotated[uuid.UUID, Header()]
):
    """Proposes an agreement, once per idempotency key."""
    if not {"mayor", "ir_officer"} & set(who.roles):
        raise HTTPException(403, "the role of the caller does not permit this")
    fingerprint = hashlib.sha256(proposal.model_dump_json().encode()).digest()
    try:
        async with app.state.sessions.begin() as session:
            return await decide(session, proposal, who, idempotency_key, fingerprint)
    except IntegrityError as error:
        # A concurrent request with the same key was first.
        async with app.state.sessions() as session:
            if done := await session.get(Request, (who.tenant, idempotency_key)):
                return repeated(done, fingerprint)
        raise HTTPException(409, "a concurrent request was first: retry") from error


def repeated(done, fingerprint):
    """Returns the first answer to a replayed request."""
    if done.fingerprint != fingerprint:
        raise HTTPException(422, "another request has used this idempotency key")
    return done.answer


async def decide(session, proposal, who, key, fingerprint):
    """Checks the rules and writes all rows in the transaction of the session."""
    if done := await session.get(Request, (who.tenant, key)):
        return repeated(done, fingerprint)
    found = await session.scalars(select(City).where(City.id.in_([proposal.initiator, proposal.partner])))
    cities = {city.id: city for city in found}
    if len(cities) != 2:
        raise HTTPException(404, "a city was not found")
    if cities[proposal.initiator].tenant != who.tenant:
        raise HTTPException(403, "the caller does not act for the initiator")
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
