"""REDIS_URL, as redis-py understands it and as Celery does.

``redis://``, ``rediss://`` (TLS) and ``unix://`` are redis-py's own, with its options in the query, e.g.
``rediss://:password@host:6379/0?ssl_ca_certs=/path/ca.pem``. Redis behind Sentinels is
``sentinel://:password@host1:26379,host2:26379/NAME``, where NAME is what the Sentinels call the master; its
query may have ``db``, ``ssl_ca_certs`` and the like, and ``sentinel_password`` where Sentinels ask for one.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

_REQUIREMENTS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def connect(url: str, **options: Any) -> Redis:
    """A client for this URL; `options` are redis-py's. It connects to nothing yet."""
    if not url.startswith("sentinel://"):
        return Redis.from_url(url, **options)
    place = _Sentinels(url)
    tls = {"ssl": True, **place.tls} if place.tls else {}
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        place.hosts, sentinel_kwargs=place.of_sentinels | tls | _times(options)
    )
    master: Redis = sentinels.master_for(place.master, db=place.db, **options, **place.login, **tls)
    return master


def hints(url: str) -> Redis:
    """The client for locks and the like. They are hints: one quick second try for a connection that a restart
    has cut, then go on without."""
    return connect(url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1))


def broker(url: str) -> dict[str, Any]:
    """The same place in Celery's settings."""
    if url.startswith("unix://"):
        path = url.removeprefix("unix://").replace("?db=", "?virtual_host=")
        return {"broker_url": f"redis+socket://{path}"}
    if url.startswith("sentinel://"):
        place = _Sentinels(url)
        found: dict[str, Any] = {
            "broker_url": ";".join(
                f"sentinel://{place.credentials}{host}:{port}/{place.db}" for host, port in place.hosts
            ),
            "broker_transport_options": {
                "master_name": place.master,
                "sentinel_kwargs": place.of_sentinels | ({"ssl": True, **place.tls} if place.tls else {}),
            },
        }
        return found | ({"broker_use_ssl": place.tls} if place.tls else {})
    split = urlsplit(url)
    if split.scheme != "rediss":
        return {"broker_url": url}
    query = dict(parse_qsl(split.query))
    others = urlencode({name: value for name, value in query.items() if not name.startswith("ssl_")})
    return {
        "broker_url": split._replace(query=others).geturl(),
        "broker_use_ssl": _ssl(query),
    }


def _ssl(query: dict[str, str]) -> dict[str, Any]:
    """The options of TLS, as both redis-py's connections and Celery take them."""
    given: dict[str, Any] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    given["ssl_cert_reqs"] = _REQUIREMENTS[given.get("ssl_cert_reqs", "required")]
    if "ssl_check_hostname" in given:
        given["ssl_check_hostname"] = given["ssl_check_hostname"].lower() in {"1", "true", "yes"}
    return given


def _times(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name.startswith("socket_")}


class _Sentinels:
    """The parts of a ``sentinel://`` URL."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        credentials, at, hosts = split.netloc.rpartition("@")
        self.credentials = credentials + at
        name, _, password = credentials.partition(":")
        self.login = {
            key: unquote(value) for key, value in (("username", name), ("password", password)) if value
        }
        self.hosts = [
            (host.rpartition(":")[0] or host, int(host.rpartition(":")[2]) if ":" in host else 26379)
            for host in hosts.split(",")
        ]
        self.master = split.path.strip("/") or "mymaster"
        query = dict(parse_qsl(split.query))
        self.db = int(query.get("db", "0"))
        self.of_sentinels: dict[str, Any] = (
            {"password": query["sentinel_password"]} if "sentinel_password" in query else {}
        )
        self.tls = _ssl(query) if any(name.startswith("ssl_") for name in query) else {}
