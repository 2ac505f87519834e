from __future__ import annotations

import asyncio
import io
import json
import threading
import time

import pytest

from support.requests import Scope, Transport
from trow.http import accesslog
from trow.http.accesslog import AccessLog
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request
from trow.policy.identity import Identity


def request(path: str = "/v2/", client: str = "192.0.2.1:1234") -> Request:
    return Request(Scope(path=path, client=client), Transport(), Peers(), Pace(1))


async def test_line_says_who_asked_what_and_how_it_went() -> None:
    stream = io.BytesIO()
    log = AccessLog(stream)
    asked = request("/v2/a/blobs/uploads/", "[2001:db8::1]:1234")
    asked.identity = Identity("alice")
    asked.received = 7
    log.request(asked, 201, 3, 0.5)
    log.close()
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert time.time() - 60 < record.pop("time") <= time.time()
    assert record == {
        "level": "info",
        "event": "request",
        "request": asked.number,
        "client": "2001:db8::1",
        "user": "alice",
        "method": "GET",
        "path": "/v2/a/blobs/uploads/",
        "status": 201,
        "received": 7,
        "sent": 3,
        "seconds": 0.5,
    }


@pytest.mark.parametrize("path", ['/"\\', "/\n/v2/", "/\x1b[31m", "/\u2028", "/é"])
async def test_no_path_makes_two_lines(path: str) -> None:
    stream = io.BytesIO()
    log = AccessLog(stream)
    log.request(request(path), 404, 0, 0.0)
    log.close()
    assert stream.getvalue().count(b"\n") == 1
    assert json.loads(stream.getvalue())["path"] == path
    assert b"\x1b" not in stream.getvalue()


async def test_lines_come_in_order_without_being_asked_for() -> None:
    loop, written = asyncio.get_running_loop(), asyncio.Event()

    class Stream(io.BytesIO):
        def flush(self) -> None:
            loop.call_soon_threadsafe(written.set)

    stream = Stream()
    log = AccessLog(stream)
    for number in range(100):
        log.request(request(f"/{number}"), 200, 0, 0.0)
    await written.wait()
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == [f"/{n}" for n in range(100)]
    log.close()


async def test_slow_reader_costs_lines_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesslog, "_MOST_WAITING", 3)
    reading = threading.Event()

    class Stuck(io.BytesIO):
        def write(self, data: object) -> int:
            reading.wait(30)
            return super().write(data)  # type: ignore[arg-type]

    stream = Stuck()
    log = AccessLog(stream)
    for number in range(50):
        log.request(request(f"/{number}"), 200, 0, 0.0)
        log._flush()  # noqa: SLF001 - the timer's call, at once
    reading.set()
    log.close()
    assert 3 <= len(stream.getvalue().splitlines()) <= 4
