"""Flower's settings, which it reads from here when it is started in the project's root."""

from __future__ import annotations

from settings import get_settings

_settings = get_settings()

address = _settings.bind
port = _settings.flower_port
basic_auth = [f"operator:{_settings.console_password}"]

# A view, not a lever: Flower's buttons have no protection against requests forged by another site.
read_only = True

# `routing_key` is the lane.
tasks_columns = "name,uuid,state,args,routing_key,received,started,runtime,worker"

# What Flower shows comes from Celery's events and is gone when Flower ends; what must last is in SQL.
persistent = False
max_tasks = 10_000
max_workers = 100
purge_offline_workers = 600
