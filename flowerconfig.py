"""Flower's settings, which it reads from here when it is started in the project's root."""

from __future__ import annotations

from ast import literal_eval
from logging import ERROR, getLogger
from typing import Any

from settings import get_settings
from workers.lanes import lane

_settings = get_settings()

address = _settings.bind
port = _settings.flower_port
# It asks workers before they are up, and says so in four lines; who is up shows on the page.
getLogger("flower.inspector").setLevel(ERROR)
basic_auth = [f"operator:{_settings.console_password}"]

# A view, not a lever: Flower's buttons have no protection against requests forged by another site.
read_only = True


def format_task(task: Any) -> Any:
    """The task as its row shows it: `routing_key` is the lane.

    Celery tells the routing key only in an event of the sender's, which costs as much as the task's own
    message; the lane follows from the owner.
    """
    if task.name == "workers.refresh" and not task.routing_key:
        try:
            (owner,) = literal_eval(task.args)
        except (ValueError, SyntaxError, TypeError):
            return task
        task.routing_key = lane(str(owner), _settings.lanes)
    return task


tasks_columns = "name,uuid,state,args,routing_key,received,started,runtime,worker"

# What Flower shows comes from Celery's events and is gone when Flower ends; what must last is in SQL.
persistent = False
max_tasks = 5_000  # 8 kB each
max_workers = 100
purge_offline_workers = 600
