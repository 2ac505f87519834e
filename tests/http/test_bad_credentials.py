"""Credentials that are none: each gets a clear answer, no access, and a record that holds no secret."""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import factories
from support.issuer import AUDIENCE, new_key, public_jwk
from support.registry import Repository, basic
from support.team import Team, TeamClient, new_address
from support.waiting import until
from support.wire import ConnectionEnded, Wire, request
from trow.identity.keys import KeyRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.issuer import Issuer
    from support.registry import Reply
    from support.wire import Answer

# The HTTP parser takes headers up to some size in all; what is above it never reaches the registry.
PARSER_STATUSES: Final = frozenset({400, 431})
LONGEST: Final = 64 * 1024
VAULT: Final = "team-b/bad-credentials"
PATHS: Final = ("/v2/", f"/v2/{VAULT}/manifests/v1", "/v2/_catalog", "/api/v1/audit", "/token")


@pytest.fixture(scope="module")
def vault(team: Team) -> Team:
    """The team's server, with something that nobody here gets to see."""
    Repository(team.root, VAULT).push(factories.image(0), "v1")
    return team


# ---- headers of any form and length


def ask(team: Team, path: str, values: list[bytes], address: str) -> Answer | None:
    """Ask with these Authorization headers, to the byte; None where the parser ends the connection."""
    head = request("GET", path, [("Connection", "close"), ("X-Forwarded-For", address)])
    lines = b"".join(b"Authorization: " + value + b"\r\n" for value in values)
    with Wire(team.trow.host) as wire:
        wire.send_what_it_takes(head[:-2] + lines + b"\r\n")
        try:
            return wire.answer()
        except ConnectionEnded:
            return None


# Whatever may stand in a header: RFC 9110, section 5.5, without white space at the ends.
_VISIBLE: Final = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
_LETTERS: Final = st.sampled_from(_VISIBLE + b" \t")
NOISE: Final = st.one_of(
    st.lists(_LETTERS, max_size=200).map(bytes),
    st.builds(lambda piece, size: piece * (size // len(piece)), st.sampled_from([b"A", b".", b"=", b"eyJ.", b": "]),
              st.integers(0, LONGEST)),
    st.builds(lambda text: b"Basic " + base64.b64encode(text.encode()), st.text(max_size=300)),
    st.builds(lambda content: b"Basic " + base64.b64encode(content), st.binary(max_size=300)),
    st.builds(lambda content: b"Bearer " + base64.urlsafe_b64encode(content), st.binary(max_size=300)),
    st.builds(
        lambda header, claims: b"Bearer " + b".".join(map(base64.urlsafe_b64encode, (header, claims, b"x"))),
        st.sampled_from([b'{"alg":"none"}', b'{"alg":"EdDSA","kid":"","typ":"JWT"}', b"[]", b'{"alg":' * 5000]),
        st.sampled_from([b'{"iss":"trow"}', b'{"iss":""}', b'{"iss":{}}', b"[" * 20_000, b'{"exp":1e999}', b"null"]),
    ),
    st.sampled_from([b"Basic", b"Bearer", b"basic Og==", b"Bearer  ", b"Negotiate x", b"Digest a=b", b"Basic\t", b","]),
)  # fmt: skip


@pytest.mark.slow
@settings(deadline=None, max_examples=150, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(NOISE.map(bytes.strip), min_size=1, max_size=3), st.sampled_from(PATHS))
def test_no_malformed_credentials_get_in_or_break_anything(vault: Team, values: list[bytes], path: str) -> None:
    answer = ask(vault, path, values, new_address())
    if answer is None or (answer.status in PARSER_STATUSES and not answer.body):
        return
    if values in ([b""], [b"basic Og=="]):  # nobody says who they are
        assert answer.status == 401
        return
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    assert answer.header("www-authenticate").startswith("Basic" if path == "/token" else "Bearer")
    assert b"Traceback" not in answer.body
    assert len(answer.body) < 1000


@pytest.mark.parametrize("length", [0, 1, 8, 4096, 16_383, 16_384, 16_385, 32_768, LONGEST])
@pytest.mark.parametrize("start", ["", "Basic ", "Bearer ", "Bearer eyJ", "Bearer trow_"])
def test_cve_2025_30204_credentials_of_any_length_are_refused(vault: Team, start: str, length: int) -> None:
    value = (start + "A" * (length - len(start)))[:length].strip()
    for path in PATHS:
        answer = ask(vault, path, [value.encode()], new_address())
        assert answer is not None
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])


def test_credentials_that_are_too_much_for_the_parser_harm_nobody(vault: Team) -> None:
    for size in (100_000, 500_000, 2_000_000):
        answer = ask(vault, "/v2/", [b"Bearer " + b"A" * size], new_address())
        assert answer is None or answer.status in {400, 401, 431}
        assert vault.root.get("/v2/").status == 200


def test_several_headers_are_refused_even_if_each_is_good(vault: Team) -> None:
    good = basic("root", vault.passwords["root"]).encode()
    client = vault.nobody()
    for values in ([good, good], [good, b"Bearer x"], [b"Basic", good]):
        answer = ask(vault, "/v2/", values, client.address)
        assert answer is not None
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    (record,) = vault.records.of(client)
    assert record["outcome"] == "denied"
    assert "more than one" in record["reason"]


# ---- tokens of every bad kind

Forge: TypeAlias = "Callable[[Team], str]"
FORGED: Final[dict[str, tuple[Forge, str]]] = {}


def forged(why: str) -> Callable[[Forge], Forge]:
    """A token that is refused, and a part of the reason on record."""

    def add(forge: Forge) -> Forge:
        FORGED[forge.__name__.replace("_", " ")] = forge, why
        return forge

    return add


def segment(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def hs256(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """By hand: no library would sign with a public key."""
    content = f"{segment({'alg': 'HS256', 'kid': kid, 'typ': 'JWT'})}.{segment(claims)}"
    signature = base64.urlsafe_b64encode(hmac.digest(secret, content.encode(), "sha256")).rstrip(b"=").decode()
    return f"{content}.{signature}"


def ours(team: Team, **changes: Any) -> dict[str, Any]:
    """What a good registry token says, but for the changes; None leaves a claim out."""
    now = time.time()
    said = {
        "iss": "trow",
        "aud": "trow",
        "sub": "root",
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "jti": secrets.token_hex(16),
        "generation": 1_000_000,
        "access": [{"type": "repository", "name": VAULT, "actions": ["pull"]}],
        "holder": {"method": "password"},
    }
    return {name: value for name, value in (said | changes).items() if value is not None}


def signed(team: Team, claims: dict[str, Any], **header: Any) -> str:
    """Signed with the registry's own key, as nobody else could."""
    key = KeyRing(team.data / "keys").signing()
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id} | header)


def test_a_token_made_here_would_be_good_without_its_fault(vault: Team) -> None:
    """Else the tests below would prove nothing."""
    for token in (signed(vault, ours(vault)), vault.oidc()):
        assert vault.bearer(token).get("/v2/").status == 200
    assert vault.bearer(signed(vault, ours(vault))).get(f"/v2/{VAULT}/manifests/v1").status == 200


@forged("not one that this registry issues")
def alg_none(team: Team) -> str:
    return f"{segment({'alg': 'none', 'typ': 'JWT'})}.{segment(ours(team))}."


@forged("not one that this registry issues")
def alg_none_with_a_signature(team: Team) -> str:
    *_, signature = signed(team, ours(team)).split(".")
    return f"{segment({'alg': 'none', 'kid': 'x', 'typ': 'JWT'})}.{segment(ours(team))}.{signature}"


@forged("not one that this registry issues")
def hs256_with_the_public_key_as_secret(team: Team) -> str:
    key = KeyRing(team.data / "keys").signing()
    return hs256(ours(team), key.public.public_bytes_raw(), key.id)


@forged("a key that is not in use here")
def foreign_kid(team: Team) -> str:
    return jwt.encode(ours(team), new_key("EdDSA"), algorithm="EdDSA", headers={"kid": "foreign"})


@forged("not one that this registry issues")
def foreign_key_with_our_kid(team: Team) -> str:
    kid = KeyRing(team.data / "keys").signing().id
    return jwt.encode(ours(team), new_key("EdDSA"), algorithm="EdDSA", headers={"kid": kid})


@forged("a key that is not in use here")
def kid_that_is_a_path(team: Team) -> str:
    kid = "../../../../dev/null"
    return jwt.encode(ours(team), new_key("EdDSA"), algorithm="EdDSA", headers={"kid": kid})


@forged("not one that this registry issues")
def embedded_jwk(team: Team) -> str:
    key = new_key("EdDSA")
    kid = KeyRing(team.data / "keys").signing().id
    header = {"kid": kid, "jwk": public_jwk(key, "EdDSA", kid=kid)}
    return jwt.encode(ours(team), key, algorithm="EdDSA", headers=header)


@forged("not one that this registry issues")
def jku(team: Team) -> str:
    return signed(team, ours(team), jku=f"{team.issuer.url}/evil")


@forged("not one that this registry issues")
def x5u(team: Team) -> str:
    return signed(team, ours(team), x5u=f"{team.issuer.url}/evil")


@forged("not one that this registry issues")
def crit(team: Team) -> str:
    return signed(team, ours(team), crit=["b64"])


@forged("meant for another service")
def wrong_audience(team: Team) -> str:
    return signed(team, ours(team, aud="another"))


@forged("has expired")
def expired(team: Team) -> str:
    now = time.time()
    return signed(team, ours(team, iat=now - 400, nbf=now - 400, exp=now - 1))


@forged("not valid yet")
def not_yet_valid(team: Team) -> str:
    return signed(team, ours(team, nbf=time.time() + 200, exp=time.time() + 300))


@forged("not valid yet")
def issued_by_a_clock_that_is_ahead(team: Team) -> str:
    return signed(team, ours(team, iat=time.time() + 60, exp=time.time() + 300))


@forged("lives longer than a token may")
def life_without_end(team: Team) -> str:
    return signed(team, ours(team, exp=time.time() + 1e9))


@forged("not one that this registry issues")
def no_expiry(team: Team) -> str:
    return signed(team, ours(team, exp=None))


@forged("not one that this registry issues")
def unknown_claim(team: Team) -> str:
    return signed(team, ours(team, limit="nothing"))


@forged("names rights that are not known here")
def unknown_right(team: Team) -> str:
    return signed(team, ours(team, access=[{"type": "repository", "name": VAULT, "actions": ["own"]}]))


@forged("names rights that are not known here")
def repository_outside_the_grammar(team: Team) -> str:
    return signed(team, ours(team, access=[{"type": "repository", "name": "../x", "actions": ["pull"]}]))


@forged("issuer is not one that is trusted")
def unknown_issuer(team: Team) -> str:
    return team.oidc(iss="https://issuer.example.com")


@forged("not signed with")
def oidc_alg_none(team: Team) -> str:
    return f"{segment({'alg': 'none', 'kid': 'x'})}.{segment(team.issuer.claims(aud=AUDIENCE))}."


@forged("not signed with")
def oidc_hs256_with_the_public_key_as_secret(team: Team) -> str:
    public = team.issuer.keys["ES256"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hs256(team.issuer.claims(), pem, team.issuer.kids["ES256"])


@forged("signature is not valid")
def oidc_foreign_key(team: Team) -> str:
    kid = team.issuer.kids["ES256"]
    return jwt.encode(team.issuer.claims(), new_key("ES256"), algorithm="ES256", headers={"kid": kid})


@forged("brings its own key")
def oidc_embedded_jwk(team: Team) -> str:
    key = new_key("ES256")
    kid = team.issuer.kids["ES256"]
    header = {"kid": kid, "jwk": public_jwk(key, "ES256", kid=kid)}
    return jwt.encode(team.issuer.claims(), key, algorithm="ES256", headers=header)


@forged("brings its own key")
def oidc_jku(team: Team) -> str:
    return team.issuer.sign(team.issuer.claims(), headers={"jku": f"{team.issuer.url}/evil"})


@forged("brings its own key")
def oidc_x5u(team: Team) -> str:
    return team.issuer.sign(team.issuer.claims(), headers={"x5u": f"{team.issuer.url}/evil"})


@forged("another audience")
def oidc_wrong_audience(team: Team) -> str:
    return team.oidc(aud=["another", "and another"])


@forged("no claim 'aud'")
def oidc_no_audience(team: Team) -> str:
    return team.oidc(aud=None)


@forged("has expired")
def oidc_expired(team: Team) -> str:
    return team.oidc(exp=int(time.time()) - 60, iat=int(time.time()) - 600)


@forged("not valid yet")
def oidc_not_yet_valid(team: Team) -> str:
    return team.oidc(nbf=int(time.time()) + 120)


@forged("not valid yet")
def oidc_issued_in_the_future(team: Team) -> str:
    return team.oidc(iat=int(time.time()) + 120)


@forged("is not a name")
def oidc_subject_with_a_line_break(team: Team) -> str:
    return team.oidc(sub="a\nb")


@forged("was revoked")
def revoked_robot(team: Team) -> str:
    robot = team.robot("revoked")
    team.revoke(robot)
    return robot


@forged("expired at")
def expired_robot(team: Team) -> str:
    return team.robot("expired", age=4000)


@forged("is not known here")
def robot_with_another_secret(team: Team) -> str:
    prefix, id_, _ = team.robot("guessed").split("_", 2)
    return f"{prefix}_{id_}_{secrets.token_urlsafe(32)}"


@forged("is malformed")
def half_a_robot_token(team: Team) -> str:
    return team.robot("half")[:30]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORGED)
def test_bad_token_is_refused_everywhere_and_on_record_without_it(vault: Team, kind: str) -> None:
    forge, why = FORGED[kind]
    token = vault.secret(forge(vault))
    callers = [vault.bearer(token), vault.user("anybody", token)]
    askers = [vault.bearer(token), vault.user("anybody", token)]
    for client in callers:
        for path in PATHS[:3]:
            reply = client.get(path)
            assert reply.refusal == (401, "UNAUTHORIZED")
            assert why in reply.json["errors"][0]["message"]
            assert token not in reply.body.decode()
    for client in askers:
        assert client.get("/token").refusal == (401, "UNAUTHORIZED")
    for client in callers:
        assert_denied(vault, client, why, {None, VAULT}, records=3)  # one for each of PATHS[:3]
    for client in askers:
        assert_denied(vault, client, why, {None})
    assert not vault.issuer.requests["/evil"]  # nobody follows what a token says of keys


@pytest.mark.slow
def test_a_key_that_the_issuer_may_have_by_now_is_refused_until_it_is_asked_again(vault: Team) -> None:
    """Anybody can make up the name of a key. The issuer is asked at most every ten seconds."""
    token = vault.secret(
        jwt.encode(vault.issuer.claims(), new_key("ES256"), algorithm="ES256", headers={"kid": "foreign"})
    )
    client = vault.bearer(token)
    until(lambda: client.get("/v2/").refusal == (503, "UNAVAILABLE"))
    until(lambda: client.get("/v2/").refusal == (401, "UNAUTHORIZED"))
    found = vault.records.of(client, 2)
    assert {record["outcome"] for record in found} == {"denied", "failed"}
    assert all("list" in record["reason"] and "actor" not in record for record in found)


def assert_denied(team: Team, client: TeamClient, why: str, repositories: set[str | None], *, records: int = 1) -> None:
    """It is on record: nobody, from there, with the reason, once for each thing that was asked."""
    found = team.records.of(client, records)
    assert {record.get("repository") for record in found} == repositories
    for record in found:
        assert (record["action"], record["outcome"]) == ("login", "denied")
        assert why in record["reason"]
        assert "actor" not in record


@pytest.mark.parametrize("seconds", [5, 25])
def test_clocks_may_differ_a_little(vault: Team, seconds: int) -> None:
    """Another replica, and the issuer, are ahead by some seconds, or behind."""
    now = time.time()
    ahead = signed(vault, ours(vault, iat=now + seconds, nbf=now + seconds, exp=now + seconds + 300))
    assert vault.bearer(vault.secret(ahead)).get("/v2/").status == 200
    whole = int(now)
    for token in (
        vault.oidc(iat=whole + seconds, nbf=whole + seconds, exp=whole + 300),
        vault.oidc(iat=whole - 300, exp=whole - seconds + 2),
    ):
        assert vault.bearer(token).get("/v2/").status == 200


# ---- guessing


def test_passwords_cannot_be_guessed_in_bulk(vault: Team) -> None:
    guesser = vault.user("puller", secrets.token_urlsafe())
    assert [guesser.get("/v2/").status for _ in range(9)] == [401] * 9, "the same again is no further guess"

    def guess() -> Reply:
        wrong = basic("puller", vault.secret(secrets.token_urlsafe()))
        return guesser.request("GET", "/v2/", headers={"authorization": wrong})

    assert [guess().status for _ in range(4)] == [401] * 4
    reply = guess()
    assert reply.refusal == (429, "TOOMANYREQUESTS")
    assert 1 <= int(reply.headers["retry-after"]) <= 300
    there = {"x-forwarded-for": guesser.address}

    def status(user: str, secret: str, path: str = "/v2/") -> int:
        return guesser.request("GET", path, headers=there | {"authorization": basic(user, secret)}).status

    # Not even another password is looked at; at the token service as little as anywhere.
    other = vault.secret(secrets.token_urlsafe())
    assert status("puller", other) == status("puller", other, "/token") == 429
    # Another user there, and the same user elsewhere, still can; and so can who has shown a password before.
    assert status("pusher", vault.passwords["pusher"]) == 200
    assert vault.user("puller").get("/v2/").status == 200
    assert status("puller", vault.passwords["puller"]) == 200
    vault.records.of(guesser, 2, outcome="ok")
    (denied,) = vault.records.of(guesser, outcome="denied")
    assert denied["reason"].startswith("the user name or the password is wrong;")
    unseen = vault.records.now(guesser, outcome="failed")
    assert unseen
    assert all("too many failed logins" in record["reason"] for record in unseen)


def test_wrong_tokens_lock_nobody_out_who_shares_their_address(vault: Team) -> None:
    """The Pods of a node, or all behind one NAT. Tokens are random or signed: nobody guesses one."""
    client = vault.nobody()
    here = {"x-forwarded-for": new_address()}

    def status(authorization: str, path: str = "/v2/") -> int:
        return client.request("GET", path, headers=here | {"authorization": authorization}).status

    for number in range(60):
        guess = f"trow_{''.join(secrets.choice('abcdefgh') for _ in range(12))}_{secrets.token_urlsafe(32)}"
        for wrong in (vault.secret(guess), vault.secret(oidc_foreign_key(vault)), vault.secret(unknown_issuer(vault))):
            assert status(f"Bearer {wrong}") == status(basic(f"user{number}", wrong), "/token") == 401
    for good in (vault.robot("shared"), vault.oidc()):
        assert status(f"Bearer {good}") == status(basic("x", good)) == status(basic("x", good), "/token") == 200
    assert status(basic("puller", vault.passwords["puller"])) == 200


def test_token_that_has_run_out_is_no_guess(vault: Team) -> None:
    """Clients come back with old tokens all the time."""
    stale, good = vault.bearer(expired(vault)), vault.oidc()
    assert [stale.get("/v2/").status for _ in range(20)] == [401] * 20
    assert stale.request("GET", "/v2/", headers={"authorization": f"Bearer {good}"}).status == 200


# ---- nothing secret is written down


@pytest.mark.slow
def test_nothing_that_the_server_writes_holds_a_secret(tmp_path: Path, issuer: Issuer) -> None:
    """Passwords, robot tokens and JWTs, good and bad, wherever they can stand, also where they should not."""
    with Team(tmp_path, issuer, log={"level": "debug"}) as team:
        password = team.passwords["puller"]
        good = [password, team.robot(), team.oidc(), team.token(team.user("puller"), "repository:team-a/app:pull")]
        bad = [team.secret(secrets.token_urlsafe(24)), *(team.secret(forge(team)) for forge, _ in FORGED.values())]
        for secret in (*good, *bad):
            for client in (team.user("puller", secret), team.bearer(secret)):
                client.get("/v2/")
                client.get("/v2/team-b/app/manifests/v1")
                client.get("/token?scope=repository:team-b/app:pull,push")
            team.nobody().post("/token", f"grant_type=password&username=puller&password={secret}".encode())
            team.nobody().post("/token", f"grant_type=refresh_token&refresh_token={secret}".encode())
            team.nobody().post("/token", f"grant_type={secret}".encode())
            for header in (f"Digest {secret}", f"Basic {secret}", f"Bearer {secret} x", f"Bearer: {secret}", secret):
                team.nobody().request("GET", "/v2/", headers={"authorization": header})
        team.trow.stop()
        assert len(team.secrets) > 60
        assert team.leaks() == []
        assert {path.name for path, _ in written(team)} >= {"stderr.log", "audit.jsonl", "audit.db"}


def written(team: Team) -> Iterator[tuple[Path, bytes]]:
    for path in (team.trow.stderr, team.folder / "audit.jsonl", team.data / "audit.db"):
        content = path.read_bytes()
        assert len(content) > 10_000
        yield path, content
