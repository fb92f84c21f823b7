"""What listens at the protocol's steps inside a worker or the web app: it notes them, and carries out orders.

A line of the note: monotonic clock (ns), process id, thread id, step, owner, the attempt's id (or the
sign-in's) and the SHA-256 of the refresh token that its answer brought (where there is an answer; never a
token), and an order's name when it is carried out right behind this line. The monotonic clock is the
machine's: all processes share it.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.orders import KILL, STOP, Orders
from workers import steps
from workers.escrow import Escrow
from workers.steps import Step

if TYPE_CHECKING:
    from models.answers import Answer
    from models.consent import SignIn
    from tests.chaos.orders import Order

FOLDER, NAME = "CHAOS_FOLDER", "CHAOS_NAME"
_WITH_ANSWER = {Step.ANSWERED, Step.SETTLED, Step.ESCROWED}


def install(*, may_stop: bool) -> None:
    """Listens in this process. The environment names the folder and what the process is called."""
    folder = Path(os.environ[FOLDER])
    orders = Orders(folder / "orders")
    notes = folder / "steps"
    notes.mkdir(parents=True, exist_ok=True)
    note = os.open(notes / f"{os.environ[NAME]}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    actions = (KILL, STOP) if may_stop else (KILL,)

    def write(step: Step, owner: str, answer: Answer | SignIn | None, order: Order | None) -> None:
        attempt = answer.correlation_id if answer else "-"
        token = hashlib.sha256(answer.refresh_token.encode()).hexdigest() if answer else "-"
        line = (
            f"{time.monotonic_ns()} {os.getpid()} {threading.get_ident()} {step.value} {owner} {attempt} "
            f"{token} {order.name if order else '-'}\n"
        )
        os.write(note, line.encode())

    def listen(step: Step, owner: str) -> None:
        # The answer that the protocol holds at this step is a local variable of the function that called.
        answer = sys._getframe(2).f_locals["answer"] if step in _WITH_ANSWER else None
        order = orders.take(step.value, actions)
        write(step, owner, answer, order)
        if order is not None:
            os.kill(os.getpid(), signal.SIGKILL if order.action == KILL else signal.SIGSTOP)

    steps.listener = listen
    put = Escrow.put

    def put_and_note(escrow: Escrow, answer: Answer | SignIn) -> bool:
        # The drain puts answers there as well that SQL is slow to take, which is no step of theirs.
        on_disk = put(escrow, answer)
        write(Step.ESCROWED, answer.owner, answer, None)
        return on_disk

    setattr(Escrow, "put", put_and_note)  # noqa: B010 - mypy has no word for a method that is replaced
