"""The listener for webhooks alone: what it serves, and to whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import urllib3

from support.admission import Answer, body, pod
from support.server import Trow
from support.waiting import until
from support.webhooks import ALIEN, JSON, OURS, VALIDATION, CertManager, Guard, ask
from support.wire import Wire, request
from trow.http.server import HttpServer, reserve
from trow.lib.handshake import certificate_of
from trow.tls.files import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.http.dispatch import Dispatcher

SECONDS: Final = 20


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    folder = tmp_path_factory.mktemp("guard")
    issuer = CertManager(folder / "issued")
    config = {
        "admission": {"bind": "127.0.0.1:0", "tls": issuer.settings},
        "image_validation": VALIDATION,
        "limits": {"requests_per_second": 1, "burst": 1},
    }
    with Trow.start(folder, config=config) as trow:
        yield Guard(trow, issuer.context)


# What is served


@pytest.mark.parametrize("path", ["/admission/validate", "/admission/mutate", "/validate-image"])
def test_reviews_are_answered(guard: Guard, path: str) -> None:
    with guard.wire() as wire:
        assert ask(wire, OURS, path)
        assert ask(wire, ALIEN, path) == (path == "/admission/mutate")


def test_a_probe_is_refused_in_words_that_trow_knows(guard: Guard) -> None:
    with guard.wire() as wire:
        answer = wire.ask("POST", "/admission/reach", JSON, body(pod(OURS)))
    assert (Answer.of(answer.body).allowed, Answer.of(answer.body).message) == (False, "Trow answers")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readiness"])
def test_probes_are_answered(guard: Guard, path: str) -> None:
    with guard.wire() as wire:
        answer = wire.ask("GET", path)
        assert (answer.status, json.loads(answer.body)["status"]) == (200, "ok")


@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/_catalog", "/token", "/metrics", "/api/v1/audit", "/v2/a/tags/list", "/"]
)
def test_nothing_else_is_served_there(guard: Guard, path: str) -> None:
    with guard.wire() as wire:
        assert wire.ask("GET", path).status == 404


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/admission/validate", "/admission/mutate", "/admission/reach", "/validate-image"])
def test_the_ordinary_address_has_no_webhooks_then(guard: Guard, path: str) -> None:
    def status() -> int:
        url = guard.trow.url + path
        return urllib3.request("POST", url, body=body(pod("a")), headers=dict(JSON), retries=False).status

    until(lambda: status() != 429)  # there one client may ask once a second
    until(lambda: status() == 404)


def test_there_is_no_limit_of_requests(guard: Guard) -> None:
    with guard.wire() as wire:
        assert all(ask(wire, OURS) for _ in range(10))
        assert wire.ask("GET", "/admission/validate").status == 405


def test_the_listener_is_always_https(guard: Guard) -> None:
    assert guard.url.startswith("https://")
    assert guard.trow.urls[0].startswith("http://")
    with pytest.raises((urllib3.exceptions.ProtocolError, ConnectionResetError)):
        urllib3.request("GET", f"http://{guard.host}/healthz", retries=False, timeout=SECONDS)


def test_whoever_does_not_trust_the_certificate_is_in_the_log(guard: Guard) -> None:
    with pytest.raises(ssl.SSLCertVerificationError), Wire(guard.host, ssl.create_default_context()):
        pass
    until(lambda: guard.logged("a TLS handshake failed"))
    assert guard.logged('"client":"127.0.0.1"')


def test_whoever_fails_to_shake_hands_again_and_again_is_in_the_log_once_a_minute(guard: Guard) -> None:
    host, _, port = guard.host.rpartition(":")

    def told() -> int:
        return guard.trow.stderr.read_text("utf-8").count("a TLS handshake failed")

    before = told()
    for _ in range(100):
        with socket.create_connection((host, int(port)), SECONDS) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while stranger.recv(1024):
                pass
    assert until(told) - before <= 1


def test_requests_are_in_the_access_log_with_who_sent_them(guard: Guard) -> None:
    with guard.wire() as wire:
        assert wire.ask("GET", "/admission/nothing").status == 404
    until(lambda: guard.logged('"path":"/admission/nothing"'))
    lines = guard.trow.stderr.read_text("utf-8").splitlines()
    (line,) = [json.loads(each) for each in lines if '"/admission/nothing"' in each]
    assert line["client"] == "127.0.0.1"


# Connections


@pytest.mark.slow
def test_reviews_are_answered_though_crowds_are_idle_where_files_are_few(tmp_path: Path) -> None:
    """Each connection takes three files; nobody who comes may find none left."""
    issuer = CertManager(tmp_path / "issued")
    config = {"admission": {"bind": "127.0.0.1:0", "tls": issuer.settings}, "image_validation": VALIDATION}
    with Trow.start(tmp_path, config=config, files=1024) as trow, contextlib.ExitStack() as crowd:
        guard = Guard(trow, issuer.context)
        host, _, port = guard.host.rpartition(":")
        for number in range(400):
            with contextlib.suppress(OSError):
                source = (f"127.0.0.{2 + number % 2}", 0)
                plain = socket.create_connection((host, int(port)), SECONDS, source_address=source)
                idle = crowd.enter_context(issuer.context.wrap_socket(plain, server_hostname=host))
                idle.sendall(request("GET", "/healthz"))
        for _ in range(20):
            with guard.wire() as wire:
                assert ask(wire, OURS)
            assert urllib3.request("GET", f"{trow.url}/healthz").status == 200
        assert not guard.logged("could not be accepted")


@pytest.mark.slow
def test_a_connection_that_is_there_stays_while_crowds_send_their_reviews_slowly(tmp_path: Path) -> None:
    """All of theirs are in work, so it is the only idle one; who has far fewer than others is not ended for them."""
    issuer = CertManager(tmp_path / "issued")
    config = {"admission": {"bind": "127.0.0.1:0", "tls": issuer.settings}, "image_validation": VALIDATION}
    slow = request("POST", "/admission/validate", [*JSON, ("content-length", "3000")]) + b"{"
    with Trow.start(tmp_path, config=config, files=1024) as trow, contextlib.ExitStack() as crowd:
        guard = Guard(trow, issuer.context)
        host, _, port = guard.host.rpartition(":")
        with guard.wire() as honest:
            assert ask(honest, OURS)
            for number in range(60):
                with contextlib.suppress(OSError):
                    source = (f"127.0.0.{2 + number % 2}", 0)
                    plain = socket.create_connection((host, int(port)), 1, source_address=source)
                    crowd.enter_context(issuer.context.wrap_socket(plain, server_hostname=host)).sendall(slow)
            assert ask(honest, OURS)


class Echo:
    async def __rsgi__(self, scope: object, transport: Any) -> None:
        transport.response_str(200, [], "here")


@pytest.mark.slow
async def test_a_connection_may_be_silent_for_as_long_as_is_said() -> None:
    (address,) = reserve("127.0.0.1", 0, "here")
    server = HttpServer(cast("Dispatcher", Echo()), [address], None, idle_seconds=1)
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        began = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            assert (await reader.read()).endswith(b"here")
        assert time.monotonic() - began > 0.9
        writer.close()
    finally:
        assert await server.stop(SECONDS)
        address.reservation.close()


@pytest.mark.slow
async def test_a_certificate_that_came_between_the_start_and_the_watch_is_shown(tmp_path: Path) -> None:
    issuer = await asyncio.to_thread(CertManager, tmp_path / "issued")
    (address,) = reserve("127.0.0.1", 0, "here")
    server = HttpServer(cast("Dispatcher", Echo()), [address], TlsFiles(*map(Path, issuer.settings.values())))
    await server.start()
    renewed = await asyncio.to_thread(issuer.issue)
    watching = asyncio.create_task(server.watch_certificate())
    try:
        async with asyncio.timeout(SECONDS):
            while await certificate_of(address.host, address.port, address.host) != renewed:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        watching.cancel()
        assert await server.stop(SECONDS)
        address.reservation.close()


@pytest.mark.slow
def test_a_stop_answers_reviews_in_flight(tmp_path: Path) -> None:
    issuer = CertManager(tmp_path / "issued")
    config = {"admission": {"bind": "127.0.0.1:0", "tls": issuer.settings}}
    with Trow.start(tmp_path / "trow", config=config) as trow, Guard(trow, issuer.context).wire() as wire:
        review = body(pod(OURS))
        expecting = [*JSON, ("Expect", "100-continue"), ("Content-Length", str(len(review)))]
        wire.send(request("POST", "/admission/validate", expecting))
        wire.wait_until_read()
        trow.process.terminate()
        until(lambda: b"stopping" in trow.stderr.read_bytes())
        wire.send(review)
        assert wire.answer("POST").status == 200
