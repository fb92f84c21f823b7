"""``python -m sandbox``: see ``--help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.config import Config
from sandbox.server import PortTakenError, Server, listen


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns 1 when the port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A stand-in for Tesla, for trying and testing."
    )
    default = Config(home=Path("var/sandbox"))
    add = parser.add_argument
    add("--port", type=int, default=9000, help="0 picks a free one (default: %(default)s)")
    add("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--home", type=Path, default=default.home, help="state folder (default: %(default)s)")
    add(
        "--redirect-uri",
        action="append",
        help="a registered redirect URI, compared to the letter; may repeat",
    )
    add("--client-id", default=default.client_id, help="(default: %(default)s)")
    add("--client-secret", default=default.client_secret, help="empty: an app without a secret")
    add(
        "--token-seconds",
        type=int,
        default=default.token_seconds,
        help="life of an access token (default: %(default)s)",
    )
    add("--public-url", help="how browsers reach it (default: http://localhost:PORT)")
    add(
        "--strict",
        action="store_true",
        help="any use of a superseded refresh token revokes its family; no 24 h grace",
    )
    add(
        "--reuse-kills-lost-answer",
        action="store_true",
        help="the last used refresh token, used again, ends the token of the earlier answer",
    )
    add(
        "--grace-seconds",
        type=float,
        default=default.grace_seconds,
        help="how long the last used refresh token stays usable (default: 24 h)",
    )
    add(
        "--seed",
        type=int,
        default=default.seed,
        help="decides which calls a fault with a probability strikes",
    )
    add("--threads", type=int, default=64, help="calls at once, hanging ones included (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        listener = listen(given.bind, given.port)
    except PortTakenError as error:
        sys.stderr.write(f"{error} Choose another with --port.\n")
        return 1
    port = listener.getsockname()[1]
    config = Config(
        home=given.home,
        redirect_uris=tuple(given.redirect_uri or default.redirect_uris),
        client_id=given.client_id,
        client_secret=given.client_secret,
        public_url=(given.public_url or f"http://localhost:{port}").rstrip("/"),
        token_seconds=given.token_seconds,
        grace_seconds=given.grace_seconds,
        reuse_kills_lost_answer=given.reuse_kills_lost_answer,
        strict=given.strict,
        seed=given.seed,
    )
    sys.stdout.write(
        f"Sandbox, a stand-in for Tesla: {config.public_url} (listening on {given.bind}:{port})\n"
    )
    sys.stdout.flush()
    Server(config, listener, given.threads).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
