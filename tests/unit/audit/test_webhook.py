"""The webhook, against a receiver that listens on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trustme
from aiohttp import web

from support.trails import KEY, full, name_of
from support.waiting import eventually
from trow.audit.trail import AuditTrail
from trow.audit.webhook import MOST_BATCH_BYTES, MOST_BATCH_RECORDS, Target, Webhook, _retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


@dataclass
class Receiver:
    """Takes batches, and answers as it is told to: first what is in ``answers``, then 200."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    status: int = 200

    async def take(self, request: web.Request) -> web.Response:
        self.times.append(time.monotonic())
        self.headers.append(request.headers.copy())
        body = await request.read()
        answer = self.answers.pop(0) if self.answers else web.Response(status=self.status)
        if answer.status < 300:
            self.bodies.append(body)
        return answer

    @property
    def sequences(self) -> list[int]:
        return [event["data"]["sequence"] for body in self.bodies for event in msgspec.json.decode(body)]


@contextlib.asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    application = web.Application(client_max_size=2 * MOST_BATCH_BYTES)
    application.router.add_post("/audit", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme = "https" if tls else "http"
    receiver.url = f"{scheme}://localhost:{runner.addresses[0][1]}/audit"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def sending(trail: AuditTrail, url: str, **options: Any) -> AsyncIterator[Webhook]:
    webhook = Webhook(trail.writer, Target(url, **options), first_pause=0.02)
    task = asyncio.create_task(webhook.run())
    try:
        yield webhook
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[AuditTrail]:
    with contextlib.closing(AuditTrail(folder / "audit.db", KEY, webhook=True)) as trail:
        yield trail


async def test_every_record_is_sent_once_and_in_order(tmp_path: Path) -> None:
    async with listening() as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                for number in range(1, 251):
                    trail.record(full(number))
                await eventually(lambda: webhook.sent == 250)
                assert trail.counts().unsent == 0
                trail.record(full(251))
                await eventually(lambda: webhook.sent == 251)
    assert receiver.sequences == list(range(1, 252))
    assert all(len(msgspec.json.decode(body)) <= MOST_BATCH_RECORDS for body in receiver.bodies)
    assert receiver.headers[0]["Content-Type"] == "application/cloudevents-batch+json; charset=utf-8"
    assert "Authorization" not in receiver.headers[0]
    assert webhook.failures == 0


async def test_batches_have_a_limit_in_bytes(tmp_path: Path) -> None:
    async with listening() as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                for number in range(200):
                    trail.record(full(number, manifests=("\x00" * 256,) * 64, detail="\x00" * 1000))
                await eventually(lambda: webhook.sent == 200)
    assert len(receiver.bodies) > 1
    assert all(len(body) <= MOST_BATCH_BYTES for body in receiver.bodies)
    assert receiver.sequences == list(range(1, 201))


async def test_failure_is_repeated_until_it_works_and_waits_longer_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as receiver:
        receiver.answers = [web.Response(status=status) for status in (500, 429, 404, 503, 500)]
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.sent == 1)
                assert webhook.failures == 5
                pauses = [later - earlier for earlier, later in zip(receiver.times, receiver.times[1:], strict=False)]
                assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))
                await eventually(lambda: trail.writer.positions.get("webhook", name_of(trail.writer.path)) == 1)
    assert receiver.sequences == [1]
    assert [record.message for record in caplog.records if "webhook fails" in record.message] == [
        "the audit webhook fails; records are kept and sent again: it answered 500"
    ]


@pytest.mark.slow
async def test_receiver_may_ask_for_patience(tmp_path: Path) -> None:
    async with listening() as receiver:
        receiver.answers = [web.Response(status=503, headers={"Retry-After": "1"})]
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.sent == 1)
    assert receiver.times[1] - receiver.times[0] >= 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0), ("7", 7), ("9999999999", 3600), ("-5", 0), ("soon", 0), ("1.5", 0), ("٣", 0)]
)
def test_patience_has_a_limit(text: str, seconds: float) -> None:
    assert _retry_after(text) == seconds


def test_patience_may_be_a_date() -> None:
    assert 50 < _retry_after(email.utils.formatdate(time.time() + 60, usegmt=True)) <= 60
    assert _retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0


async def test_redirect_is_not_followed(tmp_path: Path) -> None:
    async with listening() as receiver, listening() as other:
        receiver.answers = [web.Response(status=status, headers={"Location": other.url}) for status in (307, 302)]
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.sent == 1)
    assert other.times == []
    assert webhook.failures == 2


async def test_batch_that_is_too_large_is_made_smaller(tmp_path: Path) -> None:
    async with listening() as receiver:
        receiver.answers = [web.Response(status=413) for _ in range(3)]
        with opened(tmp_path) as trail:
            for number in range(100):
                trail.record(full(number))
            async with sending(trail, receiver.url) as webhook:
                await eventually(lambda: webhook.sent == 100)
    assert receiver.sequences == list(range(1, 101))
    assert max(len(msgspec.json.decode(body)) for body in receiver.bodies[:1]) <= 50


async def test_receiver_that_was_away_gets_everything(tmp_path: Path) -> None:
    """Also what was recorded by an earlier process, and once more at most what it had not acknowledged."""
    with opened(tmp_path) as trail:
        for number in range(1, 4):
            trail.record(full(number))
        async with sending(trail, "http://127.0.0.1:9/audit") as webhook:
            await eventually(lambda: webhook.failures >= 2)
        assert trail.counts().unsent == 3
    async with listening() as receiver:
        for number in range(2):
            with opened(tmp_path) as trail:
                async with sending(trail, receiver.url) as webhook:
                    trail.record(full(number))
                    await eventually(lambda: 4 + number in receiver.sequences)  # noqa: B023
                    await eventually(lambda: trail.counts().unsent == 0)
        assert receiver.sequences == [1, 2, 3, 4, 5]


async def test_first_webhook_begins_with_what_comes_next(tmp_path: Path) -> None:
    with contextlib.closing(AuditTrail(tmp_path / "audit.db", KEY)) as plain:
        plain.record(full(1))
    async with listening() as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                trail.record(full(2))
                await eventually(lambda: webhook.sent == 1)
    assert receiver.sequences == [2]


async def test_receiver_that_never_answers_is_given_up_and_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, opened(tmp_path) as trail:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/audit"
        async with sending(trail, url, timeout=0.2) as webhook:
            trail.record(full(1))
            await eventually(lambda: webhook.failures >= 2)
    assert webhook.sent == 0


async def test_kubernetes_format_is_sent(tmp_path: Path) -> None:
    async with listening() as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url, format="kubernetes") as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.sent == 1)
    assert receiver.headers[0]["Content-Type"] == "application/json"
    assert msgspec.json.decode(receiver.bodies[0])["kind"] == "EventList"


# TLS and tokens


def authority(folder: Path) -> tuple[ssl.SSLContext, Path]:
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("localhost").configure_cert(context)
    file = folder / "ca.pem"
    made.cert_pem.write_to_path(str(file))
    return context, file


@pytest.mark.slow
async def test_receiver_is_authenticated_by_a_ca_file_that_may_change(tmp_path: Path) -> None:
    context, right = authority(tmp_path)
    file = tmp_path / "trusted.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    async with listening(context) as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url, ca_file=file) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.failures > 0)
                assert receiver.times == []
                file.write_text("no certificate")
                failures = webhook.failures
                await eventually(lambda: webhook.failures > failures)
                right.replace(file)
                await eventually(lambda: webhook.sent == 1)
    assert receiver.sequences == [1]


async def test_receiver_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    context, _ = authority(tmp_path)
    async with listening(context) as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.failures > 0)
    assert receiver.times == []


async def test_token_is_read_from_its_file_whenever_that_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with listening() as receiver:
        with opened(tmp_path) as trail:
            async with sending(trail, receiver.url, token_file=file) as webhook:
                trail.record(full(1))
                await eventually(lambda: webhook.failures > 0)  # there is no file yet
                file.write_text("two words")
                failures = webhook.failures
                await eventually(lambda: webhook.failures > failures)
                file.write_text("first\n")
                await eventually(lambda: webhook.sent == 1)
                file.write_text("second")
                trail.record(full(2))
                await eventually(lambda: webhook.sent == 2)
    assert [headers["Authorization"] for headers in receiver.headers] == ["Bearer first", "Bearer second"]


async def test_log_never_holds_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("secret secret")
    with opened(tmp_path) as trail:
        async with sending(trail, "http://127.0.0.1:9/", token_file=file) as webhook:
            trail.record(full(1))
            await eventually(lambda: webhook.failures > 0)
    assert "holds no token" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is not a URL of HTTP; write https://HOST/PATH"),
        ("audit.example/path", "not a URL"),
        ("ftp://audit.example/", "not a URL"),
        ("https:///path", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("http://audit.example/", "is not https"),
        ("http://10.0.0.1/", "is not https"),
        ("http://127.0.0.1.example/", "is not https"),
        ("https://user:password@audit.example/", "has a user or a password in it; .* put a token into a file"),
        ("https://audit.example/#part", "has a fragment"),
    ],
)
def test_url_that_cannot_be_a_target_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target(url)


@pytest.mark.parametrize(
    "url", ["https://audit.example/x?y=z", "http://127.0.0.1:8/", "http://[::1]/", "http://localhost/"]
)
def test_url_of_a_target(url: str) -> None:
    assert str(Target(url).url) == url


def test_format_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="cloudevents, kubernetes"):
        Target("https://audit.example/", format="syslog", token_file=Path("x"))
