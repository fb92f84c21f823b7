"""The product's web app with a listener at the protocol's steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.listener import install

if TYPE_CHECKING:
    from flask import Flask


def create_app() -> Flask:
    from web.app import create_app as create

    # It is gunicorn that would have to be woken up, which is not our child: so it is killed, never stopped.
    install(may_stop=False)
    return create()
