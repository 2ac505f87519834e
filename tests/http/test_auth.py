"""Who may do what: everything for the user, and for nobody what the server grants."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.registry import Client, Repository
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE: Final = ("alice", "correct horse")
IMAGE: Final = factories.image()
READS: Final = [
    ("GET", "/manifests/{image}"),
    ("HEAD", "/manifests/v1"),
    ("GET", "/blobs/{blob}"),
    ("GET", "/tags/list"),
    ("GET", "/referrers/{image}"),
]
WRITES: Final = [
    ("PUT", "/manifests/v2"),
    ("DELETE", "/manifests/v1"),
    ("DELETE", "/manifests/{image}"),
    ("DELETE", "/blobs/{blob}"),
    ("POST", "/blobs/uploads/"),
    ("POST", "/blobs/uploads/?digest={blob}"),
    ("POST", "/blobs/uploads/?mount={blob}"),
    ("PATCH", "/blobs/uploads/{upload}"),
    ("PUT", "/blobs/uploads/{upload}?digest={blob}"),
    ("GET", "/blobs/uploads/{upload}"),
    ("DELETE", "/blobs/uploads/{upload}"),
]


def pushed(server: Trow) -> Repository:
    """A repository that the user has pushed an image to."""
    with Client(server.url, ALICE) as alice:
        repository = Repository(alice, f"auth/{secrets.token_hex(8)}")
        repository.push(IMAGE, "v1")
    return repository


def below(repository: Repository, rest: str) -> str:
    return repository.path + rest.format(image=IMAGE.digest, blob=IMAGE.blobs[0].digest, upload="0" * 32)


def assert_challenged(server: Trow, method: str, path: str, scope: str = "") -> None:
    """The answer sends clients to the token service, and says what to ask for there."""
    with Client(server.url) as nobody:
        reply = nobody.request(method, path, IMAGE.raw if method in {"PUT", "PATCH", "POST"} else None)
    assert reply.status == 401
    scoped = f',scope="{scope}"' if scope else ""
    assert reply.headers["www-authenticate"] == f'Bearer realm="{server.url}/token",service="trow"{scoped}'
    assert method == "HEAD" or reply.codes == ["UNAUTHORIZED"]


def scope_of(repository: Repository, method: str, rest: str) -> str:
    """What a token needs for a request."""
    actions = "pull,push"
    if method == "DELETE" and "uploads" not in rest:
        actions = "delete"
    elif (method, rest) in READS:
        actions = "pull"
    return f"repository:{repository.name}:{actions}"


@pytest.mark.parametrize(("method", "rest"), [*READS, *WRITES])
def test_nobody_may_do_nothing_where_a_user_is_set(private: Trow, method: str, rest: str) -> None:
    repository = pushed(private)
    assert_challenged(private, method, below(repository, rest), scope_of(repository, method, rest))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v2/", ""),
        ("/v2", ""),
        ("/v2/_catalog", "registry:catalog:*"),
        ("/api/v1/repositories", "registry:catalog:*"),
        ("/api/v1/repositories/a/b/tags/c/history", "repository:a/b:pull"),
        ("/api/v1/audit", "registry:audit:*"),
    ],
)
def test_nobody_may_not_even_ping(private: Trow, path: str, scope: str) -> None:
    assert_challenged(private, "GET", path, scope)


@pytest.fixture(scope="module")
def basic_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """A server for clients that do not know the token service."""
    with Trow.start(tmp_path_factory.mktemp("basic"), "--challenge", "basic", user=ALICE) as server:
        yield server


def test_clients_can_be_asked_for_a_password_instead(basic_only: Trow) -> None:
    with Client(basic_only.url) as nobody:
        for path in ("/v2/", "/v2/a/manifests/b", "/v2/_catalog", "/api/v1/audit", "/token"):
            reply = nobody.get(path)
            assert reply.refusal == (401, "UNAUTHORIZED")
            assert reply.headers["www-authenticate"] == 'Basic realm="Trow", charset="UTF-8"'
    with Client(basic_only.url, ALICE) as alice:
        assert alice.get("/v2/").status == 200
        token = alice.get("/token").json["token"]
    with Client(basic_only.url, bearer=token) as bearer:
        assert bearer.get("/v2/").status == 200


def test_a_host_that_would_break_out_of_the_challenge_is_refused(private: Trow) -> None:
    with Client(private.url) as nobody:
        reply = nobody.get("/v2/", host='evil",realm="http://evil.test')
    assert reply.status == 400
    assert "www-authenticate" not in reply.headers


@pytest.mark.slow
def test_public_address_is_the_realm_whatever_the_client_says(tmp_path: Path) -> None:
    with (
        Trow.start(tmp_path, "--public-url", "https://registry.example.com", user=ALICE) as trow,
        Client(trow.url) as nobody,
    ):
        challenge = nobody.get("/v2/", host="evil.test", x_forwarded_host="evil.test").headers["www-authenticate"]
    assert challenge == 'Bearer realm="https://registry.example.com/token",service="trow"'


def test_what_operators_ask_needs_no_credentials(private: Trow) -> None:
    with Client(private.url) as nobody:
        assert [nobody.get(path).status for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 200]


def test_user_may_do_everything(private: Trow) -> None:
    with Client(private.url, ALICE) as alice:
        assert alice.get("/v2/").status == 200
        repository = Repository(alice, pushed(private).name)
        assert repository.name in alice.get("/v2/_catalog").json["repositories"]
        assert alice.get(repository.manifest("v1")).body == IMAGE.raw
        assert alice.delete(repository.manifest("v1")).status == 202


@pytest.mark.slow
@pytest.mark.parametrize("user", [("alice", "wrong"), ("bob", "correct horse"), ("alice", ""), ("Alice", ALICE[1])])
@pytest.mark.parametrize("server", ["private", "public"])
def test_wrong_credentials(request: pytest.FixtureRequest, server: str, user: tuple[str, str]) -> None:
    """Who says a name has to prove it, also where nobody would have been let in."""
    trow: Trow = request.getfixturevalue(server)
    with Client(trow.url, user) as somebody:
        for path in ("/v2/", "/v2/a/tags/list"):
            reply = somebody.get(path)
            assert reply.refusal == (401, "UNAUTHORIZED")
            assert reply.headers["www-authenticate"].startswith("Bearer ")
    with Client(trow.url, ALICE) as alice:  # a failure before does not stand in the way
        assert alice.get("/v2/").status == 200


@pytest.mark.parametrize("authorization", ["Bearer abc", "Basic", "Basic !", "Digest x", "Basic " + "A" * 8000])
def test_credentials_that_are_none(private: Trow, authorization: str) -> None:
    with Client(private.url) as somebody:
        assert somebody.get("/v2/", authorization=authorization).refusal == (401, "UNAUTHORIZED")


def test_refused_push_stores_nothing(private: Trow) -> None:
    repository = pushed(private)
    blob = factories.blob(100_000)
    with Client(private.url) as nobody:
        assert Repository(nobody, repository.name).put(factories.image(), "v2").status == 401
        assert nobody.post(f"{repository.uploads}?digest={blob.digest}", blob.content).status == 401
        assert nobody.post(f"{repository.uploads}?digest={blob.digest}", iter([blob.content])).status == 401
    with Client(private.url, ALICE) as alice:
        assert alice.get(repository.tags).json["tags"] == ["v1"]
        assert alice.head(repository.blob(blob.digest)).status == 404


# Everybody may pull


@pytest.mark.parametrize(("method", "rest"), READS)
def test_everybody_may_read_where_that_is_granted(public: Trow, method: str, rest: str) -> None:
    repository = pushed(public)
    with Client(public.url) as nobody:
        assert nobody.request(method, below(repository, rest)).status == 200
        assert nobody.get("/v2/_catalog").status == 200
        assert nobody.get(repository.history("v1")).status == 200


@pytest.mark.parametrize(("method", "rest"), WRITES)
def test_nobody_may_write_where_reading_is_granted(public: Trow, method: str, rest: str) -> None:
    repository = pushed(public)
    assert_challenged(public, method, below(repository, rest), scope_of(repository, method, rest))


def test_ping_asks_for_credentials_so_that_clients_learn_of_them(public: Trow) -> None:
    assert_challenged(public, "GET", "/v2/")
    with Client(public.url, ALICE) as alice:
        assert alice.get("/v2/").status == 200


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """Nobody may write, and there is nobody to log in as."""
    with Trow.start(tmp_path_factory.mktemp("readonly"), "--anonymous", "pull") as server:
        yield server


def test_registry_that_takes_nothing(read_only: Trow) -> None:
    """Where anonymous access is limited somebody has to log in for the rest, even if nobody can."""
    with Client(read_only.url) as nobody:
        assert nobody.get("/v2/").refusal == (401, "UNAUTHORIZED")
        assert nobody.get("/v2/_catalog").json == {"repositories": []}
        assert nobody.post("/v2/a/blobs/uploads/").refusal == (401, "UNAUTHORIZED")
        token = nobody.get("/token?scope=repository:a:pull,push").json
        assert token["scope"] == "repository:a:pull"
    with Client(read_only.url, bearer=token["token"]) as bearer:
        assert bearer.get("/v2/").status == 200
        assert bearer.get("/v2/a/tags/list").refusal == (404, "NAME_UNKNOWN")
        assert bearer.post("/v2/a/blobs/uploads/").refusal == (401, "UNAUTHORIZED")
    with Client(read_only.url, ALICE) as alice:
        assert alice.get("/v2/").refusal == (401, "UNAUTHORIZED")


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """There is a user, and everybody may do what the user may."""
    with Trow.start(tmp_path_factory.mktemp("open"), "--allow-anonymous-push", user=ALICE) as server:
        yield server


def test_everybody_may_push_where_that_is_said_in_so_many_words(open_to_all: Trow) -> None:
    with Client(open_to_all.url) as nobody, Client(open_to_all.url, (ALICE[0], "wrong")) as liar:
        repository = Repository(nobody, "open/to/all")
        repository.push(IMAGE, "v1")
        assert nobody.get("/v2/").status == 200
        assert nobody.delete(repository.manifest("v1")).status == 202
        assert liar.get("/v2/").refusal == (401, "UNAUTHORIZED")


# Uploads


@pytest.mark.slow
def test_upload_belongs_to_who_began_it(tmp_path: Path) -> None:
    """CVE-2026-32589: nobody goes on with the user's upload, nor the user with nobody's."""
    with (
        Trow.start(tmp_path, "--allow-anonymous-push", user=ALICE) as trow,
        Client(trow.url, ALICE) as alice,
        Client(trow.url) as nobody,
    ):
        for owner, thief in ((alice, nobody), (nobody, alice)):
            blob = factories.blob()
            location = Repository(owner, "shared").begin()
            for reply in (
                thief.get(location),
                thief.patch(location, blob.content),
                thief.put(f"{location}?digest={blob.digest}", blob.content),
                thief.delete(location),
            ):
                assert reply.refusal == (404, "BLOB_UPLOAD_UNKNOWN")
            assert owner.put(f"{location}?digest={blob.digest}", blob.content).status == 201
