"""Many clients, idle or worse: the others are served meanwhile, and those end."""

from __future__ import annotations

import contextlib
import json
import random
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import urllib3

from factories import OCI_INDEX, digest_of
from faults.process import memory
from support import http2
from support.crowd import HEALTH, Crowd, files_allowed, has_ended, healthy
from support.server import Trow
from support.waiting import until
from support.wire import Incoming, Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.wire import Answer

# Loopback addresses: each is a source of its own.
OTHERS, ANOTHER = "127.0.0.2", "127.0.0.3"
# Every limit small enough to be met within seconds.
HASTY: Final = {
    "limits": {
        "max_connections": 60,
        "max_connections_per_source": 40,
        "first_byte_timeout": "1s",
        "header_timeout": "2s",
        "idle_timeout": "4s",
        "send_timeout": "2s",
        "send_memory": "3MiB",
    }
}
LARGE: Final = 64 * 2**20
MIB: Final = 2**20


@pytest.fixture(scope="module")
def trow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with files_allowed(256):
        server = Trow.start(tmp_path_factory.mktemp("crowded"))
    with server:
        yield server


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with Trow.start(tmp_path_factory.mktemp("hasty"), config=HASTY) as server:
        yield server


# How many


FEW_FILES: Final = 1_024


@pytest.mark.parametrize("said", [b"", HEALTH], ids=["silent", "idle"])
def test_somebody_new_is_answered_where_files_are_few(few_files: Trow, said: bytes) -> None:
    """A hard limit cannot be raised. The watch needs no descriptor of its own to see who has to go, and to end them."""
    with Crowd(few_files.host, source=OTHERS) as crowd, Crowd(few_files.host, source=ANOTHER) as more:
        for each in (crowd, more):
            each.grow(750, said)
        until(lambda: served(few_files))
    until(lambda: served(few_files))


@pytest.mark.parametrize("files", [FEW_FILES, 256])
def test_somebody_new_is_told_to_come_later_while_slow_uploads_have_all_there_is(files: int, tmp_path: Path) -> None:
    """Each of them has a file beside its connection, and none of them may be ended for somebody else."""
    slow = request("POST", f"/v2/slow/app/blobs/uploads/?digest={digest_of(b'x')}", [("content-length", "10000000")])
    with Trow.start(tmp_path, files=files) as trow, contextlib.ExitStack() as crowds:
        with Wire(trow.host) as honest:
            assert honest.ask("GET", "/healthz").status == 200
            for source in (OTHERS, ANOTHER, "127.0.0.4"):
                growing(crowds.enter_context(Crowd(trow.host, source=source)), 150, slow + b"x" * 70_000)
            until(lambda: asked(trow, "/v2/").status == 503)
            for _ in range(50):
                answer = asked(trow, "/v2/")
                assert (answer.status, answer.header("retry-after").isdigit()) == (503, True)
                assert asked(trow, "/healthz").status == 200
            assert honest.ask("GET", "/healthz").status == 200
        assert b"Traceback" not in trow.stderr.read_bytes()


def growing(crowd: Crowd, count: int, said: bytes) -> None:
    """Let so many come, of whom some are turned away while they speak."""
    for _ in range(count):
        with contextlib.suppress(OSError):
            crowd.grow(1, said)


def asked(trow: Trow, path: str) -> Answer:
    """What somebody new is told, who has to be told something soon."""
    with Wire(trow.host) as wire:
        wire.socket.settimeout(3)
        return wire.ask("GET", path)


def test_somebody_new_is_answered_though_crowds_do_not_take_small_answers(tmp_path: Path) -> None:
    """The kernel keeps these, so that they need no place; those who have stalled for longest go."""
    with Trow.start(tmp_path, files=FEW_FILES) as trow, contextlib.ExitStack() as crowds:
        path = push(trow, "stalled/small", bytes(64_000))
        for source in (OTHERS, ANOTHER, "127.0.0.4"):
            crowd = crowds.enter_context(Crowd(trow.host, source=source, receive_buffer=4096))
            growing(crowd, 200, request("GET", path) * 3)
        until(lambda: served(trow), seconds=15)


def served(trow: Trow) -> bool:
    """Whether somebody who comes now is served at once."""
    with Wire(trow.host) as wire:
        wire.socket.settimeout(2)
        with contextlib.suppress(TimeoutError):
            return wire.ask("GET", "/healthz").status == 200
    return False


@pytest.fixture(scope="module")
def few_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with Trow.start(tmp_path_factory.mktemp("few"), files=FEW_FILES) as server:
        yield server


def test_as_many_files_are_used_as_the_system_gives(trow: Trow) -> None:
    lines = Path(f"/proc/{trow.process.pid}/limits").read_text(encoding="ascii").splitlines()
    (limits,) = [line.split()[3:5] for line in lines if line.startswith("Max open files")]
    assert limits[0] == limits[1] != "256"


def test_somebody_new_is_answered_while_two_thousand_are_idle(trow: Trow) -> None:
    with Crowd(trow.host) as crowd:
        crowd.grow(2_100, HEALTH)
        crowd.heard()
        assert healthy(trow.host)
        assert crowd.ended() == 0


def test_who_was_there_stays_when_strangers_come_in_crowds(hasty: Trow) -> None:
    with Wire(hasty.host) as honest, Crowd(hasty.host, source=OTHERS) as crowd:
        assert honest.ask("GET", "/healthz").status == 200
        crowd.grow(200)
        until(lambda: crowd.ended() >= 140)
        assert honest.ask("GET", "/healthz").status == 200
        assert healthy(hasty.host)


def test_one_source_has_its_share_and_no_more(hasty: Trow) -> None:
    with Crowd(hasty.host, source=OTHERS) as crowd, Crowd(hasty.host, source=ANOTHER) as few:
        few.grow(10, HEALTH)
        few.heard()
        crowd.grow(50, HEALTH)
        until(lambda: crowd.ended() == 10)
        assert few.ended() == 0


def test_what_has_something_to_do_stays_when_there_are_too_many(hasty: Trow) -> None:
    with Wire(hasty.host) as uploading, Crowd(hasty.host) as crowd:
        began = uploading.ask("POST", "/v2/busy/blobs/uploads/")
        uploading.send(request("PATCH", began.header("location"), [("content-length", "4")]) + b"ab")
        for _ in range(4):
            crowd.grow(30, HEALTH)
            until(lambda: len(crowd.members) - crowd.ended() <= 40)
        uploading.send(b"cd")
        assert uploading.answer("PATCH").status == 202


# How long


def test_a_connection_over_which_nothing_comes_ends(hasty: Trow) -> None:
    with Crowd(hasty.host) as crowd:
        began = time.monotonic()
        crowd.grow(5)
        until(lambda: crowd.ended() == 5)
        assert time.monotonic() - began >= 1


def test_a_connection_that_never_becomes_tls_ends(tmp_path: Path) -> None:
    with Trow.start(tmp_path, tls=True, config=HASTY) as trow, Crowd(trow.host) as crowd:
        crowd.grow(5)
        crowd.grow(5, b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello
        until(lambda: crowd.ended() == 10)
        context = ssl.create_default_context(cafile=trow.ca)
        with Wire(trow.host, context) as wire:
            assert wire.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("before", [b"", HEALTH], ids=["the first", "a later one"])
def test_headers_that_come_a_byte_now_and_then_have_an_end(hasty: Trow, before: bytes) -> None:
    with Wire(hasty.host) as wire:
        if before:
            wire.send(before)
            assert wire.answer().status == 200
        wire.send(b"GET /healthz HTTP/1.1\r\nhost: a\r\n")
        began = time.monotonic()
        while not has_ended(wire.socket):
            assert time.monotonic() - began < 20
            wire.send_what_it_takes(b"x")
            threading.Event().wait(0.1)
        assert time.monotonic() - began >= 2


@pytest.mark.parametrize(
    "beginning",
    [b"GET /v2/ HTTP/1.1\r\nx-header: ", http2.preface() + http2.frame(0, 0, 1, bytes(250_000))[:9]],
    ids=["HTTP/1.1", "HTTP/2"],
)
def test_what_a_crowd_sends_beside_requests_is_not_kept(trow: Trow, beginning: bytes) -> None:
    """Long headers, or a frame, that never end: nobody has to show a thing to send them."""
    before = memory(trow.process.pid)
    began = time.monotonic()
    with Crowd(trow.host) as crowd:
        crowd.grow(200, beginning + b"a" * 240_000)
        until(lambda: crowd.closed() == 200)
        assert time.monotonic() - began < 15, "well before headers have to be there"
        assert healthy(trow.host)
    until(lambda: memory(trow.process.pid) < before + 30 * MIB)


def test_clients_may_send_large_frames_over_http_2(trow: Trow) -> None:
    """Those written in Go do when they may, and each frame is handed from thread to thread."""
    with Wire(trow.host) as wire:
        wire.send(http2.preface())
        assert http2.settings(Incoming(lambda: wire.socket.recv(65536)))[http2.MAX_FRAME_SIZE] == 256 * 1024


def test_a_connection_may_be_idle_for_longer_than_headers_may_take_and_then_ends(hasty: Trow) -> None:
    with Wire(hasty.host) as wire:
        assert wire.ask("GET", "/healthz").status == 200
        began = time.monotonic()
        until(lambda: has_ended(wire.socket))
        assert time.monotonic() - began >= 3.9


def test_http_2_without_a_request_ends(hasty: Trow) -> None:
    with Wire(hasty.host) as wire:
        wire.send(http2.preface())
        until(lambda: has_ended(wire.socket))


def test_http_2_that_says_everything_but_a_request_ends(hasty: Trow) -> None:
    with Wire(hasty.host) as wire:
        wire.send(http2.preface() + http2.get(1, "/healthz"))
        began = time.monotonic()
        while not has_ended(wire.socket):
            assert time.monotonic() - began < 20
            wire.send_what_it_takes(http2.ping())
            threading.Event().wait(0.1)
        assert time.monotonic() - began >= 3.9, "pings are no sign that headers are slow"


# Who does not take the answer


@pytest.fixture(scope="module")
def blob(hasty: Trow) -> str:
    """Where a large one is."""
    return push(hasty, "large/blob", random.Random(0).randbytes(LARGE))


def push(trow: Trow, repository: str, content: bytes) -> str:
    digest = digest_of(content)
    url = f"{trow.url}/v2/{repository}/blobs/uploads/?digest={digest}"
    assert urllib3.request("POST", url, body=content).status == 201
    return f"/v2/{repository}/blobs/{digest}"


def test_a_reader_that_never_reads_ends(hasty: Trow, blob: str) -> None:
    with Crowd(hasty.host, receive_buffer=4096) as crowd:
        began = time.monotonic()
        crowd.grow(1, request("GET", blob))
        until(lambda: crowd.closed() == 1)
        assert time.monotonic() - began >= 2


def test_a_slow_reader_that_goes_on_reading_gets_everything(hasty: Trow) -> None:
    """For far longer than it may stall, while the registry waits for it all the time."""
    path = push(hasty, "slow/blob", bytes(6 * MIB))
    with Wire(hasty.host, receive_buffer=4096) as wire:
        wire.send(request("GET", path))
        _, headers = wire.incoming.head()
        began, missing = time.monotonic(), int(headers["content-length"][0]) - len(wire.incoming.received)
        while missing:
            missing -= len(wire.receive())
            if time.monotonic() - began < 5:
                threading.Event().wait(0.05)
        assert time.monotonic() - began > 5


def test_readers_that_stall_make_room_for_those_that_read(hasty: Trow, blob: str) -> None:
    """There are four places, of which one source has three: another reads at once, the same one a little later."""
    alone = wait_for_blob(hasty, blob, ANOTHER)
    with Crowd(hasty.host, source=OTHERS, receive_buffer=4096) as crowd:
        crowd.grow(6, request("GET", blob))
        assert wait_for_blob(hasty, blob, ANOTHER) < alone * 2 + 1
        wait_for_blob(hasty, blob, OTHERS)
        assert crowd.closed() >= 1


def wait_for_blob(trow: Trow, path: str, source: str) -> float:
    """Seconds until all of it has come."""
    began = time.monotonic()
    with Crowd(trow.host, source=source) as one:
        one.grow(1, request("GET", path))
        (member,) = one.members
        incoming = Incoming(lambda: member.recv(MIB))
        assert incoming.answer("GET").status == 200
    return time.monotonic() - began


def test_http_2_streams_that_nobody_reads_hold_little_and_end(hasty: Trow) -> None:
    """A window of nothing: TCP goes on, and the answers to a hundred requests would be kept forever."""
    manifest = image_of(60_000)
    url = f"{hasty.url}/v2/windows/manifests/one"
    assert urllib3.request("PUT", url, body=manifest, headers={"content-type": OCI_INDEX}).status == 201
    with Wire(hasty.host) as wire:
        wire.send(http2.preface(window=0))
        for number in range(100):
            wire.send(http2.get(2 * number + 1, "/v2/windows/manifests/one"))
        until(lambda: has_ended(wire.socket))
    assert healthy(hasty.host)


def image_of(size: int) -> bytes:
    """An index of about this many bytes, without images."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"text": "x" * size}}
    return json.dumps(document).encode()


def test_seven_hundred_readers_that_never_read_cost_little_and_nothing_when_they_have_left(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        path = push(trow, "stalled/blob", random.Random(1).randbytes(LARGE))
        with Crowd(trow.host, source=OTHERS, receive_buffer=4096) as crowd:
            crowd.grow(700, request("GET", path))
            until(lambda: memory(trow.process.pid) > 80 * MIB)
            end = time.monotonic() + 5
            while time.monotonic() < end:
                assert memory(trow.process.pid) <= 150 * MIB
                assert healthy(trow.host)
        until(lambda: memory(trow.process.pid) <= 100 * MIB)
