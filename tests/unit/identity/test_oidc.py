"""Tokens of OIDC issuers: which are believed, and whom they make of their holder."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import random
import time
from typing import TYPE_CHECKING, Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.issuer import AUDIENCE, Issuer, new_key, public_jwk
from trow.access.identity import Method
from trow.identity.jwts import unverified_claims
from trow.identity.oidc import IssuerSettings, TrustedIssuer, conflict_between
from trow.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SKEW: Final = 30


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as running:
        yield running


@pytest.fixture
def settings(issuer: Issuer) -> IssuerSettings:
    return IssuerSettings("corp", issuer.url, (AUDIENCE,))


@pytest.fixture
def oidc(settings: IssuerSettings) -> TrustedIssuer:
    return TrustedIssuer(settings)


async def refusal(oidc: TrustedIssuer, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        await oidc.verify(token)
    signature = token.rpartition(".")[2]
    assert len(signature) < 10 or signature not in caught.value.message
    return caught.value.message


def part(document: object) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


# Who it is


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_is_its_subject(issuer: Issuer, oidc: TrustedIssuer, algorithm: str) -> None:
    identity = await oidc.verify(issuer.token(algorithm, sub="ann", jti="j-1", team=["a", "b"], admin=False, level=3))
    assert (identity.name, identity.method, identity.uid) == ("corp:ann", Method.OIDC, "ann")
    assert (identity.groups, identity.credential, identity.workload) == ((), "j-1", None)
    assert identity.extra == (
        ("admin", ("false",)),
        ("aud", (AUDIENCE,)),
        ("iss", (issuer.url,)),
        ("issuer", ("corp",)),
        ("level", ("3",)),
        ("sub", ("ann",)),
        ("team", ("a", "b")),
    )


async def test_without_a_jti_a_part_of_the_hash_tells_tokens_apart(issuer: Issuer, oidc: TrustedIssuer) -> None:
    token = issuer.token()
    assert (await oidc.verify(token)).credential == f"sha256:{hashlib.sha256(token.encode()).hexdigest()[:16]}"


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_usual_types_of_tokens_are_accepted(issuer: Issuer, oidc: TrustedIssuer, kind: str | None) -> None:
    token = issuer.sign(issuer.claims(), headers={"typ": kind})
    assert (await oidc.verify(token)).name == "corp:someone"


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
async def test_one_common_audience_is_enough(issuer: Issuer, oidc: TrustedIssuer, audience: object) -> None:
    assert (await oidc.verify(issuer.token(aud=audience))).name == "corp:someone"


async def test_names_come_from_the_configured_claims(issuer: Issuer, settings: IssuerSettings) -> None:
    oidc = TrustedIssuer(
        dataclasses.replace(
            settings, username_claim="email", username_prefix="sso:", groups_claim="roles", groups_prefix="team:"
        )
    )
    identity = await oidc.verify(issuer.token(email="ann@corp.example", roles=["dev", "dev", "ops"]))
    assert (identity.name, identity.groups) == ("sso:ann@corp.example", ("team:dev", "team:ops"))
    assert (await oidc.verify(issuer.token(email="ann@corp.example", roles="dev"))).groups == ("team:dev",)


async def test_cve_2025_23208_groups_are_those_of_this_token(issuer: Issuer, settings: IssuerSettings) -> None:
    oidc = TrustedIssuer(dataclasses.replace(settings, groups_claim="groups"))
    assert (await oidc.verify(issuer.token(groups=["admins"]))).groups == ("corp:admins",)
    assert (await oidc.verify(issuer.token(groups=[]))).groups == ()
    assert (await oidc.verify(issuer.token())).groups == ()


async def test_a_token_cannot_name_somebody_of_another_method(issuer: Issuer, settings: IssuerSettings) -> None:
    oidc = TrustedIssuer(dataclasses.replace(settings, groups_claim="groups"))
    for name in ("system:masters", "robot:ci", "certificate:x", "ann", "corp:ann"):
        identity = await oidc.verify(issuer.token(sub=name, groups=[name]))
        assert (identity.name, identity.groups) == (f"corp:{name}", (f"corp:{name}",))


async def test_another_clusters_service_account_shows_where_it_runs(issuer: Issuer, oidc: TrustedIssuer) -> None:
    facts = {
        "namespace": "team-a",
        "pod": {"name": "web", "uid": "p-1"},
        "node": {"name": "n-3", "uid": "u-3"},
        "serviceaccount": {"name": "default", "uid": "s-1"},
        "warnafter": 7,
    }
    identity = await oidc.verify(
        issuer.token(sub="system:serviceaccount:team-a:default", **{"kubernetes.io": facts, "other": {"nested": "x"}})
    )
    assert identity.name == "corp:system:serviceaccount:team-a:default"
    assert identity.values("kubernetes.io.namespace") == ("team-a",)
    assert identity.values("kubernetes.io.pod.name") == ("web",)
    assert identity.values("kubernetes.io.node.name") == ("n-3",)
    assert identity.values("kubernetes.io.serviceaccount.name") == ("default",)
    assert identity.values("other.nested") == ()


async def test_claims_cannot_pretend_to_be_facts_of_the_registry(issuer: Issuer, oidc: TrustedIssuer) -> None:
    pod = "authentication.kubernetes.io/pod-name"
    identity = await oidc.verify(issuer.token(**{"issuer": "github", pod: "web"}))
    assert identity.values("issuer") == ("corp",)
    assert identity.values(pod) == ()


async def test_what_is_kept_of_claims_is_bounded(issuer: Issuer, oidc: TrustedIssuer) -> None:
    many = {f"claim-{number:03}": "x" * 10 for number in range(150)}
    odd = {"mixed": ["a", 1, None], "half": "\ud800", "long": "x" * 1024, "none": None, "nested": {"a": 1}}
    identity = await oidc.verify(issuer.sign(issuer.claims() | {"a-mixed": ["a", 1, True]} | many | odd))
    assert len(identity.extra) == 64
    assert list(identity.extra) == sorted(identity.extra)
    assert identity.values("a-mixed") == ("a", "1", "true")
    assert all(sum(map(len, values)) <= 1024 for _, values in identity.extra)
    other = await oidc.verify(issuer.sign(issuer.claims() | odd))
    assert {key for key, _ in other.extra} == {"issuer", "iss", "aud", "sub"}


# Required claims


@pytest.mark.parametrize(
    ("claims", "fits"),
    [
        ({"repository": "acme/app", "ref": "refs/tags/v1"}, True),
        ({"repository": "acme/app", "ref": ["refs/heads/x", "refs/tags/v1"]}, True),
        ({"repository": "acme/app", "ref": "refs/heads/main"}, False),
        ({"repository": "acme/app"}, False),
        ({"repository": "acme-evil/app", "ref": "refs/tags/v1"}, False),
        ({"repository": ["acme/app", {"x": 1}], "ref": "refs/tags/v1"}, False),
        ({"repository": {"acme/app": "acme/app"}, "ref": "refs/tags/v1"}, False),
    ],
)
async def test_required_claims_are_required(
    issuer: Issuer, settings: IssuerSettings, claims: dict[str, Any], fits: object
) -> None:
    required = {"repository": "acme/*", "ref": "refs/tags/**", "email_verified": "true"}
    oidc = TrustedIssuer(dataclasses.replace(settings, required_claims=required))
    token = issuer.token(email_verified=True, **claims)
    if fits:
        assert (await oidc.verify(token)).name == "corp:someone"
    else:
        assert "is not the one that corp needs" in await refusal(oidc, token)


# Bad tokens: each is a good one but for one thing


def unsigned(issuer: Issuer) -> str:
    return f"{part({'alg': 'none', 'kid': issuer.kids['ES256']})}.{part(issuer.claims())}."


def unsigned_with_signature(issuer: Issuer) -> str:
    return f"{part({'alg': 'None', 'kid': issuer.kids['ES256']})}.{part(issuer.claims())}.{part(b'x')}"


def signed_with_the_public_key(issuer: Issuer) -> str:
    """The classic confusion: the public key as the secret of HS256."""
    secret = issuer.keys["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = f"{part({'alg': 'HS256', 'kid': issuer.kids['RS256']})}.{part(issuer.claims())}"
    return f"{body}.{part(hmac.digest(secret, body.encode(), 'sha256'))}"


def signed_by_another(issuer: Issuer, **headers: object) -> str:
    """By a key of the attacker's, under the name of the issuer's."""
    return jwt.encode(
        issuer.claims(), new_key("ES256"), algorithm="ES256", headers={"kid": issuer.kids["ES256"]} | headers
    )


def with_its_own_key(issuer: Issuer) -> str:
    key = new_key("ES256")
    headers = {"kid": issuer.kids["ES256"], "jwk": public_jwk(key, "ES256", kid=issuer.kids["ES256"])}
    return jwt.encode(issuer.claims(), key, algorithm="ES256", headers=headers)


def under_another_algorithm(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["RS256"], algorithm="RS512", headers={"kid": issuer.kids["RS256"]})


def with_the_key_of_another_algorithm(issuer: Issuer) -> str:
    return issuer.sign(issuer.claims(), headers={"kid": issuer.kids["RS256"]})


def with_another_payload(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{part(issuer.claims(sub='admin'))}.{signature}"


def signed_without_kid(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(), issuer.keys["ES256"], algorithm="ES256")


BAD: Final[dict[str, tuple[Callable[[Issuer], str], str]]] = {
    "alg_none": (unsigned, "not signed with"),
    "alg_none_with_a_signature": (unsigned_with_signature, "not signed with RS256"),
    "cve_2016_10555_hs256_with_the_public_key": (signed_with_the_public_key, "not signed with RS256"),
    "algorithm_that_is_not_pinned": (under_another_algorithm, "not signed with RS256"),
    "key_of_another_algorithm": (with_the_key_of_another_algorithm, "not the one of its key"),
    "key_of_another": (signed_by_another, "signature is not valid"),
    "cve_2025_24976_embedded_jwk": (with_its_own_key, "brings its own key"),
    "jku": (lambda issuer: signed_by_another(issuer, jku="https://evil.example"), "brings its own key"),
    "x5u": (lambda issuer: signed_by_another(issuer, x5u="https://evil.example"), "brings its own key"),
    "x5c": (lambda issuer: signed_by_another(issuer, x5c=["MII"]), "brings its own key"),
    "crit": (lambda issuer: issuer.sign(issuer.claims(), headers={"crit": ["exp"], "exp": 1}), "brings its own key"),
    "foreign_kid": (lambda issuer: issuer.sign(issuer.claims(), headers={"kid": "mine"}), "does not list"),
    "no_kid": (signed_without_kid, "does not name its key"),
    "kid_of_a_path": (lambda issuer: issuer.sign(issuer.claims(), headers={"kid": "../../dev/null"}), "does not list"),
    "another_payload": (with_another_payload, "signature is not valid"),
    "logout_token": (lambda issuer: issuer.sign(issuer.claims(), headers={"typ": "logout+jwt"}), "not a credential"),
    "wrong_aud": (lambda issuer: issuer.token(aud="other"), "another audience than registry.example.com"),
    "aud_that_contains_ours": (lambda issuer: issuer.token(aud=AUDIENCE + ".evil"), "another audience"),
    "no_aud": (lambda issuer: issuer.token(aud=None), "no claim 'aud'"),
    "empty_aud": (lambda issuer: issuer.token(aud=[]), "no claim 'aud'"),
    "wrong_iss": (lambda issuer: issuer.token(iss="https://other.example"), "not issued by"),
    "iss_with_a_slash": (lambda issuer: issuer.token(iss=issuer.url + "/"), "not issued by"),
    "no_iss": (lambda issuer: issuer.token(iss=None), "no claim 'iss'"),
    "expired": (lambda issuer: issuer.token(exp=time.time() - SKEW - 5), "has expired"),
    "no_exp": (lambda issuer: issuer.token(exp=None), "no claim 'exp'"),
    "endless": (lambda issuer: issuer.token(exp=float("inf")), "'exp' is not a time"),
    "exp_that_is_a_word": (lambda issuer: issuer.token(exp="never"), "'exp' is not a time"),
    "exp_that_is_true": (lambda issuer: issuer.token(exp=True), "'exp' is not a time"),
    "not_yet_valid": (lambda issuer: issuer.token(nbf=time.time() + SKEW + 60), "not valid yet"),
    "nbf_that_is_no_time": (lambda issuer: issuer.token(nbf=float("nan")), "'nbf' is not a time"),
    "iat_in_the_future": (lambda issuer: issuer.token(iat=time.time() + SKEW + 60), "not valid yet"),
    "no_iat": (lambda issuer: issuer.token(iat=None), "no claim 'iat'"),
    "no_sub": (lambda issuer: issuer.token(sub=None), "'sub' is not a name"),
    "empty_sub": (lambda issuer: issuer.token(sub=""), "'sub' is not a name"),
    "sub_that_is_a_list": (lambda issuer: issuer.sign(issuer.claims(sub=["a"])), "not valid"),
    "sub_of_two_lines": (lambda issuer: issuer.token(sub="a\nadmin"), "'sub' is not a name"),
    "sub_of_half_a_character": (lambda issuer: issuer.token(sub="\ud800"), "'sub' is not a name"),
    "long_sub": (lambda issuer: issuer.token(sub="a" * 257), "'sub' is not a name"),
    "cve_2025_30204_longer_than_16_kib": (lambda issuer: issuer.token(x="x" * 16_384), "not a JWT"),
    "header_that_is_a_list": (lambda issuer: f"{part([])}.e30.eA", "not a JWT"),
    "header_that_is_deep": (lambda issuer: f"{part(b'[' * 10_000)}.e30.eA", "not a JWT"),
    "payload_that_is_a_list": (lambda issuer: jwt_of(issuer, b"[]"), "not valid"),
    "payload_that_is_deep": (lambda issuer: jwt_of(issuer, b'{"a":' * 2_000), "not valid"),
    "payload_that_is_no_text": (lambda issuer: jwt_of(issuer, b"\xff\xfe"), "not valid"),
    "number_without_end": (lambda issuer: jwt_of(issuer, b'{"exp":' + b"9" * 8_000 + b"}"), "not valid"),
}  # fmt: skip


def jwt_of(issuer: Issuer, payload: bytes) -> str:
    """Well signed, whatever it says."""
    headers = {"kid": issuer.kids["ES256"]}
    return jwt.api_jws.encode(payload, issuer.keys["ES256"], algorithm="ES256", headers=headers)


@pytest.mark.parametrize("name", BAD)
async def test_bad_token_is_refused(issuer: Issuer, oidc: TrustedIssuer, name: str) -> None:
    make, message = BAD[name]
    assert message in await refusal(oidc, make(issuer))


async def test_clocks_may_differ_a_little(issuer: Issuer, oidc: TrustedIssuer) -> None:
    now = time.time()
    token = issuer.token(iat=now + SKEW - 5, nbf=now + SKEW - 5, exp=now - SKEW + 5)
    assert (await oidc.verify(token)).name == "corp:someone"


async def test_times_go_by_the_clock_given(issuer: Issuer, settings: IssuerSettings) -> None:
    token = issuer.token(iat=1000, exp=2000)
    assert (await TrustedIssuer(settings, lambda: 1500.0).verify(token)).name == "corp:someone"
    assert "expired" in await refusal(TrustedIssuer(settings, lambda: 2030.0), token)
    assert "not valid yet" in await refusal(TrustedIssuer(settings, lambda: 969.0), token)


@pytest.mark.parametrize(("verified", "message"), [(False, "not verified"), ("true", "not verified"), (None, "")])
async def test_an_address_is_a_name_only_when_it_is_verified(
    issuer: Issuer, settings: IssuerSettings, verified: object, message: str
) -> None:
    oidc = TrustedIssuer(dataclasses.replace(settings, username_claim="email"))
    token = issuer.token(email="ann@corp.example", email_verified=verified)
    if message:
        assert message in await refusal(oidc, token)
    else:
        assert (await oidc.verify(token)).name == "corp:ann@corp.example"


@pytest.mark.parametrize("groups", [{"a": 1}, ["a", 1], 7, [""], ["a\nb"], None])
async def test_groups_that_are_no_names_are_refused(issuer: Issuer, settings: IssuerSettings, groups: object) -> None:
    oidc = TrustedIssuer(dataclasses.replace(settings, groups_claim="groups"))
    assert "'groups' is not a list of names" in await refusal(oidc, issuer.sign(issuer.claims() | {"groups": groups}))


async def test_garbage_of_any_length_is_refused(issuer: Issuer, oidc: TrustedIssuer) -> None:
    chance = random.Random(4)
    good = issuer.token()
    for number in range(2_000):
        changed = bytearray(good.encode())
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed) - 2)] = chance.randrange(256)
        token = changed[: chance.randint(0, len(changed))].decode("latin-1")
        if token != good:
            await refusal(oidc, token * chance.choice((1, 1, number)))


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.b", "a.W10.c", "a.b.c" * 10_000, "." * 10_000_000])
def test_what_says_nothing_claims_nothing(token: str) -> None:
    assert unverified_claims(token) == {}


def test_claims_can_be_read_to_choose_who_verifies_them(issuer: Issuer) -> None:
    assert unverified_claims(issuer.token())["iss"] == issuer.url


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "its name"),
        ({"name": "a:b"}, "its name"),
        ({"audiences": ()}, "audiences are missing"),
        ({"audiences": ("",)}, "audiences are missing"),
        ({"algorithms": ()}, "none at all"),
        ({"algorithms": ("none",)}, "not none"),
        ({"algorithms": ("RS256", "HS256")}, "not HS256"),
        ({"username_claim": ""}, "username_claim is empty"),
        ({"username_prefix": ""}, "somebody else's"),
        ({"username_prefix": "corp"}, "somebody else's"),
        ({"username_prefix": "system:"}, "somebody else's"),
        ({"username_prefix": "system:serviceaccount:"}, "somebody else's"),
        ({"username_prefix": "robot:x"}, "somebody else's"),
        ({"username_prefix": "certificate:"}, "somebody else's"),
        ({"groups_prefix": ""}, "somebody else's"),
        ({"groups_prefix": "system:"}, "somebody else's"),
        ({"name": "system"}, "somebody else's"),
        ({"name": "robot"}, "somebody else's"),
        ({"issuer": ""}, "https://HOST"),
        ({"issuer": "http://issuer.example"}, "https://HOST"),
        ({"issuer": "https://issuer.example?x=1"}, "https://HOST"),
        ({"issuer": "https://u:p@issuer.example"}, "https://HOST"),
        ({"issuer": "file:///etc/passwd"}, "https://HOST"),
        ({"jwks_uri": "http://169.254.169.254/keys"}, "jwks_uri"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(changes: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"name": "corp", "issuer": "https://issuer.example", "audiences": (AUDIENCE,)}
    with pytest.raises(ValueError, match=message):
        IssuerSettings(**usual | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"issuer": "https://a.example"}, "the same URL"),
        ({"username_prefix": "a:b:"}, "begins like"),
        ({"groups_prefix": "a:"}, "begins like"),
        ({}, None),
    ],
)
def test_issuers_do_not_share_names(changes: dict[str, Any], message: str | None) -> None:
    one = IssuerSettings("a", "https://a.example", (AUDIENCE,))
    usual: dict[str, Any] = {"name": "b", "issuer": "https://b.example", "audiences": (AUDIENCE,)}
    found = conflict_between([one, IssuerSettings(**usual | changes)])
    assert (message or "None") in str(found)
