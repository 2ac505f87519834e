from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from support import gates
from support.requests import Headers, Scope, Transport
from support.waiting import eventually
from trow.access.permissions import Permission
from trow.http.connections import Connections
from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.limits import RateLimit
from trow.http.metrics import Metrics
from trow.http.pace import Pace
from trow.http.response import Response
from trow.http.route import Unrecorded
from trow.http.routes import Endpoint, Listener, Router
from trow.http.sites import Sites
from trow.lib.shares import Bounds
from trow.oci.errors import BlobUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from support.fixtures import Make
    from support.gates import World
    from trow.http.request import Request

ALICE = ("authorization", gates.ALICE)
BOB = ("authorization", gates.BOB)
PATH = "/v2/team-a/app/tags/list"
NOTHING = Unrecorded("these handlers only answer")


class Application:
    """A dispatcher with three routes, and what they were asked."""

    def __init__(self, world: World, *, per_second: int = 0, origins: Sequence[str] = (), notice: str = "") -> None:
        self.metrics = Metrics()
        self.handled: list[str] = []
        self.go_on = asyncio.Event()
        self.waiting = 0
        routes = (
            Endpoint("GET", "/v2/{repository}/tags/list", Permission.PULL, NOTHING, self.fine),
            Endpoint("PUT", "/v2/{repository}/manifests/{reference}", Permission.PUSH, NOTHING, self.body),
            Endpoint("GET", "/v2/lost", Permission.OPEN, NOTHING, self.lost),
            Endpoint("GET", "/v2/broken", Permission.OPEN, NOTHING, self.broken),
            Endpoint("GET", "/healthz", Permission.OPEN, NOTHING, self.fine, Listener.ALL),
        )
        self.dispatcher = Dispatcher(
            Router(routes),
            world.access,
            world.peers,
            connections=Connections(Bounds(4, 3, 4, 4, 1), 2**20, Bounds(4, 2, 0, 0, 0)),
            metrics=self.metrics,
            rate_limit=RateLimit(per_second, 1) if per_second else None,
            cors=Cors(origins) if origins else None,
            sites=Sites(None, origins, own=True),
            access_log=None,
            pace=Pace(5),
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

    async def unending(self, method: str, path: str, *headers: tuple[str, str]) -> Transport:
        """Ask, and end the body when the test says so."""
        application = self

        class Unending(Transport):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                application.waiting += 1
                await application.go_on.wait()
                yield b"the end"

        scope = Scope(
            method=method, path=path, headers=Headers([("host", "registry.test"), *headers]), client="192.0.2.1:9"
        )
        transport = Unending()
        await self.dispatcher.__rsgi__(scope, transport)
        return transport

    async def ask(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str],
        body: Sequence[bytes] = (),
        client: str = "192.0.2.1:1",
        host: str = "registry.test",
    ) -> Transport:
        transport = Transport(*body)
        scope = Scope(method=method, path=path, headers=Headers([("host", host), *headers]), client=client)
        await self.dispatcher.__rsgi__(scope, transport)
        return transport

    def counted(self, name: str) -> str:
        return next(line for line in self.metrics.text().decode().splitlines() if line.startswith(name))


@pytest.fixture
def application(world: World) -> Application:
    return Application(world)


def refusal(got: Transport) -> tuple[int, str]:
    (error,) = json.loads(got.body)["errors"]
    return got.status, error["code"]


async def test_user_is_known_to_the_handler(application: Application) -> None:
    got = await application.ask("GET", PATH, ALICE)
    assert (got.status, got.body) == (200, b"body")
    assert application.handled == ["alice:team-a/app"]


async def test_nobody_gets_a_challenge_and_no_handler_runs(application: Application) -> None:
    got = await application.ask("GET", PATH, host="registry.example")
    assert refusal(got) == (401, "UNAUTHORIZED")
    assert dict(got.headers)["www-authenticate"] == (
        'Bearer realm="http://registry.example/token",service="trow",scope="repository:team-a/app:pull"'
    )
    assert application.handled == []


async def test_user_without_the_permission_is_denied(application: Application) -> None:
    got = await application.ask("GET", PATH, BOB)
    assert refusal(got) == (403, "DENIED")
    assert "www-authenticate" not in dict(got.headers)
    assert application.handled == []


async def test_wrong_credentials_are_refused_also_where_none_are_needed(make: Make) -> None:
    application = Application(make(anonymous="pull"))
    wrong = ("authorization", "Basic AAAA")
    assert refusal(await application.ask("GET", PATH, wrong)) == (401, "UNAUTHORIZED")
    assert (await application.ask("GET", PATH)).status == 200
    # What operators ask is open to everybody, whatever they send.
    assert (await application.ask("GET", "/healthz", wrong)).status == 200


async def test_of_one_source_half_of_the_requests_under_way_are_and_operators_are_answered(
    application: Application,
) -> None:
    """Over HTTP/2 there are many over one connection, and each may have a body that does not end."""
    put = ("PUT", "/v2/team-a/app/manifests/x", ALICE)
    slow = [asyncio.create_task(application.unending(*put)) for _ in range(2)]
    await eventually(lambda: application.waiting == 2)
    assert refusal(await application.ask(*put, body=[b"a"])) == (429, "TOOMANYREQUESTS")
    assert (await application.ask("GET", "/healthz")).status == 200
    assert (await application.ask(*put, body=[b"a"], client="192.0.2.2:1")).status == 201
    application.go_on.set()
    await asyncio.gather(*slow)
    assert (await application.ask(*put, body=[b"a"])).status == 201


async def test_requests_that_are_cut_off_have_ended_when_what_they_need_ends(application: Application) -> None:
    slow = [asyncio.create_task(application.unending("PUT", "/v2/team-a/app/manifests/x", ALICE)) for _ in range(2)]
    await eventually(lambda: application.waiting == 2)
    await application.dispatcher.cut_off()
    assert all(task.done() for task in slow)
    assert [refusal(await task) for task in slow] == [(503, "UNAVAILABLE")] * 2
    await application.dispatcher.cut_off()


async def test_handler_is_not_asked_for_a_name_outside_the_grammar(application: Application) -> None:
    assert refusal(await application.ask("GET", "/v2/../tags/list", ALICE)) == (400, "NAME_INVALID")
    assert application.handled == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v2/lost", 404), ("PATCH", "/healthz", 405), ("BREW", "/healthz", 405)],
)
async def test_refusal_has_the_form_of_the_specification(
    application: Application, method: str, path: str, status: int
) -> None:
    got = await application.ask(method, path)
    assert got.status == status
    assert set(json.loads(got.body)) == {"errors"}


async def test_head_of_a_refusal_has_no_body(application: Application) -> None:
    got = await application.ask("HEAD", "/v2/lost")
    assert (got.status, got.body) == (404, b"")
    assert int(dict(got.headers)["content-length"]) > 0


async def test_mistake_of_ours_is_logged_with_the_number_that_the_client_gets(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        got = await application.ask("GET", "/v2/broken")
    assert refusal(got) == (500, "UNKNOWN")
    (record,) = caplog.records
    details: dict[str, Any] = json.loads(got.body)["errors"][0]["detail"]
    assert record.__dict__["request"] == details["request"] == dict(got.headers)["x-request-id"]
    assert "ZeroDivisionError" not in got.body.decode()
    assert record.exc_info is not None, "the log line has no traceback"
    assert record.exc_info[0] is ZeroDivisionError


async def test_headers_of_the_registry_interface(world: World) -> None:
    application = Application(world, notice='back "soon"')
    for path in ("/v2/lost", "/v2/nowhere", "/v2/broken"):
        headers = dict((await application.ask("GET", path)).headers)
        assert headers["docker-distribution-api-version"] == "registry/2.0"
        assert headers["warning"] == '299 - "back \\"soon\\""'
    headers = dict((await application.ask("GET", "/healthz")).headers)
    assert not {"docker-distribution-api-version", "warning"} & set(headers)


async def test_no_notice_no_warning(application: Application) -> None:
    assert "warning" not in dict((await application.ask("GET", "/v2/lost")).headers)


async def test_every_answer_has_the_number_of_its_request(application: Application) -> None:
    asked = [("GET", PATH), ("GET", "/v2/lost"), ("GET", "/v2/broken"), ("GET", "/nowhere"), ("HEAD", "/healthz")]
    numbers = [dict((await application.ask(*each)).headers)["x-request-id"] for each in asked]
    assert len(set(numbers)) == len(asked)


async def test_client_cannot_choose_the_number_of_its_request(application: Application) -> None:
    got = await application.ask("GET", "/healthz", ("x-request-id", "mine"))
    assert [value for name, value in got.headers if name == "x-request-id"] != ["mine"]


async def test_what_is_open_asks_nobody_who_they_are(application: Application, world: World) -> None:
    for _ in range(100):
        assert (await application.ask("GET", "/healthz", ("authorization", "Bearer wrong"))).status == 200
    assert world.audit.events == []


async def test_rate_is_counted_for_each_client(world: World) -> None:
    application = Application(world, per_second=1)
    assert (await application.ask("GET", "/healthz", client="192.0.2.1:1")).status == 200
    got = await application.ask("GET", "/healthz", client="192.0.2.1:2")
    assert refusal(got) == (429, "TOOMANYREQUESTS")
    assert int(dict(got.headers)["retry-after"]) >= 1
    assert (await application.ask("GET", "/healthz", client="192.0.2.2:1")).status == 200


async def test_body_of_a_refused_request_is_read_so_that_the_client_sees_the_answer(application: Application) -> None:
    pieces = [b"x" * 1000] * 10
    length = ("content-length", "10000")
    assert (await application.ask("PUT", "/v2/a/manifests/1", length, body=pieces)).status == 401
    assert application.counted("trow_http_received_bytes_total") == "trow_http_received_bytes_total 10000.0"


async def test_body_of_a_refused_request_is_not_read_without_end(application: Application) -> None:
    pieces = [b"x" * 1024 * 1024] * 64
    length = ("content-length", str(64 * 1024 * 1024))
    assert (await application.ask("PUT", "/v2/a/manifests/1", length, body=pieces)).status == 401
    received = float(application.counted("trow_http_received_bytes_total").split()[1])
    assert received <= 16 * 1024 * 1024


async def test_series_do_not_grow_with_what_clients_make_up(application: Application) -> None:
    for number in range(20):
        await application.ask(f"BREW{number}", f"/nowhere/{number}")
    lines = [line for line in application.metrics.text().decode().splitlines() if "trow_http_requests_total{" in line]
    assert lines == ['trow_http_requests_total{method="(none)",route="(none)",status="404"} 20.0']


async def test_sent_bytes_are_those_of_bodies(application: Application) -> None:
    await application.ask("GET", "/healthz")
    await application.ask("HEAD", "/healthz")
    assert application.counted("trow_http_sent_bytes_total") == "trow_http_sent_bytes_total 4.0"


async def test_browser_of_a_named_origin(world: World) -> None:
    application = Application(world, origins=["https://ui.example.com"])
    origin = ("origin", "https://ui.example.com")
    asks = ("access-control-request-method", "PUT")
    preflight = await application.ask("OPTIONS", "/v2/a/manifests/1", origin, asks)
    assert preflight.status == 204
    assert dict(preflight.headers)["access-control-allow-origin"] == "https://ui.example.com"
    refused = await application.ask("GET", "/v2/lost", origin)
    assert dict(refused.headers)["access-control-allow-origin"] == "https://ui.example.com"
    assert (await application.ask("OPTIONS", "/healthz", origin)).status == 405


@pytest.mark.parametrize("path", ["/v2/lost", "/healthz"])
async def test_every_request_is_answered_whatever_its_origin_says(world: World, path: str) -> None:
    application = Application(world, origins=["https://ui.example.com"])
    twice = [("origin", "https://ui.example.com")] * 2
    assert 200 <= (await application.ask("GET", path, *twice)).status < 500
    assert 200 <= (await application.ask("GET", path, ("origin", "x" * 10_000))).status < 500
