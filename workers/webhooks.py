"""Delivers webhooks: signed by the Standard Webhooks convention, at least once each, in no promised order.

The sweep claims the endpoints for which something is due and sends a `workers.deliver` task for each. The
task hands over to a thread of its own, so that a slow receiver keeps no refresh waiting; the claims bound
how many there are. Who is killed leaves a claim that runs out, and what was under way is sent again.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from fleet.deadline import Deadline
from fleet.errors import retry_after
from fleet.transport import NotSent, OutcomeUnknown, call, session
from models import webhooks
from models.crypto import Unopenable
from models.events import Kind, record
from workers.refresh import cause_of

if TYPE_CHECKING:
    from threading import Event

    from fleet.transport import Answer
    from models.webhooks import Delivery, Endpoint
    from workers.parts import Parts

log = logging.getLogger(__name__)

SLOTS = 8
"""So many endpoints have their turn at once, all workers together."""

AT_ONCE = 4
"""So many messages are under way to one endpoint at once."""

TURN, CLAIM = 2, 4
"""How long an endpoint's turn and its claim last, in times of what one call may take: the last call of a turn
ends before the claim does."""

LONGEST_WAIT = 6 * 3600.0
LIMIT = 4096
"""Bytes of an answer that are read: nothing in it is of interest."""


# --- where to -----------------------------------------------------------------------------------------

_NAT64 = IPv6Network("64:ff9b::/96")
_AZURE = ip_address("168.63.129.16")
"""A cloud's own service for its machines, at an address that looks public."""


class Places:
    """Which addresses may be called: public ones, and those in `networks` (WEBHOOK_NETWORKS)."""

    def __init__(self, networks: str) -> None:
        self._networks = [ip_network(network.strip()) for network in filter(None, networks.split(","))]

    def is_ours(self, address: str) -> bool:
        """Whether it is in one of the private networks that are allowed."""
        found = ip_address(address.partition("%")[0])
        return any(found in network for network in self._networks)

    def admits(self, address: str) -> bool:
        """Whether https may go there."""
        return self.is_ours(address) or _is_public(address)

    def refusal(self, url: str) -> str | None:
        """Why no webhook may be sent to this URL, and what to do about it; None when one may, as far as can
        be told before a name is looked up."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in {"http", "https"} or parts.username or len(url) > 2000:
            return "The URL must look like https://example.com/webhooks."
        allow = "allow its network with WEBHOOK_NETWORKS, e.g. WEBHOOK_NETWORKS=192.168.1.0/24"
        if parts.scheme == "http" and not self._networks:
            return f"Webhooks go over https. For a receiver in a private network of yours, {allow}."
        try:
            admitted = self.admits(host) if parts.scheme == "https" else self.is_ours(host)
        except ValueError:  # a name
            return None
        if admitted:
            return None
        if parts.scheme == "http":
            return f"Over http webhooks go into allowed networks only. Use https, or {allow}."
        return f"{host} is an address of a private network. If it is yours, {allow}."


def _is_public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        # An IPv4 address in an IPv6 one's clothes is judged as what it is.
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(str(inner))
    return found.is_global and not found.is_multicast and found != _AZURE


# --- what is sent -------------------------------------------------------------------------------------


def body(delivery: Delivery, public_url: str) -> str:
    """The message, as JSON: `type`, `timestamp` and `data`, the same however often it is sent."""
    cause = cause_of(delivery.reason or "")
    data: dict[str, Any] = {
        "owner": delivery.owner,
        "reason": delivery.reason,
        "title": cause and cause.title,
        "repair": cause and cause.repair,
        "detail": delivery.detail,
        "generation": delivery.generation,
        "correlation_id": delivery.correlation_id,
        "ends_at": delivery.ends_at and _exact(delivery.ends_at),
        "reconnect_url": f"{public_url}/signin" if delivery.type in _RECONNECT else None,
    }
    return json.dumps(
        {
            "type": delivery.type,
            "timestamp": _exact(delivery.at),
            "data": {name: value for name, value in data.items() if value is not None},
        }
    )


_RECONNECT = {"grant.needs_consent", "grant.ending"}


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one call: `status` is None when there was no answer, `error` says in words why it is not
    good."""

    status: int | None
    error: str = ""
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Deliverer:
    """Sends what is due. Each method that uses SQL raises SQLAlchemy's errors."""

    def __init__(self, parts: Parts) -> None:
        settings = parts.settings
        self._database = parts.database
        self._keyring = parts.keyring
        self._public_url = settings.public_url
        self._seconds = settings.webhook_deadline
        self._first_wait = settings.webhook_first_wait
        self._patience = settings.webhook_days * 24 * 3600
        self.places = Places(settings.webhook_networks)
        self._sessions = {
            "https": session(pool_size=AT_ONCE, admits=self.places.admits),
            "http": session(pool_size=AT_ONCE, admits=self.places.is_ours),
        }

    def claim(self) -> list[tuple[str, str]]:
        """The endpoints whose turn it is, each with its claim; each is for one call of `turn`."""
        with self._database.write() as connection:
            webhooks.purge(connection)
            return webhooks.claim_due(connection, slots=SLOTS, seconds=CLAIM * self._seconds)

    def turn(self, endpoint: str, claim: str, stopping: Event) -> None:
        """Sends what is due for this endpoint until nothing is, its turn is over or it does not take it."""
        over = Deadline(TURN * self._seconds)
        try:
            going = True
            while going and not over.passed and not stopping.is_set():
                with self._database.read() as connection:
                    to, batch = webhooks.take(connection, endpoint, claim, AT_ONCE)
                going = bool(batch) and all(self._at_once(to, batch))
            with self._database.write() as connection:
                webhooks.release(connection, endpoint, claim)
        except LookupError:
            return  # another has its turn, or it is gone
        except SQLAlchemyError as away:
            log.warning("webhooks wait: SQL can't be reached (%s)", type(away).__name__)

    def _at_once(self, to: Endpoint, batch: list[Delivery]) -> list[bool]:
        """Sends all of a batch at the same time; which of them were taken."""
        taken = [False] * len(batch)

        def send(place: int) -> None:
            try:
                taken[place] = self._deliver(to, batch[place])
            except SQLAlchemyError as away:
                # It may have been taken, and is sent again.
                log.warning("a webhook's end was not stored: SQL can't be reached (%s)", type(away).__name__)

        # Not a pool's threads, which a process that ends would wait for.
        threads = [threading.Thread(target=send, args=(at,), daemon=True) for at in range(len(batch))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return taken

    def _deliver(self, to: Endpoint, delivery: Delivery) -> bool:
        reply = self.send(to, delivery.message, body(delivery, self._public_url))
        with self._database.write() as connection:
            if reply.good:
                webhooks.delivered(connection, to, delivery, reply.status or 0)
                return True
            if reply.status == 410:
                off = webhooks.gone(connection, to, delivery, status=410, error=reply.error)
                why = "it answered that it is gone (HTTP 410)"
            else:
                off = webhooks.failed(
                    connection,
                    to,
                    delivery,
                    status=reply.status,
                    error=reply.error,
                    retry_in=self._wait(delivery.attempts, reply.retry_after),
                    patience=self._patience,
                )
                why = f"nothing came through for days, last: {reply.error}"
            if off:
                record(
                    connection,
                    Kind.WEBHOOKS_OFF,
                    reason="webhooks_off",
                    detail=f"Webhooks to {host(to.url)} ({to.id}) are turned off: {why}. Repair it, then "
                    "`evergrant webhooks replay` turns it on and sends what it has missed.",
                )
        log.log(
            logging.ERROR if off else logging.WARNING,
            "webhook %s to %s was not taken: %s%s",
            delivery.message,
            to.id,
            reply.error,
            "; the endpoint is turned off" if off else "",
        )
        return False

    def test(self, to: Endpoint) -> Reply:
        """Sends a message that tells of nothing."""
        text = json.dumps(
            {"type": "webhook.test", "timestamp": _exact(to.read_at), "data": {"endpoint": to.id}}
        )
        return self.send(to, f"msg_{secrets.token_hex(12)}", text)

    def send(self, to: Endpoint, message: str, text: str) -> Reply:
        """One signed call, whatever is due."""
        if (refusal := self.places.refusal(to.url)) is not None:
            return Reply(None, refusal)
        try:
            headers = sign(to.secrets(self._keyring), message, to.read_at, text)
        except Unopenable as error:
            return Reply(None, f"its secret does not open: {error}")
        try:
            answer = call(
                self._sessions[urlsplit(to.url).scheme],
                "POST",
                to.url,
                deadline=Deadline(self._seconds),
                headers=headers,
                data=text,
                limit=LIMIT,
            )
        except NotSent as error:
            return Reply(None, str(error))
        except OutcomeUnknown as error:
            # What follows a status that is good does not matter.
            return Reply(error.status, str(error))
        return Reply(answer.status, _words(answer), retry_after(answer.headers))

    def _wait(self, attempts: int, asked: float | None) -> float:
        """Seconds until the next try: exponential, with jitter so that endpoints drift apart."""
        ceiling = min(self._first_wait * 2 ** min(attempts, 30), LONGEST_WAIT)
        return max(random.uniform(ceiling / 2, ceiling), asked or 0)  # noqa: S311 - jitter


def sign(keys: list[str], message: str, at: datetime, text: str) -> dict[str, str]:
    """The headers of the Standard Webhooks convention; each secret signs."""
    # The time is the database's, like all others; that of the call itself is at most a turn later.
    return {
        "Content-Type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(message, at, text) for secret in keys),
    }


def _words(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"HTTP {answer.status}: redirects are not followed"
    return f"HTTP {answer.status}"


def host(url: str) -> str:
    """Whom a URL is about, without what may be secret in it."""
    return urlsplit(url).hostname or "?"
