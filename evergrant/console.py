"""The one log of `make up`: each line with the name of the process that wrote it.

A supervisor event listener (http://supervisord.org/events.html): events come on stdin, one at a time, each
answered on stdout. What it prints goes to the terminal's descriptor, which the manager hands it as its last
argument. It also says where everything is once `/readyz` answers 200. It imports little, to stay small.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

# The 6 colours that are legible on a dark and on a light ground; a process keeps its own.
COLOURS = {"web": 36, "worker": 32, "beat": 34, "flower": 35, "sandbox": 33, "valkey": 31}
PROGRAM = "console"
"""Its name among the manager's programs."""
OWN_NAME = "evergrant"
LONGEST_LINE = 64 * 1024
"""A line that is longer is printed in pieces, characters."""
POLL_SECONDS = 0.1
SLOW_SECONDS = 20
QUIET_SECONDS = 0.3
"""At the end, the log is complete when nothing came for so long."""


class Log:
    """Turns pieces of output into whole lines with names, and writes them to the terminal."""

    def __init__(self, terminal: int, *, colour: bool) -> None:
        self._terminal = terminal
        self._colour = colour
        self._rest: dict[str, str] = {}
        self._lock = threading.Lock()

    def feed(self, name: str, text: str) -> None:
        """Print the lines that are whole with `text`; what is left waits for its end."""
        *lines, rest = (self._rest.get(name, "") + text).split("\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest = ""
        self._rest[name] = rest
        self._print(name, lines)

    def end(self, name: str) -> None:
        """Print what waits, because the process that wrote it has ended."""
        if rest := self._rest.pop(name, ""):
            self._print(name, [rest])

    def say(self, sentence: str) -> None:
        """Print a line of Evergrant's own."""
        self._print(OWN_NAME, [sentence])

    def show(self, text: str) -> None:
        """Print `text` as it is."""
        self._write(text)

    def _print(self, name: str, lines: list[str]) -> None:
        if not lines:
            return
        shown = f"{name:<9}"
        if self._colour:
            shown = f"\033[{COLOURS.get(name, 1)}m{shown}\033[0m"
        self._write("".join(f"{shown} | {line.rstrip()}\n" for line in lines))

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        with self._lock:
            while data:
                try:
                    data = data[os.write(self._terminal, data) :]
                except BlockingIOError:  # somebody else made the terminal non-blocking
                    select.select([], [self._terminal], [], 1)
                except OSError:  # nobody reads any more; the processes go on
                    return


def handle(log: Log, header: dict[str, str], payload: str) -> None:
    """Act on one of supervisor's events."""
    event = header["eventname"]
    first, _, text = payload.partition("\n")
    about = dict(pair.split(":", 1) for pair in first.split())
    name = about.get("processname", "")
    if event.startswith("PROCESS_LOG"):
        log.feed(name, _decoded(text))
    elif event in {"PROCESS_STATE_EXITED", "PROCESS_STATE_BACKOFF"}:
        log.end(name)
        again = "at once" if event == "PROCESS_STATE_EXITED" else "in a moment"
        log.say(f"{name} ended by itself; it is started again {again}.")
    elif event == "PROCESS_STATE_STOPPED":
        log.end(name)
    elif event == "SUPERVISOR_STATE_CHANGE_STOPPING":
        log.say("Stopping: attempts in flight may end.")


def _decoded(text: str) -> str:
    """supervisor passes bytes on as their repr when they begin or end within a character."""
    prefix = "Undecodable: "
    if text.startswith((prefix + "b'", prefix + 'b"')):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(text.removeprefix(prefix))
            if isinstance(value, bytes):
                return value.decode(errors="replace")
    return text


def listen(log: Log, events: TextIO, answers: TextIO) -> None:
    """Handle events until told to end, and then until none has come for a moment."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    while True:
        answers.write("READY\n")
        answers.flush()
        # One event at a time is sent, so nothing waits in the text stream's own buffer.
        while not select.select([events], [], [], QUIET_SECONDS)[0]:
            if ending.is_set():
                return
        line = events.readline()
        if not line:
            return
        header = dict(pair.split(":", 1) for pair in line.split())
        payload = events.read(int(header["len"]))
        try:
            handle(log, header, payload)
        finally:
            answers.write("RESULT 2\nOK")
            answers.flush()


def announce(log: Log, *, host: str, port: int, banner: str) -> None:
    """Wait until the web app calls itself ready, and say so."""
    began, told = time.monotonic(), False
    while True:
        status = readiness(host, port)
        if status == 200:
            log.show(banner)
            return
        if not told and time.monotonic() - began > SLOW_SECONDS:
            told = True
            log.say(
                f"Not ready after {SLOW_SECONDS} s: /readyz answers {status}."
                if status
                else f"The web app does not answer after {SLOW_SECONDS} s; its lines above say why."
            )
        time.sleep(POLL_SECONDS if not told else 1)


def readiness(host: str, port: int) -> int:
    """The status of `/readyz`, 0 where nothing answers. Without http.client, which brings OpenSSL with it."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return int(connection.makefile("rb").readline(200).split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def main() -> None:
    """Run as the event listener that `evergrant.programs` sets up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--banner", type=Path, required=True)
    parser.add_argument("--password", type=Path)
    parser.add_argument("--web", nargs=2, required=True)
    parser.add_argument("--terminal", type=int, required=True)
    given = parser.parse_args()
    colour = os.isatty(given.terminal) and not os.environ.get("NO_COLOR")
    log = Log(given.terminal, colour=colour)
    banner = given.banner.read_text()
    if given.password is not None:
        banner = banner.replace("{password}", given.password.read_text().strip())
    threading.Thread(
        target=announce,
        kwargs={"log": log, "host": given.web[0], "port": int(given.web[1]), "banner": banner},
        daemon=True,
    ).start()
    # supervisor counts an event's length in characters, of text that it sends as UTF-8.
    with open(0, encoding="utf-8", newline="\n", closefd=False) as events:
        listen(log, events, sys.stdout)
    log.say("Stopped.")


if __name__ == "__main__":
    main()
