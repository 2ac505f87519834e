from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from support.clock import Clock
from trow.access.identity import ANONYMOUS, Grant, Identity, Method
from trow.access.permissions import Permission
from trow.identity import tokens as module
from trow.identity.credentials import Stale
from trow.identity.jwts import is_jwt, issuer_of
from trow.identity.keys import KeyRing, load_or_create, rotate
from trow.identity.tokens import RegistryTokens
from trow.lib.globs import RepositoryGlob
from trow.oci.errors import Denied, Unauthorized
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

APP = Repository.parse("team-a/app")
OTHER = Repository.parse("team-a/other")
PULL = frozenset({Permission.PULL})
BOTH = frozenset({Permission.PULL, Permission.PUSH})
POD = Identity(
    "system:serviceaccount:team-a:default",
    Method.KUBERNETES,
    "uid-1",
    ("system:serviceaccounts", "system:authenticated"),
    (("authentication.kubernetes.io/node-name", ("node-3",)), ("authentication.kubernetes.io/pod-name", ("web-7c",))),
    "JTI=1",
)
ROBOT = Identity(
    "robot:ci", Method.ROBOT, "id", credential="id", grants=(Grant(RepositoryGlob.parse("team-a/*"), BOTH),)
)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_700_000_000.25)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return load_or_create(tmp_path / "keys")


@pytest.fixture
def tokens(ring: KeyRing, clock: Clock) -> RegistryTokens:
    return RegistryTokens(ring, "trow", clock=clock)


def claims(text: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


def segment(value: object) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.fixture
def forge(ring: KeyRing, tokens: RegistryTokens) -> Callable[..., str]:
    """A token signed with the right key (or another), with headers and claims changed; None takes one out."""

    def forge(header: dict[str, object] | None = None, key: Ed25519PrivateKey | None = None, **changed: object) -> str:
        good = {"alg": "EdDSA", "kid": ring.signing().id, "typ": "JWT", **(header or {})}
        said = {**claims(tokens.issue(POD, ((APP, PULL),)).text), **changed}
        parts = [segment({k: v for k, v in each.items() if v is not None}) for each in (good, said)]
        signed = ".".join(parts)
        return f"{signed}.{segment((key or ring.signing().private).sign(signed.encode()))}"

    return forge


def refused(tokens: RegistryTokens, text: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        tokens.verify(text)
    assert not isinstance(caught.value, Stale)
    assert not text or text not in caught.value.message
    return caught.value.message


# what is issued


def test_a_token_brings_back_its_holder_and_what_it_delegates(tokens: RegistryTokens, clock: Clock) -> None:
    issued = tokens.issue(POD, ((APP, BOTH), (OTHER, frozenset())), frozenset({"catalog"}))
    assert (issued.issued_at, issued.expires_in) == (1_700_000_000.25, 300)
    found = tokens.verify(issued.text)
    assert found.undelegated() == POD
    assert found.workload == POD.workload
    assert found.delegation is not None
    assert found.delegation.grants == ((APP, BOTH),)
    assert found.delegation.lists == {"catalog"}
    assert found.delegation.issued_at == clock.now  # with its fraction
    assert len(found.delegation.id) == 32


@pytest.mark.parametrize("identity", [ANONYMOUS, ROBOT, Identity("ålice", Method.PASSWORD, groups=("dev",))])
def test_every_kind_of_holder(tokens: RegistryTokens, identity: Identity) -> None:
    found = tokens.verify(tokens.issue(identity, ()).text)
    assert found.undelegated() == identity
    assert found.anonymous == identity.anonymous
    assert found.delegation is not None


def test_claims_are_those_of_dockers_tokens(tokens: RegistryTokens, ring: KeyRing) -> None:
    text = tokens.issue(POD, ((APP, BOTH),), frozenset({"catalog"})).text
    assert jwt.get_unverified_header(text) == {"alg": "EdDSA", "kid": ring.signing().id, "typ": "JWT"}
    said = jwt.decode(text, ring.signing().public, ["EdDSA"], audience="trow", options={"verify_exp": False})
    assert (said["iss"], said["aud"], said["sub"]) == ("trow", "trow", POD.name)
    assert (said["iat"], said["nbf"], said["exp"]) == (1_700_000_000.25, 1_700_000_000.25, 1_700_000_300.25)
    assert said["access"] == [
        {"type": "repository", "name": "team-a/app", "actions": ["pull", "push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    assert said["holder"]["credential"] == "JTI=1"


def test_no_two_tokens_are_equal(tokens: RegistryTokens) -> None:
    assert len({claims(tokens.issue(POD, ()).text)["jti"] for _ in range(100)}) == 100


def test_a_token_cannot_be_exchanged_for_more_or_for_longer(tokens: RegistryTokens, clock: Clock) -> None:
    old = tokens.verify(tokens.issue(POD, ((APP, PULL),), frozenset({"catalog"}), 7).text)
    clock.now += 200
    issued = tokens.issue(old, ((APP, BOTH), (OTHER, PULL)), frozenset({"catalog", "admin"}), 9)
    assert issued.expires_in == 100
    new = tokens.verify(issued.text)
    assert new.delegation is not None
    assert new.delegation.grants == ((APP, PULL),)
    assert new.delegation.lists == {"catalog"}
    assert new.delegation.generation == 7
    clock.now += 99
    again = tokens.issue(tokens.verify(issued.text), ((APP, PULL),))
    assert again.expires_in == 1
    clock.now += 1
    with pytest.raises(Stale):
        tokens.issue(new, ((APP, PULL),))


def test_a_holder_with_too_many_groups_gets_no_token(tokens: RegistryTokens) -> None:
    with pytest.raises(Denied, match="too large"):
        tokens.issue(replace(POD, groups=tuple(f"group-{n}" for n in range(1000))), ())


@pytest.mark.parametrize("lifetime", [0, -1, 3601, float("nan"), float("inf")])
def test_lifetimes_that_are_refused(ring: KeyRing, lifetime: float) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        RegistryTokens(ring, "trow", lifetime)


# what is verified


def test_cve_2025_24976_a_key_in_the_header_is_not_used(
    tokens: RegistryTokens, forge: Callable[..., str], ring: KeyRing
) -> None:
    mine = Ed25519PrivateKey.generate()
    x = segment(mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": ring.signing().id}
    refused(tokens, forge({"jwk": jwk}, mine))
    refused(tokens, forge({"jwk": jwk}))  # even where the right key has signed


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"x5t": "AA"},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"typ": "at+jwt"},
        {"typ": None},
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS256"},
        {"alg": "Ed25519"},
        {"alg": "eddsa"},
        {"alg": None},
        {"kid": None},
        {"kid": ""},
        {"kid": "../../etc/passwd"},
        {"kid": 1},
    ],
)
def test_other_headers_are_refused(
    tokens: RegistryTokens, forge: Callable[..., str], header: dict[str, object]
) -> None:
    assert "log in again" in (message := refused(tokens, forge(header))) or "not one that" in message


def test_the_public_key_is_no_secret_to_sign_with(tokens: RegistryTokens, ring: KeyRing) -> None:
    key = ring.signing()
    said = claims(tokens.issue(POD, ()).text)
    for secret in (key.public.public_bytes_raw(), key.id.encode(), b""):
        signed = f"{segment({'alg': 'HS256', 'kid': key.id, 'typ': 'JWT'})}.{segment(said)}"
        refused(tokens, f"{signed}.{segment(hmac.digest(secret, signed.encode(), hashlib.sha256))}")
    refused(tokens, f"{segment({'alg': 'none', 'kid': key.id, 'typ': 'JWT'})}.{segment(said)}.")


def test_another_signature_is_refused(tokens: RegistryTokens, forge: Callable[..., str]) -> None:
    refused(tokens, forge(key=Ed25519PrivateKey.generate()))
    head, body, signature = tokens.issue(POD, ()).text.split(".")
    refused(tokens, f"{head}.{body}.{signature[:-4]}AAAA")
    refused(tokens, f"{head}.{body}.")
    refused(tokens, f"{head}.{segment({**claims(f'{head}.{body}.{signature}'), 'sub': 'admin'})}.{signature}")


@pytest.mark.parametrize(
    "changed",
    [
        *({claim: None} for claim in ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "access", "holder")),
        {"iss": "https://accounts.example"},
        {"aud": "another"},
        {"aud": ["trow", "another"]},
        {"exp": "1700000300"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": 1_700_000_000.25 + 3601},
        {"iat": 1.0},  # it would have lived for years
        {"iat": -1e300},
        {"iat": 1_700_000_031, "nbf": 1_700_000_031},
        {"nbf": 1_700_000_031},
        {"unknown": 1},
        {"holder": {"method": "magic"}},
        {"holder": {"method": "password", "admin": True}},
        {"holder": {"method": "robot", "grants": [["Team-A/**", ["pull"]]]}},
        {"access": [{"type": "repository", "name": "Team/../x", "actions": ["pull"]}]},
        {"access": [{"type": "repository", "name": "a", "actions": ["everything"]}]},
        {"access": [{"type": "cluster", "name": "a", "actions": []}]},
        {"access": {}},
    ],
)
def test_other_claims_are_refused(
    tokens: RegistryTokens, forge: Callable[..., str], changed: dict[str, object]
) -> None:
    refused(tokens, forge(**changed))


def test_clocks_may_differ_by_half_a_minute(tokens: RegistryTokens, clock: Clock) -> None:
    text = tokens.issue(POD, ()).text
    clock.now -= 29
    assert tokens.verify(text).name == POD.name
    later = tokens.issue(POD, ()).text
    clock.now -= 31
    assert "clocks" in refused(tokens, later)


def test_an_expired_token_is_stale_and_no_guess(tokens: RegistryTokens, clock: Clock, ring: KeyRing) -> None:
    text = tokens.issue(POD, ()).text
    clock.now += 299.9
    assert tokens.verify(text).name == POD.name
    clock.now += 0.1
    for each in (tokens, RegistryTokens(ring, "trow", clock=clock)):  # remembered or not
        with pytest.raises(Stale, match="expired"):
            each.verify(text)


def test_a_token_of_another_registry_is_refused(
    tokens: RegistryTokens, ring: KeyRing, tmp_path: Path, clock: Clock
) -> None:
    same_keys = RegistryTokens(ring, "other", clock=clock).issue(POD, ()).text
    assert "another service" in refused(tokens, same_keys)
    same_name = RegistryTokens(load_or_create(tmp_path / "other"), "trow", clock=clock).issue(POD, ()).text
    assert "log in again" in refused(tokens, same_name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "eyJ..",
        "a.b.c",
        "eyJ.eyJ.eyJ",
        "eyJh.eyJh",
        "eyJh.eyJh.eyJh.eyJh.eyJh",
        "eyJ" + "A" * 20_000 + ".A.A",
    ],
)
def test_malformed_tokens_are_refused(tokens: RegistryTokens, text: str) -> None:
    refused(tokens, text)
    assert not tokens.is_ours(text)


def test_cve_2025_30204_many_dots_are_not_split(tokens: RegistryTokens) -> None:
    text = "eyJ" + "." * 5_000_000
    refused(tokens, text)
    assert not tokens.is_ours(text)


# the memory


def test_a_token_is_verified_once(tokens: RegistryTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tokens.issue(POD, ((APP, PULL),)).text
    assert tokens.remembered(text) is None
    found = tokens.verify(text)
    monkeypatch.setattr(tokens, "_claims", None)
    assert tokens.verify(text) is found
    assert tokens.remembered(text) is found
    assert tokens.remembered(text[:-1]) is None


def test_the_memory_is_bounded(ring: KeyRing, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
    tokens = RegistryTokens(ring, "trow", clock=clock)
    texts = [tokens.issue(POD, ()).text for _ in range(3)]
    tokens.verify(texts[0])
    tokens.verify(texts[1])
    tokens.verify(texts[0])
    tokens.verify(texts[2])
    assert [tokens.remembered(text) is not None for text in texts] == [True, False, True]
    large = tokens.issue(replace(POD, groups=tuple(f"group-{n}" for n in range(300))), ()).text
    assert len(large) > 4096
    assert tokens.verify(large).name == POD.name
    assert tokens.remembered(large) is None


async def test_a_replica_that_is_behind_looks_when_it_meets_an_unknown_key(tmp_path: Path, ring: KeyRing) -> None:
    behind = RegistryTokens(ring, "trow")
    new, _ = rotate(tmp_path / "keys", 0)
    (tmp_path / "other").mkdir()
    shutil.copy(new, tmp_path / "other")
    text = RegistryTokens(KeyRing(tmp_path / "other"), "trow").issue(POD, ()).text
    assert "not in use here" in refused(behind, text)
    ring._files._looked_at -= 0.2  # noqa: SLF001 - it has looked a moment ago
    assert (await behind.verify_soon(text)).name == POD.name


def test_a_key_that_is_removed_takes_its_tokens_along(tokens: RegistryTokens, ring: KeyRing, tmp_path: Path) -> None:
    text = tokens.issue(POD, ()).text
    assert tokens.verify(text).name == POD.name
    rotate(tmp_path / "keys", 0)
    (tmp_path / "keys" / "token-0001.pem").unlink()
    ring.look()
    assert "not in use here" in refused(tokens, text)


# the issuer


def test_ours_is_known_by_its_issuer(tokens: RegistryTokens) -> None:
    assert tokens.is_ours(tokens.issue(POD, ()).text)
    other = jwt.encode({"iss": "https://token.actions.githubusercontent.com"}, "x" * 32, "HS256")
    assert not tokens.is_ours(other)
    assert issuer_of(other) == "https://token.actions.githubusercontent.com"


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"{}", b'{"iss": 1}', b'{"iss": ""}', b"\xff", b"[" * 10_000, b'{"a":' * 2000]
)
def test_an_issuer_that_cannot_be_read(payload: bytes) -> None:
    assert issuer_of(f"eyJh.{segment(payload)}.AAAA") is None


@given(st.one_of(st.text(), st.from_regex(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", fullmatch=True)))
@example("eyJ" + "A" * 16_000 + ".A.A")
def test_any_text_has_an_issuer_or_none(text: str) -> None:
    found = issuer_of(text)
    assert found is None or is_jwt(text)
