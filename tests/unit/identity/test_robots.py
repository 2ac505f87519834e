from __future__ import annotations

import hmac
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.loop import run
from trow.access.identity import Grant, Identity, Method
from trow.access.permissions import Permission, expand
from trow.access.ports import RobotToken
from trow.identity.credentials import Stale
from trow.identity.robots import RobotVerifier, new_token
from trow.lib.globs import RepositoryGlob
from trow.oci.errors import Unauthorized, Unavailable

GRANTS = (Grant(RepositoryGlob.parse("team-a/**"), expand([Permission.PULL, Permission.PUSH])),)
TEXT, TOKEN = new_token("ci", GRANTS, 2000.0, "cli:root", 1000.0)


class Store:
    def __init__(self, *tokens: RobotToken) -> None:
        self.tokens = {token.id: token for token in tokens}
        self.asked: list[str] = []

    async def robot_token(self, id: str) -> RobotToken | None:  # noqa: A002
        self.asked.append(id)
        return self.tokens.get(id)


def robots(*tokens: RobotToken, now: float = 1500.0) -> RobotVerifier:
    return RobotVerifier(Store(*tokens), lambda: now)


def test_a_new_token_is_random_and_stored_as_a_hash() -> None:
    assert re.fullmatch(r"trow_[a-z2-7]{12}_[A-Za-z0-9_-]{43}", TEXT)
    secret = TEXT[-43:]
    assert secret not in repr(TOKEN)
    assert replace(TOKEN, id="", secret_hash="") == RobotToken("", "ci", "", GRANTS, 1000.0, "cli:root", 2000.0)
    others = [new_token("ci", GRANTS, None, "", 0) for _ in range(100)]
    assert len({text for text, _ in others}) == len({token.id for _, token in others}) == 100


@pytest.mark.parametrize(
    ("name", "grants", "expires_at"),
    [
        *((name, GRANTS, None) for name in ("", "CI", "a:b", "-a", "a-", "a" * 65, "a\n", "ä")),
        ("ci", (), None),
        ("ci", (Grant(RepositoryGlob.parse("a"), frozenset()),), None),
        ("ci", GRANTS * 101, None),
        ("ci", (Grant(RepositoryGlob.parse("a" * 250), frozenset({Permission.PULL})),) * 9, None),
        ("ci", (Grant(RepositoryGlob.parse("team-a/**"), expand([Permission.ADMIN])),), None),
        ("ci", (Grant(RepositoryGlob.parse("team-a/**"), expand([Permission.AUDIT])),), None),
        ("ci", GRANTS, 1000.0),
    ],
)
def test_tokens_that_are_not_made(name: str, grants: tuple[Grant, ...], expires_at: float | None) -> None:
    with pytest.raises(ValueError, match=r"token|admin"):
        new_token(name, grants, expires_at, "", 1000.0)


async def test_a_robot_is_known_by_its_token() -> None:
    expected = Identity("robot:ci", Method.ROBOT, TOKEN.id, credential=TOKEN.id, grants=GRANTS)
    assert await robots(TOKEN).verify(TEXT) == expected
    assert await robots(replace(TOKEN, expires_at=None), now=9e9).verify(TEXT) == expected
    assert await robots(TOKEN, now=1999.9).verify(TEXT) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "trow_",
        TEXT[:-1],
        TEXT + "A",
        TEXT + "\n",
        TEXT.upper(),
        TEXT[5:],
        "trow_" + TEXT,
        TEXT.replace("trow_", "trow-"),
    ],
    ids=["empty", "prefix", "short", "long", "newline", "upper", "no prefix", "twice", "dash"],  # TEXT is random
)
async def test_a_malformed_token_is_refused_before_the_store_is_asked(text: str) -> None:
    store = Store(TOKEN)
    with pytest.raises(Unauthorized, match="malformed"):
        await RobotVerifier(store).verify(text)
    assert not store.asked


async def test_a_wrong_secret_says_no_more_than_an_unknown_id() -> None:
    wrong = TEXT[:-43] + "A" * 43
    said = set()
    for found in (robots(TOKEN), robots(), robots(replace(TOKEN, revoked_at=1.0)), robots(TOKEN, now=3000.0)):
        with pytest.raises(Unauthorized) as caught:
            await found.verify(wrong)
        assert not isinstance(caught.value, Stale)
        said.add(caught.value.message)
    assert said == {"the robot token is not known here; make one with `trow token create` for this registry"}


async def test_expired_and_revoked_are_told_apart_to_who_has_the_secret() -> None:
    with pytest.raises(Stale, match=f"{TOKEN.id} expired at 1970-01-01T00:33"):
        await robots(TOKEN, now=2000.0).verify(TEXT)
    with pytest.raises(Stale, match=f"{TOKEN.id} was revoked"):
        await robots(replace(TOKEN, revoked_at=1100.0), now=2000.0).verify(TEXT)


async def test_cve_2026_35172_a_revoked_token_is_of_no_use_at_once() -> None:
    store = Store(TOKEN)
    found = RobotVerifier(store, lambda: 1500.0)
    await found.verify(TEXT)
    store.tokens[TOKEN.id] = replace(TOKEN, revoked_at=1500.0)
    with pytest.raises(Stale):
        await found.verify(TEXT)
    assert store.asked == [TOKEN.id] * 2


async def test_cve_2023_20902_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        sizes.append((len(one), len(other)))
        return really(one, other)

    monkeypatch.setattr("trow.identity.robots.hmac.compare_digest", compare)
    await robots(TOKEN).verify(TEXT)
    for found in (robots(TOKEN), robots()):
        with pytest.raises(Unauthorized):
            await found.verify(TEXT[:-43] + "A" * 43)
    assert sizes == [(64, 64)] * 3  # of an unknown one too


async def test_harbor_23675_a_name_makes_no_other_kind_of_robot() -> None:
    text, token = new_token("scanner-admin", GRANTS, None, "", 0)
    found = await robots(token).verify(text)
    assert (found.method, found.grants) == (Method.ROBOT, GRANTS)


async def test_unavailable_passes_through() -> None:
    class Broken:
        async def robot_token(self, id: str) -> RobotToken | None:  # noqa: A002
            raise Unavailable("no database")

    with pytest.raises(Unavailable):
        await RobotVerifier(Broken()).verify(TEXT)


@given(st.one_of(st.text(), st.from_regex(r"trow_[a-z2-7]{12}_[A-Za-z0-9_-]{43}")))
def test_nothing_else_is_a_token(text: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        run(robots(TOKEN).verify(text))
    assert len(text) < 6 or text not in caught.value.message
