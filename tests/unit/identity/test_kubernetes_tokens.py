"""ServiceAccount tokens as credentials: what is asked, what is believed, and for how long."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from trow.access.identity import Method, Workload
from trow.access.reviews import TokenReviewStatus, UserInfo
from trow.identity.service_accounts import ServiceAccountTokens
from trow.lib.single_flight import SingleFlight
from trow.oci.errors import Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

AUDIENCE = "registry.example.com"
NAME = "system:serviceaccount:team-a:default"
NOW = 1_700_000_000.0
_CLUSTER = "authentication.kubernetes.io/"


def token(name: str = "a", **claims: Any) -> str:
    """The shape of one; whether it is good the cluster says."""
    payload = json.dumps({"exp": NOW + 3600, "n": name} | claims).encode()
    return f"eyJhbGciOiJFUzI1NiJ9.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


def accepted(name: str = NAME, audiences: Sequence[str] = (AUDIENCE,), **user: Any) -> TokenReviewStatus:
    return TokenReviewStatus(authenticated=True, user=UserInfo(name, **user), audiences=tuple(audiences))


@dataclass
class FakeTokens:
    """Reviews as a test says."""

    status: TokenReviewStatus | Exception = field(default_factory=accepted)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    now: float = NOW

    def clock(self) -> float:
        return self.now

    async def token(self, token: str, audiences: Sequence[str]) -> TokenReviewStatus:
        self.asked.append((token, tuple(audiences)))
        if self.gate:
            await self.gate.wait()
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


@pytest.fixture
def cluster() -> FakeTokens:
    return FakeTokens()


@pytest.fixture
def tokens(cluster: FakeTokens) -> ServiceAccountTokens:
    return ServiceAccountTokens(cluster, [AUDIENCE, "other"], cluster.clock)


async def test_a_token_is_its_service_account(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    extra = {
        f"{_CLUSTER}pod-name": ("web",),
        f"{_CLUSTER}pod-uid": ("p-1",),
        f"{_CLUSTER}node-name": ("node-3",),
        f"{_CLUSTER}node-uid": ("n-1",),
        f"{_CLUSTER}credential-id": ("JTI=42",),
    }
    cluster.status = accepted(uid="u-1", groups=("system:serviceaccounts", "system:authenticated"), extra=extra)
    identity = await tokens.verify(token())
    assert (identity.name, identity.method, identity.uid) == (NAME, Method.KUBERNETES, "u-1")
    assert identity.groups == ("system:authenticated", "system:serviceaccounts")
    assert identity.extra == tuple(sorted(extra.items()))
    assert identity.credential == "JTI=42"
    assert identity.workload == Workload("team-a", "default", "web", "p-1", "node-3", "n-1")
    assert cluster.asked == [(token(), (AUDIENCE, "other"))]


async def test_a_token_without_an_id_is_told_by_a_part_of_its_hash(tokens: ServiceAccountTokens) -> None:
    first, second = await tokens.verify(token("a")), await tokens.verify(token("b"))
    assert first.credential.startswith("sha256:")
    assert len(first.credential) == len("sha256:") + 16
    assert first.credential != second.credential


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (TokenReviewStatus(error="expired secret"), "expired.*gone.*another audience"),
        (TokenReviewStatus(audiences=(AUDIENCE,), user=UserInfo(NAME)), "expired.*gone.*another audience"),
        (accepted(audiences=()), "for the API server"),
        (accepted(audiences=("https://kubernetes.default.svc",)), "for the API server"),
        (accepted("ann"), "OIDC"),
        (accepted("system:admin"), "OIDC"),
        (accepted("system:node:n1"), "OIDC"),
        (accepted("system:serviceaccount:"), "OIDC"),
        (accepted("system:serviceaccount:team-a"), "OIDC"),
        (accepted("system:serviceaccount:team-a:"), "OIDC"),
        (accepted("system:serviceaccount:team-a:x:y"), "OIDC"),
        (accepted("system:serviceaccount:Team:x"), "OIDC"),
        (accepted("system:serviceaccount:team-a:x\n"), "OIDC"),
        (accepted("Xsystem:serviceaccount:team-a:x"), "OIDC"),
    ],
)
async def test_refused_with_the_reason(
    cluster: FakeTokens, tokens: ServiceAccountTokens, status: TokenReviewStatus, message: str
) -> None:
    cluster.status = status
    for _ in range(2):  # asked, and remembered
        with pytest.raises(Unauthorized, match=message) as caught:
            await tokens.verify(token())
        assert "secret" not in caught.value.message
        assert token() not in caught.value.message
    assert len(cluster.asked) == 1


@pytest.mark.parametrize("audience", [AUDIENCE, "other"])
async def test_one_common_audience_is_enough(cluster: FakeTokens, tokens: ServiceAccountTokens, audience: str) -> None:
    cluster.status = accepted(audiences=["elsewhere", audience])
    assert (await tokens.verify(token())).name == NAME


@pytest.mark.parametrize(
    "garbage",
    ["", "a", "a.b", "a..c", ".b.c", "a.b.c.d", "a.b.c\n", "a b.c.d", "é.é.é", "." * 10_000_000, "a." * 20_000],
)
async def test_cve_2025_30204_garbage_is_refused_before_it_is_split_or_asked_about(
    cluster: FakeTokens, tokens: ServiceAccountTokens, garbage: str
) -> None:
    with pytest.raises(Unauthorized, match="is not the token of a ServiceAccount"):
        await tokens.verify(garbage)
    assert cluster.asked == []


async def test_a_token_longer_than_16_kib_is_not_asked_about(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    fitting = "eyJ.b." + "c" * (16 * 1024 - 6)
    await tokens.verify(fitting)
    with pytest.raises(Unauthorized):
        await tokens.verify(fitting + "c")
    assert len(cluster.asked) == 1


async def test_a_good_token_is_asked_about_once_a_minute(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    for seconds in (0, 30, 59.9):
        cluster.now = NOW + seconds
        await tokens.verify(token())
    assert len(cluster.asked) == 1
    cluster.now = NOW + 60
    await tokens.verify(token())
    assert len(cluster.asked) == 2


async def test_a_token_is_not_remembered_beyond_its_life(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    short = token(exp=NOW + 10)
    await tokens.verify(short)
    cluster.now = NOW + 9.9
    await tokens.verify(short)
    assert len(cluster.asked) == 1
    cluster.now = NOW + 10
    await tokens.verify(short)
    assert len(cluster.asked) == 2


@pytest.mark.parametrize(("expiry", "asked"), [(None, 2), ("soon", 2), (NOW - 1, 2), (NOW + 3600, 1)])
async def test_an_end_that_cannot_be_read_is_now(
    cluster: FakeTokens, tokens: ServiceAccountTokens, expiry: object, asked: int
) -> None:
    for _ in range(2):
        await tokens.verify(token(exp=expiry))
    assert len(cluster.asked) == asked


async def test_a_bad_token_is_asked_about_every_five_seconds(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    cluster.status = TokenReviewStatus()
    for seconds in (0, 4.9, 5):
        cluster.now = NOW + seconds
        with pytest.raises(Unauthorized):
            await tokens.verify(token())
    assert len(cluster.asked) == 2


async def test_a_clock_that_is_set_back_makes_nothing_last_longer(
    cluster: FakeTokens, tokens: ServiceAccountTokens
) -> None:
    await tokens.verify(token())
    cluster.now = NOW - 3600
    await tokens.verify(token())
    assert len(cluster.asked) == 2


async def test_while_the_api_server_is_down_what_is_known_counts(
    cluster: FakeTokens, tokens: ServiceAccountTokens
) -> None:
    known = await tokens.verify(token("known"))
    cluster.status = Unavailable("down")
    cluster.now = NOW + 59
    assert await tokens.verify(token("known")) is known
    with pytest.raises(Unavailable):
        await tokens.verify(token("new"))
    cluster.now = NOW + 61
    with pytest.raises(Unavailable):
        await tokens.verify(token("known"))


async def test_a_failure_is_not_remembered(cluster: FakeTokens, tokens: ServiceAccountTokens) -> None:
    cluster.status = Unavailable("down")
    with pytest.raises(Unavailable):
        await tokens.verify(token())
    cluster.status = accepted()
    assert (await tokens.verify(token())).name == NAME


async def test_requests_at_once_with_one_token_are_one_question(
    cluster: FakeTokens, tokens: ServiceAccountTokens
) -> None:
    cluster.gate = asyncio.Event()
    asking = [asyncio.create_task(tokens.verify(token())) for _ in range(20)]
    await asyncio.sleep(0)
    cluster.gate.set()
    assert len({identity.name for identity in await asyncio.gather(*asking)}) == 1
    assert len(cluster.asked) == 1


async def test_a_client_that_vanishes_takes_the_answer_from_nobody(
    cluster: FakeTokens, tokens: ServiceAccountTokens
) -> None:
    cluster.gate = asyncio.Event()
    first, second = (asyncio.create_task(tokens.verify(token())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    cluster.gate.set()
    assert (await second).name == NAME
    assert first.cancelled() or await asyncio.wait([first])
    assert len(cluster.asked) == 1


async def test_wrong_tokens_make_nobody_forget_the_right_ones(
    cluster: FakeTokens, tokens: ServiceAccountTokens
) -> None:
    await tokens.verify(token("right"))
    cluster.status = TokenReviewStatus()
    for number in range(10_001):
        with pytest.raises(Unauthorized):
            await tokens.verify(f"eyJ.b.{number}")
    asked = len(cluster.asked)
    await tokens.verify(token("right"))
    assert len(cluster.asked) == asked


@pytest.mark.parametrize("audiences", [[], [""], ["a", ""]])
def test_audiences_are_required(cluster: FakeTokens, audiences: list[str]) -> None:
    with pytest.raises(ValueError, match="audiences"):
        ServiceAccountTokens(cluster, audiences)


async def test_a_flight_that_everybody_left_ends_quietly() -> None:
    flights: SingleFlight[int] = SingleFlight()
    gate = asyncio.Event()

    async def fail() -> int:
        await gate.wait()
        raise Unavailable("down")

    waiting = asyncio.create_task(flights.share(b"k", fail))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    with pytest.raises(Unavailable):
        await flights.share(b"k", fail)
