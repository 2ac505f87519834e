from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from support.requests import Headers, Scope, Transport
from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.limits import RateLimit
from trow.http.metrics import Metrics
from trow.http.response import Response
from trow.http.routes import Route, Router
from trow.identity.single import SingleAuthorizer, SingleUser
from trow.oci.errors import BlobUnknown
from trow.registry.ports import Permission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.http.request import Request
    from trow.registry.ports import Authorizer

ALICE = ("authorization", "Basic YWxpY2U6c2VjcmV0")  # alice:secret


class Nobody:
    """An authorizer who refuses everybody."""

    async def allows(self, *_: object) -> bool:
        return False


class Application:
    """A dispatcher with three routes, and what they were asked."""

    def __init__(
        self,
        *,
        authorizer: Authorizer | None = None,
        per_second: int = 0,
        origins: Sequence[str] = (),
        notice: str = "",
    ) -> None:
        self.metrics = Metrics()
        self.handled: list[str] = []
        routes = (
            Route("GET", "/v2/{repository}/tags/list", self.fine, Permission.PULL),
            Route("PUT", "/v2/{repository}/manifests/{reference}", self.body, Permission.PUSH),
            Route("GET", "/v2/lost", self.lost, Permission.OPEN),
            Route("GET", "/v2/broken", self.broken, Permission.OPEN),
            Route("GET", "/healthz", self.fine, Permission.OPEN),
        )
        self.dispatcher = Dispatcher(
            Router(routes),
            SingleUser("alice", "secret"),
            authorizer or SingleAuthorizer("none", has_user=True),
            metrics=self.metrics,
            rate_limit=RateLimit(per_second, 1),
            cors=Cors(origins),
            access_log=None,
            body_timeout=5,
            notice=notice,
        )

    async def fine(self, request: Request) -> Response:
        self.handled.append(f"{request.identity.name}:{request.parameters.get('repository', '')}")
        return Response(200, [], b"body")

    async def body(self, request: Request) -> Response:
        return Response(201, [], b"".join([piece async for piece in request.body()]))

    async def lost(self, request: Request) -> Response:
        raise BlobUnknown("lost", {"path": request.path})

    async def broken(self, request: Request) -> Response:
        raise ZeroDivisionError(request.path)

    async def ask(
        self, method: str, path: str, *headers: tuple[str, str], body: Sequence[bytes] = (), client: str = "192.0.2.1:1"
    ) -> Transport:
        transport = Transport(*body)
        scope = Scope(method=method, path=path, headers=Headers(headers), client=client)
        await self.dispatcher.__rsgi__(scope, transport)
        return transport

    def counted(self, name: str) -> str:
        return next(line for line in self.metrics.text().decode().splitlines() if line.startswith(name))


def refusal(got: Transport) -> tuple[int, str]:
    (error,) = json.loads(got.body)["errors"]
    return got.status, error["code"]


async def test_user_is_known_to_the_handler() -> None:
    application = Application()
    got = await application.ask("GET", "/v2/a/b/tags/list", ALICE)
    assert (got.status, got.body) == (200, b"body")
    assert application.handled == ["alice:a/b"]


async def test_nobody_gets_a_challenge_and_no_handler_runs() -> None:
    application = Application()
    got = await application.ask("GET", "/v2/a/tags/list")
    assert refusal(got) == (401, "UNAUTHORIZED")
    assert dict(got.headers)["www-authenticate"].startswith("Basic")
    assert application.handled == []


async def test_user_without_the_permission_is_denied() -> None:
    application = Application(authorizer=Nobody())
    got = await application.ask("GET", "/v2/a/tags/list", ALICE)
    assert refusal(got) == (403, "DENIED")
    assert "www-authenticate" not in dict(got.headers)
    assert application.handled == []


async def test_wrong_credentials_are_refused_also_where_none_are_needed() -> None:
    application = Application(authorizer=SingleAuthorizer("all", has_user=True))
    wrong = ("authorization", "Basic AAAA")
    assert refusal(await application.ask("GET", "/v2/a/tags/list", wrong)) == (401, "UNAUTHORIZED")
    assert (await application.ask("GET", "/v2/a/tags/list")).status == 200
    # What operators ask is open to everybody, whatever they send.
    assert (await application.ask("GET", "/healthz", wrong)).status == 200


async def test_handler_is_not_asked_for_a_name_outside_the_grammar() -> None:
    application = Application()
    assert refusal(await application.ask("GET", "/v2/../tags/list", ALICE)) == (400, "NAME_INVALID")
    assert application.handled == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v2/lost", 404), ("PATCH", "/healthz", 405), ("BREW", "/healthz", 405)],
)
async def test_refusal_has_the_form_of_the_specification(method: str, path: str, status: int) -> None:
    got = await Application().ask(method, path)
    assert got.status == status
    assert set(json.loads(got.body)) == {"errors"}


async def test_head_of_a_refusal_has_no_body() -> None:
    got = await Application().ask("HEAD", "/v2/lost")
    assert (got.status, got.body) == (404, b"")
    assert int(dict(got.headers)["content-length"]) > 0


async def test_mistake_of_ours_is_logged_with_the_number_that_the_client_gets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        got = await Application().ask("GET", "/v2/broken")
    assert refusal(got) == (500, "UNKNOWN")
    (record,) = caplog.records
    details: dict[str, Any] = json.loads(got.body)["errors"][0]["detail"]
    assert record.__dict__["request"] == details["request"]
    assert "ZeroDivisionError" not in got.body.decode()
    assert record.exc_info is not None, "the log line has no traceback"
    assert record.exc_info[0] is ZeroDivisionError


async def test_headers_of_the_registry_interface() -> None:
    application = Application(notice='back "soon"')
    for path in ("/v2/lost", "/v2/nowhere", "/v2/broken"):
        headers = dict((await application.ask("GET", path)).headers)
        assert headers["docker-distribution-api-version"] == "registry/2.0"
        assert headers["warning"] == '299 - "back \\"soon\\""'
    headers = dict((await application.ask("GET", "/healthz")).headers)
    assert not {"docker-distribution-api-version", "warning"} & set(headers)


async def test_no_notice_no_warning() -> None:
    assert "warning" not in dict((await Application().ask("GET", "/v2/lost")).headers)


async def test_rate_is_counted_for_each_client() -> None:
    application = Application(per_second=1)
    assert (await application.ask("GET", "/healthz", client="192.0.2.1:1")).status == 200
    got = await application.ask("GET", "/healthz", client="192.0.2.1:2")
    assert refusal(got) == (429, "TOOMANYREQUESTS")
    assert int(dict(got.headers)["retry-after"]) >= 1
    assert (await application.ask("GET", "/healthz", client="192.0.2.2:1")).status == 200


async def test_body_of_a_refused_request_is_read_so_that_the_client_sees_the_answer() -> None:
    application = Application()
    pieces = [b"x" * 1000] * 10
    length = ("content-length", "10000")
    assert (await application.ask("PUT", "/v2/a/manifests/1", length, body=pieces)).status == 401
    assert application.counted("trow_http_received_bytes_total") == "trow_http_received_bytes_total 10000.0"


async def test_body_of_a_refused_request_is_not_read_without_end() -> None:
    application = Application()
    pieces = [b"x" * 1024 * 1024] * 64
    length = ("content-length", str(64 * 1024 * 1024))
    assert (await application.ask("PUT", "/v2/a/manifests/1", length, body=pieces)).status == 401
    received = float(application.counted("trow_http_received_bytes_total").split()[1])
    assert received <= 16 * 1024 * 1024


async def test_series_do_not_grow_with_what_clients_make_up() -> None:
    application = Application()
    for number in range(20):
        await application.ask(f"BREW{number}", f"/nowhere/{number}")
    lines = [line for line in application.metrics.text().decode().splitlines() if "trow_http_requests_total{" in line]
    assert lines == ['trow_http_requests_total{method="(none)",route="(none)",status="404"} 20.0']


async def test_sent_bytes_are_those_of_bodies() -> None:
    application = Application()
    await application.ask("GET", "/healthz")
    await application.ask("HEAD", "/healthz")
    assert application.counted("trow_http_sent_bytes_total") == "trow_http_sent_bytes_total 4.0"


async def test_browser_of_a_named_origin() -> None:
    application = Application(origins=["https://ui.example.com"])
    origin = ("origin", "https://ui.example.com")
    asks = ("access-control-request-method", "PUT")
    preflight = await application.ask("OPTIONS", "/v2/a/manifests/1", origin, asks)
    assert preflight.status == 204
    assert dict(preflight.headers)["access-control-allow-origin"] == "https://ui.example.com"
    refused = await application.ask("GET", "/v2/lost", origin)
    assert dict(refused.headers)["access-control-allow-origin"] == "https://ui.example.com"
    assert (await application.ask("OPTIONS", "/healthz", origin)).status == 405


@pytest.mark.parametrize("path", ["/v2/lost", "/healthz"])
async def test_every_request_is_answered_whatever_its_origin_says(path: str) -> None:
    application = Application(origins=["https://ui.example.com"])
    twice = [("origin", "https://ui.example.com")] * 2
    assert 200 <= (await application.ask("GET", path, *twice)).status < 500
    assert 200 <= (await application.ask("GET", path, ("origin", "x" * 10_000))).status < 500
