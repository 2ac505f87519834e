"""Whoever reads the log may be slow, stuck or gone, and so may its disk: nobody else notices."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

import pytest

from support.client import WireClient
from support.numbers import fresh
from support.server import STOP_SECONDS, Trow, listening
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# More than a pipe and what may wait for it hold: 64 KiB and 4 MiB. A path is cut at 1024 characters.
REQUESTS: Final = 5000
LONG: Final = "/" + "x" * 1000
# Far less than the 30 s that requests in flight are given.
SOON: Final = 10


@contextlib.contextmanager
def started(tmp_path: Path, stderr: int, *flags: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), *flags]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, encoding="utf-8")
    try:
        yield process
    finally:
        process.kill()
        process.wait(STOP_SECONDS)
        if process.stdout:
            process.stdout.close()


def host_of(process: subprocess.Popen[str], tmp_path: Path) -> str:
    (tmp_path / "none").touch()
    return listening(process, tmp_path / "none").partition("://")[2]


def ask_often(client: WireClient, count: int = REQUESTS) -> None:
    for _ in range(count):
        assert client.ask("GET", LONG).status == 404


def dropped(client: WireClient) -> int:
    text = fresh(lambda: client.ask("GET", "/metrics").body)
    found = re.search(r"^trow_log_lines_dropped_total (\S+)$", text, re.MULTILINE)
    assert found
    return int(float(found[1]))


def lines_of(content: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in content.splitlines()]


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(SOON) == 0


def test_a_pipe_that_nobody_reads_stops_neither_answers_nor_the_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with started(tmp_path, writing) as process:
        os.close(writing)
        with WireClient(host_of(process, tmp_path)) as client:
            ask_often(client)
            assert dropped(client) > 0
            assert client.ask("GET", "/readyz").status == 200
            assert client.push_whole("read/by-nobody", b"content").status == 201
        end(process)
    os.close(reading)


def test_a_pipe_that_is_read_again_says_how_much_was_dropped(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with started(tmp_path, writing) as process:
        os.close(writing)
        content: list[bytes] = []

        def read() -> None:
            while some := os.read(reading, 65536):
                content.append(some)

        with WireClient(host_of(process, tmp_path)) as client:
            ask_often(client)
            lost = dropped(client)
            thread = threading.Thread(target=read)
            thread.start()
            until(lambda: b"log lines were dropped" in b"".join(content))
            assert client.ask("GET", "/after").status == 404
        end(process)
        thread.join(SOON)
    os.close(reading)
    lines = lines_of(b"".join(content))
    told = [line for line in lines if "log lines were dropped" in str(line["event"])]
    assert sum(int(str(line["count"])) for line in told) >= lost > 0
    assert told[0]["level"] == "warning"
    (after,) = (line for line in lines if line.get("path") == "/after")
    assert lines.index(told[0]) < lines.index(after)


def test_an_audit_record_on_a_pipe_that_nobody_reads_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    (tmp_path / "trow.yaml").write_text('{"audit": {"stdout": true}}', "utf-8")
    flags = ("--config", str(tmp_path / "trow.yaml"))
    with (tmp_path / "log").open("wb") as log, started(tmp_path, log.fileno(), *flags, stdout=writing) as process:
        os.close(writing)
        with os.fdopen(os.dup(reading), encoding="utf-8") as banner:
            host = next(line for line in banner if "listening" in line).split("://")[1].strip()
        with WireClient(host) as client:
            for number in range(200):
                assert client.push_whole(f"read/{'by-nobody-' * 20}{number}", b"content").status == 201
                assert client.ask("DELETE", f"/v2/read/{'by-nobody-' * 20}{number}/manifests/{'x' * 100}").status
        end(process)
    os.close(reading)


@pytest.mark.parametrize("where", ["/dev/full", "gone"])
def test_a_log_that_cannot_be_written_costs_its_lines_alone(where: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    log = writing if where == "gone" else os.open(where, os.O_WRONLY)
    with started(tmp_path, log) as process:
        os.close(reading)
        with WireClient(host_of(process, tmp_path)) as client:
            ask_often(client, 10)
            until(lambda: dropped(client) >= 10)
            assert client.push_whole("read/by-nobody", b"content").status == 201
        end(process)
    for fd in {writing, log}:
        os.close(fd)


# ---- a terminal


def on_a_terminal(tmp_path: Path, *flags: str, environment: Sequence[tuple[str, str]] = ()) -> str:
    """What a person sees who starts it, asks for one thing and ends it."""
    main, terminal = pty.openpty()
    shown: list[bytes] = []

    def look() -> None:
        with contextlib.suppress(OSError):  # the last one who writes is gone
            while some := os.read(main, 65536):
                shown.append(some)

    thread = threading.Thread(target=look)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment:
            patch.setenv(name, value)
        with started(tmp_path, terminal, *flags) as process:
            os.close(terminal)
            with WireClient(host_of(process, tmp_path)) as client:
                assert client.ask("GET", "/v2/%C2%9B31m%E2%80%AE/tags/list").status >= 400
            end(process)
    thread.join(SOON)
    os.close(main)
    return b"".join(shown).decode()


def test_a_person_on_a_terminal_gets_lines_to_read(tmp_path: Path) -> None:
    shown = on_a_terminal(tmp_path)
    assert re.search(r"Z \x1b\[36mINFO   \x1b\[0m stopping: finishing the requests in flight\r$", shown, re.MULTILINE)
    assert re.search(r' GET "/v2/\\x9b31m\\u202e/tags/list" 40\d client=127\.0\.0\.1 user=- seconds=\S+ ', shown)
    assert "\x9b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    ("flags", "environment"), [((), (("NO_COLOR", "1"),)), (("--log-format", "json"), ())], ids=["NO_COLOR", "json"]
)
def test_a_terminal_gets_no_colours_where_none_are_wanted(
    flags: tuple[str, ...], environment: tuple[tuple[str, str], ...], tmp_path: Path
) -> None:
    shown = on_a_terminal(tmp_path, *flags, environment=environment)
    assert "stopping" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.startswith("{") == bool(flags)


def test_text_can_be_had_elsewhere_without_colours(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--log-format", "text") as trow, WireClient(trow.host) as client:
        assert client.ask("GET", "/v2/").status == 200
    text = trow.stderr.read_text("utf-8")
    assert " INFO    GET /v2/ 200 client=127.0.0.1 " in text
    assert "\x1b" not in text
