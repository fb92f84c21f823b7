"""Webhooks of a whole Evergrant while its receiver and its worker are killed."""

from __future__ import annotations

import os
import secrets
import signal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select
from standardwebhooks import Webhook

from models import consent, webhooks
from models.crypto import Keyring
from models.session import Database
from models.webhooks import deliveries
from tests.evergrant.receiver import Receiver
from tests.evergrant.running import Running, free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


class Installation:
    def __init__(self, running: Running, receiver: Receiver) -> None:
        self.running = running
        self.receiver = receiver
        self.database = Database(f"sqlite:///{running.home / 'evergrant.db'}")
        self.keyring = Keyring.parse((running.home / "secrets" / "encryption_keys").read_text())
        with self.database.write() as connection:
            self.id, self.secret = webhooks.add(connection, self.keyring, receiver.url)

    def change(self, owner: str) -> None:
        """Something that the programs are told of."""
        consent.connect(
            self.database,
            self.keyring,
            owner=owner,
            access_token="access",
            refresh_token="refresh",
            expires_in=3600,
            due_in=3600,
            requested_scopes="openid",
            scopes="openid",
            region="NA",
            fleet_url="http://localhost/na",
            correlation_id=secrets.token_hex(8),
        )

    def told(self) -> set[str]:
        """The ids of all messages that were ever written."""
        with self.database.read() as connection:
            return set(connection.execute(select(deliveries.c.message)).scalars())

    def attempts(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.sum(deliveries.c.attempts))).scalar_one() or 0)

    def waiting(self) -> dict[str, int]:
        with self.database.read() as connection:
            return webhooks.waiting(connection)

    def until_all_arrived(self, count: int) -> None:
        wait_until(
            lambda: self.receiver.ids() == self.told() and len(self.told()) == count,
            seconds=60,
            what=f"{self.told()} at the receiver, which has {self.receiver.ids()}. {self.running.output}",
        )


@pytest.fixture
def installation(up: Callable[..., Running], tmp_path: Path) -> Iterator[Installation]:
    running = up(
        WEBHOOK_NETWORKS="127.0.0.0/8", WEBHOOK_FIRST_WAIT="0.5", WEBHOOK_DEADLINE="2", SWEEP_SECONDS="0.5"
    )
    running.wait_for_banner()
    receiver = Receiver(free_ports(1)[0], tmp_path)
    started = Installation(running, receiver)
    yield started
    started.database.close()
    receiver.kill()


def test_nothing_is_lost_while_the_receiver_is_dead(installation: Installation) -> None:
    installation.receiver.start()
    installation.change("ann")
    installation.until_all_arrived(1)
    installation.receiver.kill()
    installation.change("bob")
    wait_until(lambda: installation.attempts() >= 1 + 3, seconds=60, what="three tries at a dead receiver")
    installation.change("cat")
    installation.receiver.start()
    installation.until_all_arrived(3)
    for message in installation.receiver.received():
        assert Webhook(installation.secret).verify(message["body"], message["headers"])


def test_nothing_is_lost_when_the_worker_dies_between_the_change_and_the_delivery(
    installation: Installation,
) -> None:
    # One message is on its way, a second is written, and neither is delivered when the worker dies.
    installation.receiver.start("hang")
    installation.change("ann")
    wait_until(lambda: len(installation.receiver.ids()) == 1, seconds=30, what="a call that hangs")
    installation.change("bob")
    worker = installation.running.find("workers worker")
    os.kill(worker, signal.SIGKILL)
    installation.receiver.kill()
    with installation.database.read() as connection:
        states = set(connection.execute(select(deliveries.c.state)).scalars())
    assert states == {webhooks.WAITING}
    installation.receiver.start()
    installation.until_all_arrived(2)
    assert installation.running.find("workers worker") != worker
    wait_until(lambda: not installation.waiting(), seconds=30, what="all of it is noted as delivered")
