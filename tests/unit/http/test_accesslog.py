from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from support.requests import Scope, Transport
from support.waiting import eventually
from trow.access.identity import Identity
from trow.http.accesslog import AccessLog
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request
from trow.lib.logs import Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class File(Output):
    """Where lines go, to be read when all of them are there."""

    def __init__(self, path: Path, form: str) -> None:
        self._path = path
        self._file = path.open("wb")
        super().__init__(form, self._file.fileno())

    def content(self, log: AccessLog) -> bytes:
        log.flush()
        self.lines.close(30)
        return self._path.read_bytes()

    def close(self) -> None:
        self.lines.close(30)
        self._file.close()


@pytest.fixture(params=["json"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[File]:
    file = File(tmp_path / "log", request.param)
    yield file
    file.close()


for_people = pytest.mark.parametrize("output", ["text"], indirect=True)


def request(path: str = "/v2/", client: str = "192.0.2.1:1234", method: str = "GET") -> Request:
    return Request(Scope(method=method, path=path, client=client), Transport(), Peers(), Pace(1))


async def test_line_says_who_asked_what_and_how_it_went(output: File) -> None:
    log = AccessLog(output)
    asked = request("/v2/a/blobs/uploads/", "[2001:db8::1]:1234")
    asked.identity = Identity("alice")
    asked.received = 7
    log.request(asked, 201, 3, 0.5)
    (line,) = output.content(log).splitlines()
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


async def test_line_says_why_a_request_was_refused(output: File) -> None:
    log = AccessLog(output)
    asked = request("/v2/a/manifests/v1", method="HEAD")
    asked.refusal = "bob may not pull a: " + "x" * 5000
    log.request(asked, 403, 0, 0.5)
    assert json.loads(output.content(log))["reason"] == asked.refusal[:1024]


async def test_long_path_is_cut(output: File) -> None:
    log = AccessLog(output)
    log.request(request("/v2/" + "x" * 60_000), 404, 0, 0.5)
    line = output.content(log)
    assert b"x" * 1020 in line
    assert len(line) < 1500


@for_people
async def test_line_for_people(output: File) -> None:
    log = AccessLog(output)
    asked = request("/v2/a/blobs/uploads/", "[2001:db8::1]:1234", "POST")
    log.request(asked, 201, 3, 0.5)
    line = output.content(log).decode()
    _, _, rest = line.partition(" ")
    assert rest == (
        "INFO    POST /v2/a/blobs/uploads/ 201 client=2001:db8::1 user=- seconds=0.5 received=0 sent=3"
        f" request={asked.number}\n"
    )


PATHS = ['/"\\', "/\n/v2/", "/\x1b[31m", "/\x9b31m", "/\u202etxt", "/\u2028", "/\x7f", "/é"]


@pytest.mark.parametrize("path", PATHS)
async def test_no_path_makes_two_lines_or_commands_a_terminal(path: str, output: File) -> None:
    log = AccessLog(output)
    log.request(request(path), 404, 0, 0.0)
    written = output.content(log).decode()
    assert written.endswith("\n")
    assert written[:-1].isprintable()
    assert json.loads(written)["path"] == path


@for_people
@pytest.mark.parametrize("path", [*PATHS, "/ 200 client=192.0.2.9"])
async def test_no_path_makes_two_lines_for_people_or_pretends_to_be_more(path: str, output: File) -> None:
    log = AccessLog(output)
    log.request(request(path), 404, 0, 0.0)
    written = output.content(log).decode()
    assert written.endswith("\n")
    assert written[:-1].isprintable()
    assert (" /é 404 " in written) or (written.count('"') >= 2), written


async def test_lines_come_in_order_without_being_asked_for(output: File, tmp_path: Path) -> None:
    log = AccessLog(output)
    for number in range(100):
        log.request(request(f"/{number}"), 200, 0, 0.0)
    await eventually(lambda: (tmp_path / "log").read_bytes().count(b"\n") == 100)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [json.loads(line)["path"] for line in lines] == [f"/{n}" for n in range(100)]
    log.flush()


async def test_a_method_that_a_client_makes_up_is_cut(output: File) -> None:
    log = AccessLog(output)
    log.request(request(method="X" * 60_000), 405, 0, 0.0)
    line = json.loads(output.content(log))
    assert line["method"] == "X" * 32
