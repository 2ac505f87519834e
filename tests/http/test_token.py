"""The token service, as docker, podman and containerd ask it."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest

import factories
from support.registry import Client, Repository
from support.server import Trow
from support.team import Team

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.issuer import Issuer
    from support.registry import Reply

APP: Final = "repository:team-a/app"


def claims(token: str) -> dict[str, Any]:
    """What a token says."""
    part = token.split(".")[1]
    said: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return said


def post(client: Client, **form: str) -> Reply:
    return client.post("/token", urlencode(form).encode(), content_type="application/x-www-form-urlencoded")


def may(team: Team, token: str, path: str, method: str = "GET") -> int:
    with team.bearer(token) as client:
        return client.request(method, path).status


# ---- the answer


def test_answer_is_the_one_of_the_specification(team: Team) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    reply = team.user("pusher").get(f"/token?service=trow&scope={APP}:pull,push&account=pusher&client_id=docker")
    body = reply.json
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert set(body) == {"token", "access_token", "expires_in", "issued_at", "scope"}
    assert body["token"] == body["access_token"]
    assert body["expires_in"] == 300
    assert before <= datetime.fromisoformat(body["issued_at"]) <= datetime.now(UTC)
    assert body["issued_at"].endswith("Z")
    team.secret(body["token"])


def test_get_and_post_answer_the_same(team: Team) -> None:
    form = {"grant_type": "password", "service": "trow", "client_id": "x", "scope": f"{APP}:pull"}
    got = team.user("puller").get(f"/token?service=trow&scope={APP}:pull").json
    posted = post(team.nobody(), **form, username="puller", password=team.passwords["puller"])
    assert (posted.status, posted.headers["cache-control"]) == (200, "no-store")
    for body in (got, posted.json):
        said = claims(team.secret(body["token"]))
        assert (said["sub"], said["aud"]) == ("puller", "trow")
        assert said["access"] == [{"type": "repository", "name": "team-a/app", "actions": ["pull"]}]
        assert said["exp"] - said["iat"] == pytest.approx(300)


def test_no_refresh_token_is_given_however_it_is_asked_for(team: Team) -> None:
    """offline_token and access_type are ignored: stored identities would outlive the right to them."""
    asked = team.user("puller").get("/token?service=trow&offline_token=true")
    form = {"grant_type": "password", "service": "trow", "client_id": "x", "access_type": "offline"}
    posted = post(team.nobody(), **form, username="puller", password=team.passwords["puller"])
    for reply in (asked, posted):
        assert reply.status == 200
        assert "refresh_token" not in reply.json
        team.secret(reply.json["token"])


@pytest.mark.parametrize("kind", ["password", "robot", "oidc", "registry token"])
@pytest.mark.parametrize("way", ["basic", "bearer", "password grant", "refresh_token grant"])
def test_every_credential_is_good_at_the_token_service(team: Team, kind: str, way: str) -> None:
    made: dict[str, Callable[[], str]] = {
        "password": lambda: team.passwords["puller"],
        "robot": team.robot,
        "oidc": team.oidc,
        "registry token": lambda: team.token(team.user("puller"), f"{APP}:pull"),
    }
    secret = made[kind]()
    user = "puller" if kind == "password" else "anybody"
    if way == "basic":
        reply = team.user(user, secret).get(f"/token?scope={APP}:pull")
    elif way == "bearer":
        reply = team.bearer(secret).get(f"/token?scope={APP}:pull")
    elif way == "password grant":
        reply = post(team.nobody(), grant_type=way[:8], username=user, password=secret, scope=f"{APP}:pull")
    else:
        reply = post(team.nobody(), grant_type=way[:13], refresh_token=secret, scope=f"{APP}:pull")
    if kind == "password" and way in {"bearer", "refresh_token grant"}:  # it does not say whose it is
        assert reply.refusal == (401, "UNAUTHORIZED")
        return
    assert (reply.status, reply.json["scope"]) == (200, f"{APP}:pull")
    assert may(team, reply.json["token"], "/v2/team-a/app/tags/list") in {200, 404}


# ---- what is granted


@pytest.mark.parametrize(
    ("user", "scopes", "granted"),
    [
        ("puller", [f"{APP}:pull"], f"{APP}:pull"),
        ("puller", [f"{APP}:pull,push"], f"{APP}:pull"),
        ("puller", [f"{APP}:*"], f"{APP}:pull"),
        ("puller", [f"{APP}:delete"], ""),
        ("puller", ["repository:team-b/app:pull"], ""),
        ("pusher", [f"{APP}:pull,push"], f"{APP}:attach,pull,push"),
        ("attacher", [f"{APP}:pull,push"], f"{APP}:attach,pull"),
        ("deleter", [f"{APP}:*"], f"{APP}:delete"),
        ("root", [f"{APP}:*"], f"{APP}:attach,delete,pull,push"),
        ("root", [f"{APP}:pull", f"{APP}:push"], f"{APP}:attach,pull,push"),
        ("root", [f"{APP}:pull", "repository:b:pull"], f"{APP}:pull repository:b:pull"),
        ("root", [f"{APP}:pull repository:b:pull"], f"{APP}:pull repository:b:pull"),
        ("root", [f"repository(plugin):{APP.partition(':')[2]}:pull"], f"{APP}:pull"),
        ("root", ["registry:catalog:*"], "registry:catalog:*"),
        ("root", ["registry:catalog:*", "registry:audit:*"], "registry:audit:* registry:catalog:*"),
        ("lister", ["registry:catalog:*", "registry:audit:*"], "registry:catalog:*"),
        ("puller", ["registry:catalog:*"], ""),
        ("root", ["registry:unknown:*", "artifact:a:pull", f"{APP}:unknown"], ""),
        ("root", [], ""),
        ("root", [""], ""),
    ],
)
def test_grant_is_what_was_asked_for_and_is_allowed(team: Team, user: str, scopes: list[str], granted: str) -> None:
    query = urlencode([("scope", scope) for scope in scopes])
    for reply in (
        team.user(user).get(f"/token?{query}"),
        post(
            team.nobody(), grant_type="password", username=user, password=team.passwords[user], scope=" ".join(scopes)
        ),
    ):
        assert (reply.status, reply.json["scope"]) == (200, granted)
        team.secret(reply.json["token"])


def test_catalogue_token_shows_what_its_holder_may_pull(team: Team) -> None:
    Repository(team.root, "team-b/hidden").push(factories.image(0), "v1")
    Repository(team.root, "team-a/shown").push(factories.image(0), "v1")
    with team.bearer(team.token(team.root, "registry:catalog:*")) as root:
        assert {"team-a/shown", "team-b/hidden"} <= set(root.get("/v2/_catalog?n=1000").json["repositories"])
    with team.bearer(team.token(team.user("lister"), "registry:catalog:*")) as lister:
        assert lister.get("/v2/_catalog?n=1000").json["repositories"] == []


def test_token_gives_no_longer_life_and_no_more_rights_to_the_next(team: Team) -> None:
    small = team.token(team.root, f"{APP}:pull")
    with team.bearer(small) as client:
        reply = client.get(f"/token?scope={APP}:pull,push&scope=registry:catalog:*")
    following = team.secret(reply.json["token"])
    assert claims(following)["access"] == claims(small)["access"]
    assert claims(following)["exp"] <= claims(small)["exp"]
    assert claims(following)["iat"] == claims(small)["iat"]
    assert reply.json["expires_in"] <= 300


# ---- what is refused


@pytest.mark.parametrize(
    "scope",
    ["repository", "repository:a", "repository::pull", "repository:a:", "repository:a:PULL", "repository:A:pull",
     "repository:../a:pull", "repository:a.example:5000/x:pull", "artifact-repository:a:pull", "repository:*:*", ":::",
     "repository:a:metadata_read", "aws", "repository:a:pull;", "\x00", b"\xff", b"repository:\xff:pull"],
)  # fmt: skip
def test_scope_without_meaning_refuses_nobody_the_others(team: Team, scope: str | bytes) -> None:
    """containerd and kaniko ask for source and target of a copy in one request."""
    said, good = scope if isinstance(scope, bytes) else scope.encode(), f"{APP}:pull".encode()
    for scopes in ([said, good], [good, said], [said + b" " + good]):
        reply = team.root.get(f"/token?{urlencode([('scope', each) for each in scopes])}")
        assert (reply.status, reply.json["scope"]) == (200, f"{APP}:pull")
    assert team.root.get(f"/token?{urlencode({'scope': scope})}").json["scope"] == ""


def test_of_too_many_scopes_the_first_are_granted(team: Team) -> None:
    scopes = [f"repository:a{number}:pull" for number in range(500)]
    granted = team.root.get(f"/token?{urlencode({'scope': ' '.join(scopes)})}").json["scope"].split()
    assert granted == scopes[: len(granted)]
    assert 50 <= len(granted) < 100


def test_form_may_be_in_utf_8_as_it_is(team: Team) -> None:
    """As curl sends what it is given."""
    form = "grant_type=password&service=trow&username=zoë&password=naïve"
    assert team.nobody().post("/token", form.encode()).refusal == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"grant_type=",
        b"grant_type=client_credentials",
        b"grant_type=authorization_code&code=x",
        b"grant_type=password",
        b"grant_type=password&username=root",
        b"grant_type=password&password=x",
        b"grant_type=refresh_token",
        b"grant_type=password&grant_type=password&username=a&password=b",
        b"grant_type=password&username=a&username=b&password=c",
        b"{}",
        b"\xff\xfe\x00",
        b"grant_type=password&username=%ff&password=x",
        b"&".join(b"a=b" for _ in range(200)),
        b"grant_type=password&username=" + b"a" * 70_000,
    ],
)
def test_form_that_cannot_be_read(team: Team, form: bytes) -> None:
    assert team.nobody().post("/token", form).refusal == (400, "UNSUPPORTED")


def test_refused_credentials_are_asked_for_as_basic(team: Team) -> None:
    wrong = secrets.token_urlsafe()
    for reply in (
        team.nobody().get("/token"),
        team.user("root", wrong).get("/token"),
        team.bearer(wrong).get("/token"),
        post(team.nobody(), grant_type="password", username="root", password=team.secret(wrong)),
        post(team.nobody(), grant_type="refresh_token", refresh_token=wrong),
    ):
        assert reply.refusal == (401, "UNAUTHORIZED")
        assert reply.headers["www-authenticate"] == 'Basic realm="Trow", charset="UTF-8"'


# ---- keys, restarts and replicas


@pytest.mark.slow
def test_token_outlives_a_restart_and_a_rotation_of_the_keys(tmp_path: Path, issuer: Issuer) -> None:
    with Team(tmp_path, issuer) as team:
        first = team.token(team.root, "repository:team-a/walk:pull")
        assert "token-0002.pem" in team.trow.command("keys", "rotate")
        keys = team.trow.command("keys", "list")
        assert keys.count("token-") == 2
        assert keys.count("signs") == 1
        second = team.token(team.root, "repository:team-a/walk:pull")
        for token in (first, second, team.forged()):  # the last is signed with the new key
            assert may(team, token, "/v2/team-a/walk/tags/list") == 404
        team.restart()
        for token in (first, second):
            assert may(team, token, "/v2/team-a/walk/tags/list") == 404


@pytest.mark.slow
def test_servers_that_share_keys_accept_each_others_tokens(tmp_path: Path, issuer: Issuer, team: Team) -> None:
    keys = tmp_path / "keys"
    with (
        Team(tmp_path / "one", issuer, tokens={"keys": str(keys)}) as one,
        Team(tmp_path / "two", issuer, tokens={"keys": str(keys)}) as two,
    ):
        token = one.token(one.root, f"{APP}:pull")
        for server in (one, two):
            assert may(server, token, "/v2/team-a/app/tags/list") == 404
        assert may(team, token, "/v2/team-a/app/tags/list") == 401  # which has keys of its own
        assert may(two, team.token(team.root, f"{APP}:pull"), "/v2/team-a/app/tags/list") == 401


def test_harbor_22900_a_token_is_not_for_the_namesake_of_a_deleted_repository(team: Team) -> None:
    name = f"team-a/{secrets.token_hex(4)}"
    image = factories.image()
    Repository(team.root, name).push(image, "v1")
    early = team.token(team.user("puller"), f"repository:{name}:pull")
    assert may(team, early, f"/v2/{name}/tags/list") == 200
    assert team.root.delete(f"/v2/{name}/manifests/{image.digest}").status == 202
    for blob in image.blobs:
        team.root.delete(f"/v2/{name}/blobs/{blob.digest}")
    Repository(team.root, name).push(factories.image(), "v1")
    for path in (f"/v2/{name}/tags/list", f"/v2/{name}/manifests/v1", f"/api/v1/repositories/{name}/tags/v1/history"):
        assert may(team, early, path) == 401
    late = team.token(team.user("puller"), f"repository:{name}:pull")
    assert may(team, late, f"/v2/{name}/tags/list") == 200


def test_who_creates_a_repository_goes_on_with_the_same_token(team: Team) -> None:
    name = f"team-a/{secrets.token_hex(4)}"
    with team.bearer(team.token(team.user("pusher"), f"repository:{name}:pull,push")) as pusher:
        Repository(pusher, name).push(factories.image(), "v1")
        assert pusher.get(f"/v2/{name}/manifests/v1").status == 200


def test_issued_time_is_now(team: Team) -> None:
    said = claims(team.token(team.root))
    assert abs(said["iat"] - time.time()) < 60
    assert said["nbf"] <= said["iat"] < said["exp"]


@pytest.mark.slow
def test_a_rule_for_everybody_gives_tokens_to_those_without_credentials(tmp_path: Path) -> None:
    rules = [{"anonymous": True, "repositories": ["public/**"], "actions": ["pull"]}]
    alice = ("alice", "correct horse")
    with Trow.start(tmp_path, user=alice, config={"access": {"rules": rules}}) as trow:
        image = factories.image()
        with Client(trow.url, alice) as owner:
            for name in ("public/app", "private/app"):
                Repository(owner, name).push(image, "v1")
        with Client(trow.url) as nobody:
            scopes = "scope=repository:public/app:pull&scope=repository:private/app:pull"
            token = nobody.get(f"/token?{scopes}").json["token"]
        with Client(trow.url, bearer=token) as nobody:
            assert nobody.get("/v2/").status == 200
            assert nobody.get("/v2/public/app/manifests/v1").status == 200
            assert nobody.get("/v2/private/app/manifests/v1").status == 401
