from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.core import REPO
from support.loop import run
from trow.identity.single import NoAuthenticator, SingleAuthorizer, SingleUser
from trow.oci.errors import Unauthorized
from trow.registry.ports import ANONYMOUS, Identity, Permission

if TYPE_CHECKING:
    from collections.abc import Collection

ALICE = Identity("alice")
SECRET = "correct: horse"  # a colon may stand in a password
ALL = set(Permission)
LETTERS = st.characters(exclude_categories=["Cs"])  # the others have no UTF-8


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def authenticator() -> SingleUser:
    return SingleUser("alice", SECRET)


async def test_nobody_can_log_in_where_there_is_no_user() -> None:
    for authorization in (None, basic("alice", SECRET), "nonsense"):
        assert await NoAuthenticator().identify(authorization) is ANONYMOUS
    assert not NoAuthenticator().challenge


async def test_right_credentials(authenticator: SingleUser) -> None:
    assert await authenticator.identify(basic("alice", SECRET)) == ALICE
    assert await authenticator.identify(basic("alice", SECRET).replace("Basic", "bAsIc")) == ALICE
    assert not ALICE.anonymous


async def test_no_credentials_are_nobody(authenticator: SingleUser) -> None:
    assert await authenticator.identify(None) is ANONYMOUS
    assert await authenticator.identify(basic("", "")) is ANONYMOUS  # some clients send these when they have none
    assert ANONYMOUS.anonymous


async def test_credentials_beyond_ascii() -> None:
    assert await SingleUser("ålice", "pässword").identify(basic("ålice", "pässword")) == Identity("ålice")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YWxpY2U",
        "Basic ÄÖ",
        f"Bearer {basic('alice', SECRET)[6:]}",
        basic("alice", SECRET)[6:],
        basic("alice", "") + "AAAA",
        basic("alice", ""),
        basic("", SECRET),
        basic("alice", SECRET + "x"),
        basic("alice", SECRET[:-1]),
        basic("Alice", SECRET),
        basic("alice:correct", " horse")[:-1],
        basic("alice", SECRET) + " x",
        "Basic " + "A" * 5000,
        "Digest username=alice",
    ],
)
async def test_wrong_credentials(authenticator: SingleUser, authorization: str) -> None:
    with pytest.raises(Unauthorized):
        await authenticator.identify(authorization)


@given(st.text(LETTERS, min_size=1), st.text(LETTERS, min_size=1))
@example("alice", "secre")
@example("alice:secret", "x")
def test_only_the_right_pair_is_alice(user: str, password: str) -> None:
    authenticator = SingleUser("alice", "secret")
    with pytest.raises(Unauthorized):
        run(authenticator.identify(basic(user, password)))


async def test_comparison_tells_nothing_by_its_time(monkeypatch: pytest.MonkeyPatch, authenticator: SingleUser) -> None:
    compared: list[tuple[bytes, bytes]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr("trow.identity.single.hmac.compare_digest", compare)
    for password in ("", "x", "x" * 1000, SECRET[:-1]):
        with pytest.raises(Unauthorized):
            await authenticator.identify(basic("alice", password))
    assert len(compared) == 4
    assert {len(side) for pair in compared for side in pair} == {64}
    assert all(SECRET.encode() not in side for pair in compared for side in pair)


async def test_error_and_challenge_do_not_repeat_the_credentials(authenticator: SingleUser) -> None:
    with pytest.raises(Unauthorized) as caught:
        await authenticator.identify(basic("mallory", "guess"))
    said = f"{caught.value.message} {caught.value.detail} {authenticator.challenge}"
    assert not any(word in said for word in ("mallory", "guess", "alice", SECRET))
    assert authenticator.challenge.startswith("Basic realm=")


@pytest.mark.parametrize(
    ("anonymous", "has_user", "granted"),
    [
        ("none", True, set()),
        # With a user the ping asks for credentials, or no client would ever send them.
        ("pull", True, {Permission.PULL, Permission.CATALOG}),
        ("all", True, ALL - {Permission.PING}),
        # Without one there is nothing to log in with.
        ("pull", False, {Permission.PING, Permission.PULL, Permission.CATALOG}),
        ("all", False, ALL),
    ],
)
async def test_what_the_anonymous_may_do(
    anonymous: Literal["none", "pull", "all"],
    has_user: bool,  # noqa: FBT001
    granted: Collection[Permission],
) -> None:
    authorizer = SingleAuthorizer(anonymous, has_user=has_user)
    allowed = {each for each in Permission if await authorizer.allows(ANONYMOUS, each, REPO)}
    assert allowed - {Permission.OPEN} == {*granted} - {Permission.OPEN}  # nobody asks for what is open


@pytest.mark.parametrize("anonymous", ["none", "pull", "all"])
async def test_user_may_do_everything(anonymous: Literal["none", "pull", "all"]) -> None:
    authorizer = SingleAuthorizer(anonymous, has_user=True)
    assert {each for each in Permission if await authorizer.allows(ALICE, each, REPO)} == ALL
