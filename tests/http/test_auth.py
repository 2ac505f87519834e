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


def assert_challenged(server: Trow, method: str, path: str) -> None:
    with Client(server.url) as nobody:
        reply = nobody.request(method, path, IMAGE.raw if method in {"PUT", "PATCH", "POST"} else None)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == 'Basic realm="Trow", charset="UTF-8"'
    assert method == "HEAD" or reply.codes == ["UNAUTHORIZED"]


@pytest.mark.parametrize(("method", "rest"), [*READS, *WRITES])
def test_nobody_may_do_nothing_where_a_user_is_set(private: Trow, method: str, rest: str) -> None:
    assert_challenged(private, method, below(pushed(private), rest))


@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/_catalog", "/api/v1/repositories/a/tags/b/history"])
def test_nobody_may_not_even_ping(private: Trow, path: str) -> None:
    assert_challenged(private, "GET", path)


def test_what_operators_ask_needs_no_credentials(private: Trow) -> None:
    with Client(private.url) as nobody:
        assert [nobody.get(path).status for path in ("/healthz", "/readiness", "/metrics")] == [200, 200, 200]


def test_user_may_do_everything(private: Trow) -> None:
    with Client(private.url, ALICE) as alice:
        assert alice.get("/v2/").status == 200
        repository = Repository(alice, pushed(private).name)
        assert repository.name in alice.get("/v2/_catalog").json["repositories"]
        assert alice.get(repository.manifest("v1")).body == IMAGE.raw
        assert alice.delete(repository.manifest("v1")).status == 202


@pytest.mark.parametrize("user", [("alice", "wrong"), ("bob", "correct horse"), ("alice", ""), ("Alice", ALICE[1])])
@pytest.mark.parametrize("server", ["private", "public"])
def test_wrong_credentials(request: pytest.FixtureRequest, server: str, user: tuple[str, str]) -> None:
    """Who says a name has to prove it, also where nobody would have been let in."""
    trow: Trow = request.getfixturevalue(server)
    with Client(trow.url, user) as somebody:
        for path in ("/v2/", "/v2/a/tags/list"):
            reply = somebody.get(path)
            assert reply.refusal == (401, "UNAUTHORIZED")
            assert reply.headers["www-authenticate"].startswith("Basic")


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
    assert_challenged(public, method, below(pushed(public), rest))


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
    with Client(read_only.url) as nobody:
        assert nobody.get("/v2/").status == 200
        assert nobody.get("/v2/_catalog").json == {"repositories": []}
        reply = nobody.post("/v2/a/blobs/uploads/")
        assert reply.status in {401, 403}
        assert reply.codes in (["UNAUTHORIZED"], ["DENIED"])


# Uploads


def test_upload_belongs_to_who_began_it(tmp_path: Path) -> None:
    """CVE-2026-32589: nobody goes on with the user's upload, nor the user with nobody's."""
    with (
        Trow.start(tmp_path, "--anonymous", "all", user=ALICE) as trow,
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
