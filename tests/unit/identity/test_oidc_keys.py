"""An issuer's keys: where they come from, how long they count, and what is done when they cannot be had."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa

from support.apiserver import Answer
from support.clock import Clock
from support.issuer import AUDIENCE, DISCOVERY, JWKS, Issuer, new_key, public_jwk
from trow.identity import oidc_keys as module
from trow.identity.oidc import IssuerSettings, TrustedIssuer
from trow.oci.errors import Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1_700_000_000.0


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def oidc(issuer: Issuer, clock: Clock) -> TrustedIssuer:
    return TrustedIssuer(IssuerSettings("corp", issuer.url, (AUDIENCE,)), clock)


def token(issuer: Issuer, **claims: Any) -> str:
    """One that lives for days, for clocks that are moved."""
    return issuer.token(**{"iat": NOW - 7200, "exp": NOW + 10 * 86400} | claims)


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer, oidc: TrustedIssuer) -> None:
    await asyncio.gather(*(oidc.verify(token(issuer, sub=f"user-{number}")) for number in range(20)))
    assert issuer.requests == {DISCOVERY: 1, JWKS: 1}


async def test_keys_are_renewed_after_ten_minutes(issuer: Issuer, oidc: TrustedIssuer, clock: Clock) -> None:
    for seconds, fetched in ((0, 1), (600, 1), (601, 2)):
        clock.now = NOW + seconds
        await oidc.verify(token(issuer))
        assert issuer.requests[JWKS] == fetched


async def test_a_withdrawn_key_counts_no_more_once_keys_are_renewed(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    old = token(issuer)
    await oidc.verify(old)
    issuer.rotate()
    await oidc.verify(old)
    clock.now += 601
    with pytest.raises(Unauthorized, match="does not list"):
        await oidc.verify(old)


async def test_rotated_keys_are_noticed_by_an_unknown_one(issuer: Issuer, oidc: TrustedIssuer, clock: Clock) -> None:
    await oidc.verify(token(issuer))
    issuer.rotate()
    clock.now += 10
    assert (await oidc.verify(token(issuer))).name == "corp:someone"


async def test_a_new_key_is_no_wrong_one_when_a_stranger_has_just_had_the_issuer_asked(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    stranger = issuer.sign(issuer.claims(), headers={"kid": "made up"})
    await oidc.verify(token(issuer))
    clock.now += 10
    with pytest.raises(Unauthorized, match="does not list"):
        await oidc.verify(stranger)
    issuer.rotate()
    for step in range(1, 10):
        clock.now = NOW + 10 + step
        for each in (stranger, token(issuer)):
            with pytest.raises(Unavailable, match="try again in a moment"):
                await oidc.verify(each)
    clock.now = NOW + 20
    assert (await oidc.verify(token(issuer))).name == "corp:someone"


async def test_a_new_key_is_no_wrong_one_while_the_issuer_does_not_answer(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    await oidc.verify(token(issuer))
    issuer.rotate()
    issuer.down()
    clock.now += 10
    with pytest.raises(Unavailable, match="try again in a moment"):
        await oidc.verify(token(issuer))


async def test_unknown_keys_are_looked_for_at_most_every_ten_seconds(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    for step in range(31):
        clock.now = NOW + step
        stranger = issuer.sign(issuer.claims(), headers={"kid": f"made up {step}"})
        with pytest.raises((Unauthorized, Unavailable)):
            await oidc.verify(stranger)
    assert issuer.requests[JWKS] == 4


async def test_while_the_issuer_is_down_its_keys_count_for_a_day(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    await oidc.verify(token(issuer))
    issuer.down()
    for hours in (1, 12, 24):
        clock.now = NOW + hours * 3600
        assert (await oidc.verify(token(issuer))).name == "corp:someone"
    clock.now += 1
    with pytest.raises(Unavailable, match="cannot be reached"):
        await oidc.verify(token(issuer))
    issuer.up()
    clock.now += 30
    assert (await oidc.verify(token(issuer))).name == "corp:someone"


async def test_without_keys_nobody_is_let_in_and_the_issuer_is_not_flooded(
    issuer: Issuer, oidc: TrustedIssuer, clock: Clock
) -> None:
    issuer.discovery = Answer({}, status=500)
    for _ in range(10):
        with pytest.raises(Unavailable, match="status 500"):
            await oidc.verify(token(issuer))
    assert issuer.requests == {DISCOVERY: 1}
    issuer.discovery = None
    clock.now += 5
    assert (await oidc.verify(token(issuer))).name == "corp:someone"


async def test_a_clock_that_is_set_back_makes_keys_old(issuer: Issuer, oidc: TrustedIssuer, clock: Clock) -> None:
    await oidc.verify(token(issuer))
    clock.now -= 3600
    await oidc.verify(token(issuer))
    assert issuer.requests[JWKS] == 2


async def test_a_slow_issuer_is_given_up(issuer: Issuer, oidc: TrustedIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FETCH_SECONDS", 0.2)
    issuer.delay = 30
    with pytest.raises(Unavailable, match=r"does not answer within 0\.2 s"):
        await oidc.verify(token(issuer))


async def test_a_client_that_vanishes_takes_the_keys_from_nobody(issuer: Issuer, oidc: TrustedIssuer) -> None:
    issuer.delay = 0.05
    first, second = (asyncio.create_task(oidc.verify(token(issuer))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == "corp:someone"
    assert issuer.requests == {DISCOVERY: 1, JWKS: 1}


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"issuer": "https://other.example"}, "about another issuer"),
        ({"issuer": "{url}/"}, "about another issuer"),
        ({"jwks_uri": "https://169.254.169.254/latest"}, "at another address"),
        ({"jwks_uri": "http://127.0.0.1:1/keys"}, "at another address"),
        ({"jwks_uri": "file:///etc/passwd"}, "at another address"),
        ({"jwks_uri": "{url}@evil.example/keys"}, "at another address"),
        ({"jwks_uri": 7}, "something else"),
        ({"jwks_uri": None}, "something else"),
    ],
)
async def test_a_discovery_document_that_lies_is_not_followed(
    issuer: Issuer, oidc: TrustedIssuer, lie: dict[str, Any], message: str
) -> None:
    told = {key: value.format(url=issuer.url) if isinstance(value, str) else value for key, value in lie.items()}
    issuer.discovery = Answer(issuer.published_discovery(**told))
    with pytest.raises(Unavailable, match=message):
        await oidc.verify(token(issuer))
    assert issuer.requests == {DISCOVERY: 1}


async def test_redirects_are_not_followed(issuer: Issuer, oidc: TrustedIssuer) -> None:
    issuer.discovery = Answer({}, 302, {"Location": JWKS})
    with pytest.raises(Unavailable, match="status 302"):
        await oidc.verify(token(issuer))
    assert issuer.requests == {DISCOVERY: 1}


async def test_configured_keys_need_no_discovery(issuer: Issuer, clock: Clock) -> None:
    settings = IssuerSettings("corp", issuer.url, (AUDIENCE,), jwks_uri=issuer.url + JWKS)
    assert (await TrustedIssuer(settings, clock).verify(token(issuer))).name == "corp:someone"
    assert issuer.requests == {JWKS: 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "something else"),
        (b"[" * 100_000, "something else"),
        (b"\xff", "something else"),
        ([], "something else"),
        ({"keys": {}}, "something else"),
        ({"keys": [1]}, "something else"),
        ({"keys": []}, "none of its keys fits"),
        ({"keys": [{}]}, "none of its keys fits"),
        ({"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "HS256"}]}, "none of its keys fits"),
        ({"keys": [{"kty": "RSA", "kid": "k", "n": "AQ", "e": "AQAB"}]}, "none of its keys fits"),
        ({"keys": [{"kty": "EC", "kid": "k", "crv": "P-256", "x": "AA", "y": "AA"}]}, "none of its keys fits"),
        ({"keys": [{"kty": "EC", "kid": ["k"], "crv": {}, "alg": []}]}, "none of its keys fits"),
        (b" " * (1 << 20) + b" ", "more than 1048576 bytes"),
    ],
)
async def test_a_list_of_keys_that_is_none_is_refused(
    issuer: Issuer, oidc: TrustedIssuer, body: object, message: str
) -> None:
    issuer.jwks = Answer(body)
    with pytest.raises(Unavailable, match=message):
        await oidc.verify(token(issuer))


def weak_key(issuer: Issuer) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    issuer.keys["RS256"] = key
    return public_jwk(key, "RS256", kid=issuer.kids["RS256"])


def published(issuer: Issuer, **changes: Any) -> dict[str, Any]:
    return public_jwk(issuer.keys["RS256"], "RS256", kid=issuer.kids["RS256"]) | changes


def with_private_part(issuer: Issuer) -> dict[str, Any]:
    written = jwt.get_algorithm_by_name("RS256").to_jwk(issuer.keys["RS256"], as_dict=True)
    return {**written, "kid": issuer.kids["RS256"], "key_ops": ["verify"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        weak_key,
        with_private_part,
        lambda issuer: published(issuer, use="enc"),
        lambda issuer: published(issuer, key_ops=["encrypt"]),
        lambda issuer: published(issuer, key_ops=7),
        lambda issuer: published(issuer, alg="RS512"),
        lambda issuer: published(issuer, alg="HS256"),
        lambda issuer: published(issuer, kty="EC"),
        lambda issuer: published(issuer, kid=None),
        lambda issuer: published(issuer, n="!"),
    ],
    ids=["weak", "private", "use", "ops", "ops-type", "alg", "hs256", "kty", "no-kid", "broken"],
)
@pytest.mark.filterwarnings("ignore:The RSA key is")  # the weak one is the point
async def test_a_key_that_is_not_for_this_is_left_out(issuer: Issuer, oidc: TrustedIssuer, make: Any) -> None:
    others = issuer.published_keys()["keys"][1:]
    issuer.jwks = Answer({"keys": [make(issuer), *others]})
    with pytest.raises(Unauthorized, match="does not list"):
        await oidc.verify(issuer.sign(issuer.claims(iat=NOW, exp=NOW + 60), "RS256"))
    assert (await oidc.verify(token(issuer))).name == "corp:someone"


@pytest.mark.parametrize("alg", [None, "Ed25519", "EdDSA"])
async def test_a_key_need_not_name_its_algorithm(issuer: Issuer, oidc: TrustedIssuer, alg: str | None) -> None:
    key = public_jwk(issuer.keys["EdDSA"], "EdDSA", kid=issuer.kids["EdDSA"]) | {"alg": alg}
    issuer.jwks = Answer({"keys": [{name: value for name, value in key.items() if value}]})
    found = await oidc.verify(issuer.sign(issuer.claims(iat=NOW, exp=NOW + 60), "EdDSA"))
    assert found.name == "corp:someone"


async def test_a_key_on_another_curve_does_not_fit(issuer: Issuer, clock: Clock) -> None:
    key = new_key("ES384")
    issuer.jwks = Answer({"keys": [public_jwk(key, "ES384", kid="k")]})
    settings = IssuerSettings("corp", issuer.url, (AUDIENCE,), algorithms=("ES256", "ES384"))
    claims = issuer.claims(iat=NOW, exp=NOW + 60)
    signed = jwt.encode(claims, key, algorithm="ES384", headers={"kid": "k"})
    assert (await TrustedIssuer(settings, clock).verify(signed)).name == "corp:someone"
    with pytest.raises(Unauthorized, match="not the one of its key"):
        await TrustedIssuer(settings, clock).verify(issuer.sign(claims, headers={"kid": "k"}))


async def test_the_issuers_certificate_is_verified(tmp_path: Path, clock: Clock) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Issuer.start(context) as issuer:
        settings = IssuerSettings("corp", issuer.url, (AUDIENCE,), ca_file=ca)
        assert (await TrustedIssuer(settings, clock).verify(token(issuer))).name == "corp:someone"
        with pytest.raises(Unavailable):
            await TrustedIssuer(dataclasses.replace(settings, ca_file=None), clock).verify(token(issuer))


def test_a_ca_file_has_to_hold_certificates(tmp_path: Path) -> None:
    settings = IssuerSettings("corp", "https://issuer.example", (AUDIENCE,), ca_file=tmp_path / "none")
    with pytest.raises(ValueError, match="ca_file"):
        TrustedIssuer(settings)
