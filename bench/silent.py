"""Evergrant's own app without the events that Flower shows: ``celery -A bench.silent worker``."""

from __future__ import annotations

from workers.app import app

app.conf.worker_send_task_events = False
