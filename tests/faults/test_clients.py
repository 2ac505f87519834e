"""Clients that stop in the middle, crawl, vanish, or come back."""

from __future__ import annotations

import os
import random
import select
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from factories import OCI_IMAGE, digest_of, image_of
from faults.process import becomes, memory, open_files, sockets, threads
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged
from support.wire import Wire, announced, chunked, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB: Final = 2**20
REPOSITORY: Final = "fickle/clients"
CONTENT: Final = random.Random(1).randbytes(600_000)
HALF: Final = len(CONTENT) // 2
# The listeners, of which each core has one up to four, and what the event loops wake themselves with.
IDLE_SOCKETS: Final = 8 + 3 * min(4, len(os.sched_getaffinity(0)))
DIGEST: Final = digest_of(CONTENT)
WHOLE: Final = f"/v2/{REPOSITORY}/blobs/uploads/?digest={DIGEST}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fickle")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Trow]:
    config = folder / "trow.yaml"
    config.write_text("limits: {body_timeout: 1s}\n", "utf-8")
    with Trow.start(folder, "--config", str(config)) as trow:
        yield trow
    assert_clean(folder / "data")


@pytest.fixture
def trow(server: Trow, folder: Path) -> Iterator[Trow]:
    """A registry that every test leaves without open uploads and without the blob."""
    yield server
    with WireClient(server.host) as client:
        assert client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{DIGEST}").status in {202, 404}
    assert becomes(lambda: staged(folder / "data") == [])


# ---- truncated


@pytest.mark.parametrize("sent", [0, 1, 1000, HALF])
@pytest.mark.parametrize("vanish", [Wire.close, Wire.reset])
def test_a_blob_that_ends_early_leaves_nothing(
    sent: int, vanish: Callable[[Wire], None], trow: Trow, folder: Path
) -> None:
    with Wire(trow.host) as wire:
        wire.send(announced("POST", WHOLE, len(CONTENT)))
        wire.wait_until_read()
        wire.send(CONTENT[:sent])
        vanish(wire)
    assert becomes(lambda: staged(folder / "data") == [])
    with WireClient(trow.host) as client:
        assert client.get_blob(REPOSITORY, DIGEST).status == 404
        assert client.push_whole(REPOSITORY, CONTENT).status == 201


def test_a_chunked_blob_that_ends_early_leaves_nothing(client: WireClient, trow: Trow, folder: Path) -> None:
    with Wire(trow.host) as wire:
        headers = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]
        wire.send(request("POST", WHOLE, headers))
        wire.wait_until_read()
        wire.send(chunked(CONTENT[:HALF], end=False) + b"fffff\r\nonly this")
    assert becomes(lambda: staged(folder / "data") == [])
    assert client.get_blob(REPOSITORY, DIGEST).status == 404


def test_a_manifest_that_ends_early_is_not_there(client: WireClient, trow: Trow) -> None:
    manifest = image_of(b"x")
    with Wire(trow.host) as wire:
        headers = [("Content-Type", OCI_IMAGE), ("Content-Length", str(len(manifest) + 1)), ("Expect", "100-continue")]
        wire.send(request("PUT", f"/v2/{REPOSITORY}/manifests/early", headers))
        wire.wait_until_read()
        wire.send(manifest)
    with Wire(trow.host) as wire:
        wire.send(
            request("PUT", f"/v2/{REPOSITORY}/manifests/early", [("Content-Type", OCI_IMAGE), ("Content-Length", "9")])
        )
        assert wire.answer("PUT").status == 408  # sent after the other one and answered a second later
    assert client.get_manifest(REPOSITORY, "early").status == 404


@pytest.mark.parametrize("vanish", [Wire.close, Wire.reset])
def test_a_session_goes_on_where_a_vanished_client_stopped(
    vanish: Callable[[Wire], None], client: WireClient, trow: Trow
) -> None:
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as wire:
        wire.send(announced("PATCH", session, len(CONTENT)))
        wire.wait_until_read()
        wire.send(CONTENT[:HALF])
        vanish(wire)
    offset = client.offset(session)
    assert 0 < offset <= HALF or vanish is Wire.reset
    assert client.append(session, CONTENT[offset:], offset).status == 202
    assert client.finish(session, DIGEST).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_chunked_session_goes_on_where_a_vanished_client_stopped(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    for part in (CONTENT[:100_000], CONTENT[100_000:HALF]):
        with Wire(trow.host) as wire:
            wire.send(request("PATCH", session, [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]))
            wire.wait_until_read()
            wire.send(chunked(part, end=False))
    offset = client.offset(session)
    assert offset == HALF
    assert client.finish(session, DIGEST, CONTENT[offset:]).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def cut_off(trow: Trow, method: str, target: str, vanish: Callable[[Wire], None] = Wire.close) -> None:
    """A request with all of the content whose connection breaks in the middle."""
    with Wire(trow.host) as wire:
        wire.send(announced(method, target, len(CONTENT)))
        wire.wait_until_read()
        wire.send(CONTENT[:HALF])
        vanish(wire)


def test_a_finish_that_ends_early_can_be_continued(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    cut_off(trow, "PUT", f"{session}?digest={DIGEST}")
    offset = client.offset(session)
    assert client.finish(session, DIGEST, CONTENT[offset:]).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_finish_that_ends_early_can_be_continued_with_chunks(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    cut_off(trow, "PUT", f"{session}?digest={DIGEST}")
    offset = client.offset(session)
    assert offset == HALF
    assert client.append(session, CONTENT[offset:], offset).status == 202
    assert client.finish(session, DIGEST).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


@pytest.mark.parametrize("vanish", [Wire.close, Wire.reset])
@pytest.mark.parametrize("times", [1, 3])
def test_a_finish_that_ends_early_can_be_repeated(
    times: int, vanish: Callable[[Wire], None], client: WireClient, trow: Trow
) -> None:
    session = client.begin(REPOSITORY)
    for _ in range(times):
        cut_off(trow, "PUT", f"{session}?digest={DIGEST}", vanish)
    assert client.finish(session, DIGEST, CONTENT).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_stream_that_ends_early_can_be_repeated(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    cut_off(trow, "PATCH", session)
    assert client.ask("PATCH", session, body=CONTENT).status == 202
    assert client.offset(session) == len(CONTENT)
    assert client.finish(session, DIGEST).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_chunked_finish_that_ends_early_can_be_repeated(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as wire:
        headers = [("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]
        wire.send(request("PUT", f"{session}?digest={DIGEST}", headers))
        wire.wait_until_read()
        wire.send(chunked(CONTENT[:HALF], end=False))
    assert client.finish(session, DIGEST, CONTENT).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


# ---- slow


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"blobs/uploads/?digest={DIGEST}"), ("PUT", "manifests/slow"), ("GET", "manifests/slow"), ("PATCH", "")],
)
def test_a_body_that_does_not_come_is_not_waited_for(method: str, path: str, client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    target = f"/v2/{REPOSITORY}/{path}" if path else session
    with Wire(trow.host) as wire:
        wire.send(
            request(method, target, [("Content-Type", OCI_IMAGE), ("Content-Length", "5000")]) + b"the first bytes"
        )
        answer = wire.answer(method)
        assert answer.codes
        assert answer.status == (404 if method == "GET" else 408)
        assert wire.receive() == b""
    assert client.ask("DELETE", session).status == 204


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={DIGEST}", "application/octet-stream"),
        ("PATCH", "", "application/octet-stream"),
        ("PUT", "", "application/octet-stream"),
        ("PUT", f"/v2/{REPOSITORY}/manifests/slow", OCI_IMAGE),
        ("POST", "/token", "application/x-www-form-urlencoded"),
    ],
)
@pytest.mark.parametrize("framing", [("Content-Length", "50000"), ("Transfer-Encoding", "chunked")])
def test_a_body_that_comes_a_byte_now_and_then_is_not_waited_for(
    method: str, path: str, kind: str, framing: tuple[str, str], client: WireClient, trow: Trow
) -> None:
    session = client.begin(REPOSITORY)
    target = path or (session if method == "PATCH" else f"{session}?digest={DIGEST}")
    with Wire(trow.host) as wire:
        wire.send(request(method, target, [("Content-Type", kind), framing]))
        sent = trickle(wire, b"x" if framing[0] == "Content-Length" else chunked(b"x", end=False))
        assert wire.answer(method).status == 408
        assert wire.receive() == b""
    assert 10 < sent < 512
    assert client.ask("DELETE", session).status == 204


def test_slow_uploads_hold_no_threads_and_delay_nobody(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, CONTENT).status == 201
        before = threads(trow.process.pid)
        slow = [Wire(trow.host) for _ in range(300)]
        for number, wire in enumerate(slow):
            path = f"/v2/slow/{number}/blobs/uploads/?digest={DIGEST}"
            wire.send(announced("POST", path, len(CONTENT)))
            wire.wait_until_read()
            wire.send(CONTENT[:HALF])
        assert becomes(lambda: len(staged(trow.folder / "data")) == 300)
        assert threads(trow.process.pid) < before + 10
        for number in range(10):
            content = CONTENT + b"%d" % number
            assert client.push_whole(REPOSITORY, content).status == 201
            assert client.get_blob(REPOSITORY, digest_of(content)).body == content
        for wire in slow[::2]:
            wire.reset()
        for wire in slow[1::2]:
            wire.send(CONTENT[HALF:])
            assert wire.answer("POST").status == 201
            wire.close()
        assert becomes(lambda: staged(trow.folder / "data") == [])


def trickle(wire: Wire, piece: bytes) -> int:
    """Send a piece every twentieth of a second until an answer comes; returns how many were sent."""
    sent = 0
    while not select.select([wire.socket], [], [], 0.05)[0]:
        wire.send(piece)
        sent += 1
    return sent


def test_a_slow_body_that_keeps_its_pace_is_waited_for(client: WireClient, trow: Trow) -> None:
    content = CONTENT[:4000]
    with Wire(trow.host) as wire:
        path = f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}"
        wire.send(request("POST", path, [("Content-Length", str(len(content)))]))
        for at in range(0, len(content), 100):
            assert not select.select([wire.socket], [], [], 0.05)[0], "answered before it was all there"
            wire.send(content[at : at + 100])
        assert wire.answer("POST").status == 201


def test_a_session_goes_on_after_a_timeout(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as wire:
        wire.send(request("PATCH", session, [("Content-Length", str(len(CONTENT)))]) + CONTENT[:HALF])
        assert wire.answer("PATCH").status == 408
    assert client.offset(session) == HALF
    assert client.finish(session, DIGEST, CONTENT[HALF:]).status == 201


# ---- vanished in the middle of a download


@pytest.fixture(scope="module")
def large(server: Trow) -> str:
    """The path of a blob of 50 MiB."""
    content = random.Random(2).randbytes(50 * MIB)
    with WireClient(server.host) as client:
        assert client.push_whole("large/blobs", content).status == 201
    return f"/v2/large/blobs/blobs/{digest_of(content)}"


def test_vanished_downloads_leave_no_file_and_no_memory(large: str, trow: Trow) -> None:
    pid = trow.process.pid
    vanish_amid_downloads(trow, large, 30)
    assert becomes(lambda: sockets(pid) <= IDLE_SOCKETS)
    files, held = open_files(pid), memory(pid)
    vanish_amid_downloads(trow, large, 300)
    assert becomes(lambda: len(open_files(pid)) <= len(files)), set(open_files(pid)) - set(files)
    assert memory(pid) - held < 32 * MIB


def vanish_amid_downloads(trow: Trow, path: str, count: int) -> None:
    def vanish(number: int) -> None:
        with Wire(trow.host, receive_buffer=64 * 1024) as wire:
            headers = [("Range", "bytes=1000-")] if number % 2 else []
            wire.send(request("GET", path, headers))
            assert wire.incoming.head()[0] in {200, 206}
            wire.incoming.read(number * 1000)
            wire.reset()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(vanish, range(count)))


def test_stalled_downloads_hold_no_memory_and_delay_nobody(large: str, client: WireClient, trow: Trow) -> None:
    held = memory(trow.process.pid)
    stalled = [Wire(trow.host, receive_buffer=64 * 1024) for _ in range(64)]
    for wire in stalled:
        wire.send(request("GET", large))
        assert wire.incoming.head()[0] == 200
    assert memory(trow.process.pid) - held < 200 * MIB
    assert client.push_whole(REPOSITORY, CONTENT).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT
    for wire in stalled:
        wire.reset()


def test_vanished_uploads_leave_no_file_and_no_memory(trow: Trow, folder: Path) -> None:
    pid = trow.process.pid
    vanish_amid_uploads(trow, 30)
    assert becomes(lambda: sockets(pid) <= IDLE_SOCKETS)
    files, held = open_files(pid), memory(pid)
    vanish_amid_uploads(trow, 300)
    assert becomes(lambda: len(open_files(pid)) <= len(files)), set(open_files(pid)) - set(files)
    assert memory(pid) - held < 32 * MIB
    assert becomes(lambda: staged(folder / "data") == [])


def vanish_amid_uploads(trow: Trow, count: int) -> None:
    def vanish(number: int) -> None:
        with Wire(trow.host) as wire:
            wire.send(announced("POST", WHOLE, len(CONTENT)))
            wire.wait_until_read()
            wire.send(CONTENT[: number * 1500])
            wire.reset()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(vanish, range(count)))
