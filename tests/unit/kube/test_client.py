"""Requests to the API server, and every way in which they fail."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from support.apiserver import Answer, ApiServer
from trow.access.reviews import SubjectAccessReviewStatus, TokenReviewStatus
from trow.kube import reviews
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.reviews import Reviews
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "secret.token.value"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer.start() as running:
        yield running


async def ask(
    access: ClusterAccess, times: int = 1, seconds: float = 5.0, observe: Callable[[str, float], None] | None = None
) -> SubjectAccessReviewStatus:
    """The last answer of several questions, one after another."""
    client = KubeClient(access, total_seconds=seconds, connect_seconds=seconds, observe=observe)
    asks = Reviews(client)
    try:
        for _ in range(times - 1):
            await asks.access("ann", "", (), (), {})
        return await asks.access("ann", "1", ("dev",), (("k", ("v",)),), {"verb": "get", "resource": "repositories"})
    finally:
        await client.close()


async def trouble(access: ClusterAccess, seconds: float = 5.0) -> str:
    with pytest.raises(Unavailable) as caught:
        await ask(access, seconds=seconds)
    assert TOKEN not in caught.value.message
    return caught.value.message


async def test_access_is_asked_in_the_words_of_kubernetes(server: ApiServer) -> None:
    server.reply = lambda kind, spec: {"allowed": True, "reason": f"{kind} ok"}
    answer = await ask(ClusterAccess(server.url, token=TOKEN))
    assert answer == SubjectAccessReviewStatus(allowed=True, reason="SubjectAccessReview ok")
    assert server.specs == [
        {
            "user": "ann",
            "uid": "1",
            "groups": ["dev"],
            "extra": {"k": ["v"]},
            "resourceAttributes": {"verb": "get", "resource": "repositories"},
        }
    ]
    assert server.authorizations == [f"Bearer {TOKEN}"]


async def test_a_token_is_asked_about_with_its_audiences(server: ApiServer) -> None:
    user = {"username": "system:serviceaccount:a:b", "uid": "7", "groups": ["g"], "extra": {"k": ["v"]}}
    server.reply = lambda kind, spec: {"authenticated": True, "audiences": spec["audiences"], "user": user}
    client = KubeClient(ClusterAccess(server.url))
    answer = await Reviews(client).token("x.y.z", ["registry"])
    await client.close()
    assert (answer.authenticated, answer.audiences) == (True, ("registry",))
    assert (answer.user.username, answer.user.uid, answer.user.groups) == ("system:serviceaccount:a:b", "7", ("g",))
    assert answer.user.extra == {"k": ("v",)}
    assert server.authorizations == [""]


def test_a_review_is_never_written_with_its_token() -> None:
    assert "x.y.z" not in repr(reviews._TokenQuestion(reviews._TokenSpec("x.y.z", ("a",))))  # noqa: SLF001


async def test_a_token_that_is_not_accepted_has_no_user(server: ApiServer) -> None:
    server.reply = lambda kind, spec: {"user": {}, "error": "invalid bearer token"}
    client = KubeClient(ClusterAccess(server.url))
    assert await Reviews(client).token("x.y.z", ["r"]) == TokenReviewStatus(error="invalid bearer token")
    await client.close()


async def test_a_rotated_token_is_read_again(server: ApiServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n", "utf-8")
    client = KubeClient(ClusterAccess(server.url, token=file))
    asks = Reviews(client)
    await asks.access("ann", "", (), (), {})
    replaced = tmp_path / "new"
    replaced.write_text("other\n", "utf-8")
    os.replace(replaced, file)  # noqa: PTH105 - as the kubelet does it
    await asks.access("ann", "", (), (), {})
    await client.close()
    assert server.authorizations == ["Bearer first", "Bearer other"]


async def test_a_missing_token_file_is_named(server: ApiServer, tmp_path: Path) -> None:
    assert "token cannot be read from" in await trouble(ClusterAccess(server.url, token=tmp_path / "token"))
    assert server.specs == []


@pytest.mark.parametrize("content", ["", "two words secret", "line\r\nX-Secret: 1", "s\u00e9cret"])
async def test_a_token_that_would_be_another_header_is_not_sent(
    server: ApiServer, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    message = await trouble(ClusterAccess(server.url, token=file))
    assert "is not a bearer token" in message
    assert "ecret" not in message
    assert server.specs == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "own credentials.*system:auth-delegator"),
        (403, "subjectaccessreviews.*system:auth-delegator"),
        (429, "too often"),
        (500, "status 500"),
        (503, "status 503"),
        (302, "status 302"),
        (404, "status 404"),
        (204, "status 204"),
    ],
)
async def test_a_status_is_told_in_words(server: ApiServer, status: int, message: str) -> None:
    server.reply = lambda kind, spec: Answer({"message": TOKEN}, status, {"Location": "/elsewhere"})
    with pytest.raises(Unavailable, match=message):
        await ask(ClusterAccess(server.url, token=TOKEN))
    assert set(server.requests) == {"/apis/authorization.k8s.io/v1/subjectaccessreviews"}


def review(**changes: Any) -> dict[str, Any]:
    usual = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": {"allowed": True}}
    return {key: value for key, value in (usual | changes).items() if value is not None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        review(kind="TokenReview"),
        review(kind=None),
        review(apiVersion="authorization.k8s.io/v2"),
        review(status=None),
        review(status={}),
        review(status={"allowed": "true"}),
        review(status={"allowed": 1}),
        review(status={"allowed": True, "denied": "no"}),
        review(status={"allowed": True, "reason": ["x"]}),
        review(status=[]),
    ],
)
async def test_a_lie_is_no_answer(server: ApiServer, body: object) -> None:
    server.reply = lambda kind, spec: Answer(body)
    with pytest.raises(Unavailable, match="something else than SubjectAccessReview"):
        await ask(ClusterAccess(server.url))


@pytest.mark.parametrize("status", [{"authenticated": True}, {"authenticated": True, "user": {"groups": ["g"]}}])
async def test_a_token_of_nobody_is_no_answer(server: ApiServer, status: dict[str, Any]) -> None:
    server.reply = lambda kind, spec: status
    client = KubeClient(ClusterAccess(server.url))
    with pytest.raises(Unavailable, match="whose it is"):
        await Reviews(client).token("x.y.z", ["r"])
    await client.close()


async def test_an_endless_answer_is_cut(server: ApiServer) -> None:
    server.reply = lambda kind, spec: Answer(b" " * (1 << 20) + b" ")
    assert "more than 1048576 bytes" in await trouble(ClusterAccess(server.url))


async def test_a_slow_server_is_given_up(server: ApiServer) -> None:
    server.delay = 30
    began = time.monotonic()
    assert "does not answer within 0.2 s" in await trouble(ClusterAccess(server.url), seconds=0.2)
    assert time.monotonic() - began < 5


async def test_a_server_that_is_down_is_named(server: ApiServer) -> None:
    server.down()
    message = await trouble(ClusterAccess(server.url, token=TOKEN))
    assert server.url in message
    assert "cannot be reached" in message


async def test_a_connection_that_ends_is_tried_once_more(server: ApiServer) -> None:
    server.broken = True
    assert "closes the connection" in await trouble(ClusterAccess(server.url))
    assert server.requests.total() == 2


async def test_a_restarted_server_is_found_again(server: ApiServer) -> None:
    client = KubeClient(ClusterAccess(server.url))
    asks = Reviews(client)
    await asks.access("ann", "", (), (), {})
    await asyncio.to_thread(server.down)
    await asyncio.to_thread(server.up)
    assert not (await asks.access("ann", "", (), (), {})).allowed
    await client.close()


async def test_the_certificate_is_verified(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = tmp_path / "ca.crt"
    other.cert_pem.write_to_path(str(ca))
    with ApiServer.start(context) as server:
        client = KubeClient(ClusterAccess(server.url, ca=ca, token=TOKEN))
        asks = Reviews(client)
        with pytest.raises(Unavailable, match="certificate that is not trusted"):
            await asks.access("ann", "", (), (), {})
        assert server.specs == []
        # A renewed authority is noticed without a restart.
        authority.cert_pem.write_to_path(str(ca))
        with pytest.raises(Unavailable):
            await asks.access("ann", "", (), (), {})
        assert not (await asks.access("ann", "", (), (), {})).allowed
        await client.close()


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example.com").configure_cert(context)
    with ApiServer.start(context) as server:
        assert "not trusted" in await trouble(ClusterAccess(server.url, ca=authority.cert_pem.bytes().decode()))


async def test_a_certificate_for_the_name_that_is_expected_is_trusted() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example.com").configure_cert(context)
    ca = authority.cert_pem.bytes().decode()
    with ApiServer.start(context) as server:
        client = KubeClient(ClusterAccess(server.url, ca=ca, server_name="elsewhere.example.com", token=TOKEN))
        assert not (await Reviews(client).access("ann", "", (), (), {})).allowed
        await client.close()


async def ask_many(server: ApiServer, seconds: float) -> list[type]:
    """What a hundred questions at once come to."""
    client = KubeClient(ClusterAccess(server.url), total_seconds=seconds)
    asks = Reviews(client)
    asked = [asks.access(f"user-{number}", "", (), (), {}) for number in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await client.close()
    return [type(answer) for answer in answers]


async def test_few_requests_are_under_way_at_once(server: ApiServer) -> None:
    server.delay = 0.05
    assert set(await ask_many(server, seconds=20)) == {SubjectAccessReviewStatus}
    assert 1 < server.busiest <= 32


async def test_who_waits_for_others_is_given_up_too(server: ApiServer) -> None:
    server.delay = 30
    began = time.monotonic()
    assert set(await ask_many(server, seconds=0.3)) == {Unavailable}
    assert time.monotonic() - began < 5


async def test_each_request_is_observed(server: ApiServer) -> None:
    seen: list[tuple[str, float]] = []
    await ask(ClusterAccess(server.url), observe=lambda operation, seconds: seen.append((operation, seconds)))
    server.down()
    with pytest.raises(Unavailable):
        await ask(ClusterAccess(server.url), observe=lambda operation, seconds: seen.append((operation, seconds)))
    assert [operation for operation, _ in seen] == ["subjectaccessreview"] * 2
    assert all(0 <= seconds < 5 for _, seconds in seen)
