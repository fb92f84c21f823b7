from __future__ import annotations

import io
import os
import pty
from typing import TYPE_CHECKING

import pytest

from evergrant.console import Log, handle, listen, readiness
from tests.evergrant.running import free_ports

if TYPE_CHECKING:
    from pathlib import Path


class Paper:
    """A log on a file, and what is on it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self.log = Log(self._file.fileno(), colour=False)

    def lines(self) -> list[str]:
        self._file.seek(0)
        return self._file.read().decode().splitlines()


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    return Paper(tmp_path / "paper")


def test_a_partial_line_waits_for_its_end(paper: Paper) -> None:
    paper.log.feed("web", "one\ntw")
    paper.log.feed("worker", "three\n")
    paper.log.feed("web", "o\n")
    assert paper.lines() == ["web       | one", "worker    | three", "web       | two"]


def test_a_partial_line_is_printed_when_its_process_ends(paper: Paper) -> None:
    paper.log.feed("web", "last words")
    handle(
        paper.log,
        {"eventname": "PROCESS_STATE_EXITED"},
        "processname:web groupname:services pid:7 expected:0",
    )
    assert paper.lines() == [
        "web       | last words",
        "evergrant | web ended by itself; it is started again at once.",
    ]


def test_an_endless_line_is_printed_in_pieces(paper: Paper) -> None:
    for _ in range(10):
        paper.log.feed("web", "x" * 30_000)
    assert sum(len(line) for line in paper.lines()) > 150_000


def test_bytes_that_are_no_text_are_printed(paper: Paper) -> None:
    header = {"eventname": "PROCESS_LOG_STDOUT"}
    # What supervisor sends when a read ended within a character.
    cut = repr(b"caf\xc3\n")
    handle(paper.log, header, f"processname:web groupname:g pid:7 channel:stdout\nUndecodable: {cut}")
    assert paper.lines() == ["web       | caf\N{REPLACEMENT CHARACTER}"]


def test_colour_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    try:
        Log(theirs, colour=True).feed("web", "hello\n")
        assert os.read(ours, 100) == b"\x1b[36mweb      \x1b[0m | hello\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Log(writer, colour=False).feed("web", "hello\n")
    os.close(writer)


def test_lengths_are_in_characters(paper: Paper, tmp_path: Path) -> None:
    events = ""
    for text in ("é…\n", "next\n"):
        payload = f"processname:web groupname:g pid:7 channel:stdout\n{text}"
        events += f"ver:3.0 serial:1 eventname:PROCESS_LOG_STDOUT len:{len(payload)}\n"
        events += payload
    (tmp_path / "events").write_text(events)
    answers = io.StringIO()
    with (tmp_path / "events").open(encoding="utf-8", newline="\n") as stream:
        listen(paper.log, stream, answers)
    assert paper.lines() == ["web       | é…", "web       | next"]
    assert answers.getvalue() == "READY\nRESULT 2\nOK" * 2 + "READY\n"


def test_nothing_listens() -> None:
    (port,) = free_ports(1)
    assert readiness("127.0.0.1", port) == 0
