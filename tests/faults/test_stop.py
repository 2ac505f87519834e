"""A stop that finishes what is under way, within bounds."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from clients.authority import Authority
from factories import digest_of
from faults.process import becomes
from support.client import WireClient
from support.server import Trow
from support.sockets import listening_paths
from support.store import assert_clean, staged
from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB: Final = 2**20
REPOSITORY: Final = "stopped/server"
SIZE: Final = 100 * MIB
STOP_SECONDS: Final = 40


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


def begin_download(trow: Trow, path: str) -> tuple[Wire, hashlib._Hash]:
    """A client that has read a little and whose buffers are full."""
    wire = Wire(trow.host, receive_buffer=64 * 1024)
    wire.send(request("GET", path))
    assert wire.incoming.head()[0] == 200
    return wire, hashlib.sha256(wire.incoming.read(MIB))


def begin_upload(trow: Trow, target: str, content: bytes) -> Wire:
    """A client that has sent half of a body."""
    wire = Wire(trow.host)
    wire.send(request("PUT", target, [("Content-Length", str(len(content))), ("Expect", "100-continue")]))
    wire.wait_until_read()
    wire.send(content[: len(content) // 2])
    return wire


def takes_no_connections(trow: Trow) -> bool:
    host, _, port = trow.host.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def ended(trow: Trow) -> int:
    """The exit code of a server that was told to stop."""
    trow.process.communicate(timeout=STOP_SECONDS)
    return trow.process.returncode


def test_requests_in_flight_are_finished(tmp_path: Path, content: bytes) -> None:
    uploaded = content[: SIZE // 2]
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, content).status == 201
        session = client.begin(REPOSITORY)
        upload = begin_upload(trow, f"{session}?digest={digest_of(uploaded)}", uploaded)
        download, hasher = begin_download(trow, f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")
        trow.process.terminate()
        assert becomes(lambda: takes_no_connections(trow))
        with download, upload:
            hasher.update(download.incoming.read(SIZE - MIB))
            assert f"sha256:{hasher.hexdigest()}" == digest_of(content)
            upload.send(uploaded[len(uploaded) // 2 :])
            assert upload.answer("PUT").status == 201
        assert ended(trow) == 0
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.get_blob(REPOSITORY, digest_of(uploaded)).body == uploaded
    assert_clean(tmp_path / "data")


def test_requests_with_client_certificates_are_finished_too(tmp_path: Path, content: bytes) -> None:
    authority, uploaded = Authority(tmp_path / "authority"), content[:MIB]
    admin = authority.issue("admin")
    rules = [{"users": ["certificate:admin"], "actions": ["pull", "push"]}]
    demanded = {"bind": "127.0.0.1:0", "client_ca": str(authority.file)}
    config = {"listen": {"client_tls": demanded}, "access": {"rules": rules}}
    with Trow.start(tmp_path, tls=True, config=config) as trow:
        context = ssl.create_default_context(cafile=trow.ca)
        context.load_cert_chain(admin.file, admin.key)
        with Wire(trow.urls[1].partition("://")[2], context) as wire:
            begun = wire.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
            assert begun.status == 202
            target = f"{urlsplit(begun.header('location')).path}?digest={digest_of(uploaded)}"
            wire.send(request("PUT", target, [("Content-Length", str(MIB)), ("Expect", "100-continue")]))
            wire.wait_until_read()
            wire.send(uploaded[: MIB // 2])
            trow.process.terminate()
            assert becomes(lambda: not listening_paths(trow.process.pid))
            wire.send(uploaded[MIB // 2 :])
            assert wire.answer("PUT").status == 201
        assert ended(trow) == 0


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Trow]:
    config = tmp_path / "trow.yaml"
    config.write_text("listen: {shutdown_grace: 1s}\n", "utf-8")
    with Trow.start(tmp_path, "--config", str(config)) as trow:
        yield trow


def test_a_stop_does_not_wait_longer_than_its_grace(hasty: Trow, tmp_path: Path, content: bytes) -> None:
    uploaded = content[: 10 * MIB]
    with WireClient(hasty.host) as client:
        assert client.push_whole(REPOSITORY, content).status == 201
        session = client.begin(REPOSITORY)
    upload = begin_upload(hasty, f"{session}?digest={digest_of(uploaded)}", uploaded)
    download, _ = begin_download(hasty, f"/v2/{REPOSITORY}/blobs/{digest_of(content)}")
    with download, upload:
        hasty.process.terminate()
        assert ended(hasty) == 0
    assert b"shutdown_grace" in hasty.stderr.read_bytes()
    assert b"Traceback" not in hasty.stderr.read_bytes(), "this is how a stop is meant to be"
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.get_blob(REPOSITORY, digest_of(uploaded)).status == 404
        assert client.get_blob(REPOSITORY, digest_of(content)).body == content
        client.ask("DELETE", session)
        assert staged(tmp_path / "data") == []
    assert_clean(tmp_path / "data")


def test_uploads_that_keep_the_threads_busy_do_not_hinder_a_stop(hasty: Trow) -> None:
    """Chunks of one byte, each of which is work for two threads, were cut off after the threads had ended."""
    host, _, port = hasty.host.rpartition(":")
    with WireClient(hasty.host) as client, contextlib.ExitStack() as uploads:
        for _ in range(6):
            wire = uploads.enter_context(socket.create_connection((host, int(port)), timeout=STOP_SECONDS))
            wire.sendall(request("PATCH", client.begin(REPOSITORY), [("Transfer-Encoding", "chunked")]))
            wire.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    wire.send(b"1\r\nx\r\n" * 100_000)
    hasty.process.terminate()
    assert ended(hasty) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_connections_delay_no_stop(number: signal.Signals, tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        idle = [Wire(trow.host) for _ in range(10)]
        for wire in idle[:5]:
            assert wire.ask("GET", "/v2/").status == 200
        trow.process.send_signal(number)
        assert ended(trow) == 0
        for wire in idle:
            wire.close()


@pytest.mark.parametrize("size", [1, 1000, 65_536, 65_537, 500_000])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_sessions_go_on_after_a_stop(algorithm: str, size: int, tmp_path: Path) -> None:
    content = random.Random(size).randbytes(2 * size)
    digest = digest_of(content, algorithm)
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        session = client.begin(REPOSITORY)
        assert client.append(session, content[:size], 0).status == 202
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.offset(session) == size
        assert client.finish(session, digest, content[size:]).status == 201
        assert client.get_blob(REPOSITORY, digest).body == content
        assert staged(tmp_path / "data") == []
