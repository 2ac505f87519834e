"""Jobs of a CI service: its tokens wherever a credential may stand, and rules about what they say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import jwt
import pytest
import urllib3

from clients.image import TAG, image
from clients.registry import ALICE, Login, Registry
from support.issuer import AUDIENCE, Issuer, new_key, public_jwk
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from clients.drivers import Connect

MAIN: Final = {"repository": "acme/app", "ref": "refs/heads/main", "sub": "repo:acme/app:ref:refs/heads/main"}
BRANCH: Final = {"repository": "acme/app", "ref": "refs/heads/new", "sub": "repo:acme/app:ref:refs/heads/new"}
FORK: Final = {"repository": "mallory/app", "ref": "refs/heads/main", "sub": "repo:mallory/app:ref:refs/heads/main"}
RULES: Final = (
    {"issuer": "ci", "claims": {"repository": "acme/*"}, "repositories": ["clients/**"], "actions": ["pull"]},
    {
        "issuer": "ci",
        "claims": {"repository": "acme/*", "ref": "refs/heads/main"},
        "repositories": ["clients/**"],
        "actions": ["push"],
    },
)
WAYS: Final = ("password", "bearer", "GET /token", "POST /token password", "POST /token refresh_token")


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer.start() as running:
        yield running


@pytest.fixture(scope="module")
def ignore_tag(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that believes the issuer."""
    known = {"name": "ci", "issuer": issuer.url, "audiences": [AUDIENCE]}
    config = {"auth": {"oidc": [known]}, "access": {"rules": RULES}}
    user = (ALICE.name, ALICE.password)
    with Trow.start(tmp_path_factory.mktemp("ignore_tag"), tls=True, user=user, config=config) as trow:
        yield Registry(trow, ALICE)


def shown(ignore_tag: Registry, way: str, token: str, scope: str = "") -> tuple[int, Mapping[str, str]]:
    """The credential in its place: the status of the token service or the ping, and a header for what follows."""
    anybody = Registry(ignore_tag.trow)
    basic = urllib3.make_headers(basic_auth=f"any-name:{token}")
    direct = {"password": basic, "bearer": {"Authorization": f"Bearer {token}"}}
    if way in direct:
        return anybody.request("GET", "/v2/", headers=direct[way]).status, direct[way]
    asked = {"service": "trow", "scope": scope}
    if way == "GET /token":
        answer = anybody.request("GET", "/token", fields=asked, headers=basic)
    else:
        kind = way.rpartition(" ")[2]
        secret = {"password": {"username": "any-name", "password": token}, "refresh_token": {"refresh_token": token}}
        form = {"grant_type": kind, "client_id": "test", **asked, **secret[kind]}
        answer = anybody.request("POST", "/token", fields=form, encode_multipart=False)
    issued = answer.json().get("token", "")
    return answer.status, {"Authorization": f"Bearer {issued}"}


@pytest.mark.parametrize("way", WAYS)
def test_a_token_of_the_issuer_pushes_and_pulls_as_its_rules_say(
    way: str, issuer: Issuer, ignore_tag: Registry, repository: str
) -> None:
    _, headers = shown(ignore_tag, way, issuer.token(**MAIN), f"repository:{repository}:pull,push")
    job = Registry(ignore_tag.trow, headers=headers)
    job.push(repository, image(repository), TAG)
    assert job.complete(repository, TAG).digest == image(repository).digest
    elsewhere = job.request("GET", f"/v2/other/{repository}/manifests/{TAG}")
    assert (elsewhere.status, elsewhere.json()["errors"][0]["code"]) == (403, "DENIED")


@pytest.mark.parametrize(("claims", "pulls", "pushes"), [(MAIN, 200, 202), (BRANCH, 200, 403), (FORK, 403, 403)])
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_reads_every_claim_that_it_names(
    way: str, claims: dict[str, str], pulls: int, pushes: int, issuer: Issuer, ignore_tag: Registry, repository: str
) -> None:
    ignore_tag.push(repository, image(repository), TAG)
    status, headers = shown(ignore_tag, way, issuer.token(**claims), f"repository:{repository}:pull,push")
    assert status == 200
    job = Registry(ignore_tag.trow, headers=headers)
    assert job.request("GET", f"/v2/{repository}/manifests/{TAG}").status == pulls
    assert job.request("POST", f"/v2/{repository}/blobs/uploads/").status == pushes


def embedded(issuer: Issuer) -> str:
    """Signed with a key of its own, which it brings along."""
    key = new_key("ES256")
    header = {"kid": issuer.kids["ES256"], "jwk": public_jwk(key, "ES256")}
    return jwt.encode(issuer.claims(**MAIN), key, algorithm="ES256", headers=header)


def unsigned(issuer: Issuer) -> str:
    return jwt.encode(issuer.claims(**MAIN), "", algorithm="none", headers={"kid": issuer.kids["ES256"]})


def shared_secret(issuer: Issuer) -> str:
    """The id of a public key, and any key at all."""
    return jwt.encode(issuer.claims(**MAIN), "x" * 32, algorithm="HS256", headers={"kid": issuer.kids["ES256"]})


def changed(issuer: Issuer) -> str:
    """The signature of another token."""
    header, claims, _ = issuer.token(**MAIN).split(".")
    return ".".join((header, claims, issuer.token(**BRANCH).rpartition(".")[2]))


BAD: Final[Mapping[str, Callable[[Issuer], str]]] = {
    "another audience": lambda issuer: issuer.token(**MAIN, aud="other.example.com"),
    "no audience": lambda issuer: issuer.token(**MAIN, aud=None),
    "another issuer": lambda issuer: issuer.token(**MAIN, iss="https://issuer.example.com"),
    "expired": lambda issuer: issuer.token(**MAIN, iat=int(time.time()) - 600, exp=int(time.time()) - 60),
    "not yet valid": lambda issuer: issuer.token(**MAIN, nbf=int(time.time()) + 600),
    "no end": lambda issuer: issuer.token(**MAIN, exp=None),
    "its own key": embedded,
    "unsigned": unsigned,
    "a shared secret": shared_secret,
    "another's signature": changed,
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_a_good_token_of_the_issuer_is_refused(kind: str, issuer: Issuer, ignore_tag: Registry) -> None:
    for way in set(WAYS) - {"POST /token password"}:  # a fifth failure in a row has to wait
        assert shown(ignore_tag, way, BAD[kind](issuer))[0] == 401, way
    assert shown(ignore_tag, "bearer", issuer.token(**MAIN))[0] == 200


def test_a_key_that_the_issuer_does_not_list_lets_nobody_in(issuer: Issuer, ignore_tag: Registry) -> None:
    """Who comes while the issuer may not be asked again is told to come later: the key could be a new one."""
    unknown = issuer.sign(issuer.claims(**MAIN), headers={"kid": "unknown"})
    for way in set(WAYS) - {"POST /token password"}:
        assert shown(ignore_tag, way, unknown)[0] in (401, 503), way
    assert shown(ignore_tag, "bearer", issuer.token(**MAIN))[0] == 200


@pytest.mark.parametrize("client", ["crane", "docker", "oras", "skopeo"])
def test_clients_log_in_with_the_token(
    client: str, issuer: Issuer, ignore_tag: Registry, connect: Connect, repository: str
) -> None:
    driver = connect(client, ignore_tag)
    driver.login(Login("any-name", issuer.token(**MAIN)))
    driver.push(repository)
    assert driver.pull(repository) == ignore_tag.complete(*driver.pushed(repository)).digest
