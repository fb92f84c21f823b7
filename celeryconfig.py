"""Celery's settings; each that differs from Celery's default says why."""

import warnings

from celery.platforms import SecurityWarning
from kombu import Exchange, Queue

from settings import get_settings
from workers.lanes import all_lanes
from workers.redis_url import broker

_settings = get_settings()

# It warns of pickled messages, which whoever reaches the broker could make root run. Ours are JSON.
accept_content = ["json"]
warnings.filterwarnings("ignore", category=SecurityWarning)

_broker = broker(_settings.redis)
broker_url = _broker["broker_url"]
broker_use_ssl = _broker.get("broker_use_ssl")
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # never give up on a lost broker; the default gives up after an hour
broker_transport_options = _broker.get("broker_transport_options", {}) | {
    "priority_steps": [0],  # no priorities: one Redis list a queue instead of four
    "socket_timeout": 10,  # a broker that went silent is noticed
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "retry_on_timeout": True,
}

# Results are rows of the token table; what a task returns is for Flower, in its event.
task_ignore_result = True
result_backend = None

# Refreshing is waiting for Tesla: threads wait cheaply, in one process. The HTTP deadline is kept by the
# call itself, since this pool can't interrupt a task.
worker_pool = "threads"
worker_concurrency = _settings.worker_concurrency
worker_prefetch_multiplier = 1

_refresh = Exchange("refresh", type="direct")
task_queues = [
    Queue("sweep", Exchange("sweep", type="direct"), routing_key="sweep"),
    Queue("webhooks", Exchange("webhooks", type="direct"), routing_key="webhooks"),
    *(Queue(lane, _refresh, routing_key=lane) for lane in all_lanes(_settings.lanes)),
]
task_default_queue = "sweep"
worker_direct = True  # a queue of each worker's own, for its heartbeat
task_create_missing_queues = False

beat_scheduler = "celery.beat:Scheduler"  # nothing worth a file
beat_schedule = {
    "sweep": {
        "task": "workers.sweep",
        "schedule": _settings.sweep_seconds,
        # No `expires`, though a sweep that waited in a queue is worthless: a worker would hold it against its
        # own clock, and one that is ahead would throw all away. The task itself sees what is superfluous.
        "options": {"queue": "sweep"},
    },
    "survey": {"task": "workers.survey", "schedule": 10.0, "options": {"queue": "sweep"}},
}

# What Flower shows. Not that a task was sent: that event costs as much as the task itself, and all it adds is
# the lane, which flowerconfig.py tells from the owner.
worker_send_task_events = True
task_send_sent_event = False

worker_hijack_root_logger = True
worker_log_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
worker_task_log_format = "%(asctime)s %(levelname)s %(name)s [%(task_id)s]: %(message)s"
beat_max_loop_interval = 5
