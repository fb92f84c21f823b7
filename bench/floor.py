"""The least that a refresh can be: a bare loop of the HTTP call, the two commits and the encryption.

``python -m bench.floor DATABASE COUNT`` prints how many CPU seconds the loop took in this process.
"""

from __future__ import annotations

import json
import secrets
import sys
import time

import psycopg
import requests
from sqlalchemy.engine import make_url

from bench.ground import CLIENT_ID, CLIENT_SECRET
from models.crypto import Keyring
from settings import get_settings

BEGIN = """
UPDATE grants SET attempt_id = %s, attempt_number = attempt_number + 1,
  attempt_started_at = statement_timestamp(), attempt_deadline = statement_timestamp() + interval '16 s'
WHERE owner = %s AND refresh_at <= statement_timestamp() RETURNING generation, refresh_token
"""
SETTLE = """
UPDATE grants SET generation = generation + 1, access_token = %s, refresh_token = %s,
  previous_refresh_token = %s, refreshed_at = statement_timestamp(),
  attempt_id = NULL, attempt_deadline = NULL,
  access_expires_at = statement_timestamp() + make_interval(secs => %s),
  refresh_at = statement_timestamp() + make_interval(secs => %s)
WHERE owner = %s AND attempt_id = %s
"""
EVENT = """
INSERT INTO events (at, owner, kind, generation, correlation_id)
VALUES (statement_timestamp(), %s, 'refreshed', %s, %s)
"""


def main() -> None:
    settings = get_settings()
    keyring = Keyring.parse(settings.keys)
    session = requests.Session()
    url = make_url(settings.database).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), prepare_threshold=0) as connection:
        due = connection.execute("SELECT owner FROM grants").fetchall()
        connection.commit()
        began = time.process_time()
        for (owner,) in due:
            attempt = secrets.token_hex(8)
            row = connection.execute(BEGIN, (attempt, owner)).fetchone()
            connection.commit()
            assert row is not None  # noqa: S101 - it is due
            generation, sealed = row
            token = keyring.open(sealed, owner=owner, column="refresh_token", generation=generation)
            form = {
                "grant_type": "refresh_token",
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "refresh_token": token,
            }
            answer = json.loads(session.post(settings.tesla_token_url, data=form, timeout=15).content)
            new = [
                keyring.seal(text, owner=owner, column=column, generation=generation + 1)
                for column, text in (
                    ("access_token", answer["access_token"]),
                    ("refresh_token", answer["refresh_token"]),
                    ("previous_refresh_token", token),
                )
            ]
            life = answer["expires_in"]
            connection.execute(SETTLE, (*new, life, life * 0.75, owner, attempt))
            connection.execute(EVENT, (owner, generation + 1, attempt))
            connection.commit()
        print(time.process_time() - began)  # noqa: T201 - for the bench
    sys.exit(0)


if __name__ == "__main__":
    main()
