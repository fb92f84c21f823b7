"""What one would write from the documentations: redis-py's lock, Authlib's session, the ORM's row.

It keeps none of the protocol's promises: no attempt is written down, nothing is encrypted.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from authlib.integrations.requests_client import OAuth2Session
from celery import Celery
from redis import Redis
from redis.lock import Lock
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench.ground import CLIENT_ID, CLIENT_SECRET
from settings import get_settings
from workers.lanes import lane

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = Celery("by_the_book")
app.config_from_object("celeryconfig")
settings = get_settings()
redis = Redis.from_url(settings.redis)


class Base(DeclarativeBase):
    pass


class Token(Base):
    __tablename__ = "book_tokens"

    owner: Mapped[str] = mapped_column(primary_key=True)
    access_token: Mapped[str]
    refresh_token: Mapped[str]
    expires_at: Mapped[float] = mapped_column(index=True)


def make_engine() -> Engine:
    return create_engine(settings.database, pool_size=settings.worker_concurrency, pool_pre_ping=True)


engine = make_engine()


@app.task(name="book.refresh")
def refresh(owner: str) -> str:
    with Lock(redis, f"lock:{owner}", timeout=60, blocking_timeout=5), Session(engine) as session:
        token = session.get(Token, owner)
        if token is None or token.expires_at > time.time():
            return "fresh"
        client = OAuth2Session(CLIENT_ID, CLIENT_SECRET, token_endpoint_auth_method="client_secret_post")  # noqa: S106
        new = client.refresh_token(settings.tesla_token_url, refresh_token=token.refresh_token)
        token.access_token = new["access_token"]
        token.refresh_token = new["refresh_token"]
        token.expires_at = new["expires_at"]
        session.commit()
    return "refreshed"


@app.task(name="book.sweep")
def sweep() -> None:
    with Session(engine) as session:
        due = session.scalars(select(Token.owner).where(Token.expires_at <= time.time())).all()
    for owner in due:
        refresh.apply_async((owner,), queue=lane(owner, settings.lanes))


if __name__ == "__main__":  # makes its table
    Base.metadata.create_all(engine)
    print(os.getpid())  # noqa: T201
