"""How a fault's answer gets to the client: whole, late, in drips, cut off, or not at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flask import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.faults import Answer
    from sandbox.wire import Wire


def deliver(answer: Answer, wire: Wire, *, ahead: Callable[[], None] = lambda: None) -> tuple[Response, bool]:
    """Sends a fault's answer; returns what is left for the server to send, and whether the client was there
    to the end. `ahead` is called before the client can have read it all.

    After a delivery on the bare wire the connection is over: what the server then sends goes nowhere."""
    response = Response(answer.body, answer.status, content_type=answer.content_type)
    response.headers.extend(answer.headers)
    match answer.delivery:
        case "whole":
            return response, not wire.gone()
        case "hang":
            time.sleep(answer.seconds)
            ahead()
            wire.close()
        case "reset":
            ahead()
            wire.reset()
        case "cut":
            ahead()
            raw = _raw(response)
            wire.send(raw[: len(raw) - len(answer.body) // 2])
            wire.close()
        case "drip":
            received = wire.drip(_raw(response), answer.seconds, before_last=ahead)
            wire.close()
            return Response(status=503), received
    return Response(status=503), False


def _raw(response: Response) -> bytes:
    head = f"HTTP/1.1 {response.status}\r\n{response.headers}".removesuffix("\r\n")
    return head.encode("latin-1") + b"Connection: close\r\n\r\n" + response.get_data()
