"""Two and three replicas on one database and one data directory: what one has answered, the others know."""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
import urllib3

import factories
from conformance.summary import JUDGE
from support.conformance import FLOOR, SPARSE, judge
from support.registry import Client, Repository
from support.replicas import Replicas
from support.server import START_SECONDS
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from factories import Manifest
    from support.postgres import PostgresServer

pytestmark = pytest.mark.slow

ROUNDS: Final = 20
# Who may log in with a token of a program; nobody else.
GUARDED: Final[dict[str, Any]] = {"auth": {"anonymous": "none"}}


@pytest.fixture(scope="module")
def three(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """Three of them, for tests that leave them as they are."""
    with (
        server.whole_database() as url,
        Replicas.start(tmp_path_factory.mktemp("three"), url, 3, {"registry": {"sparse_images": True}}) as started,
    ):
        yield started


def repositories(replicas: Replicas, name: str) -> list[Repository]:
    """One repository, as each replica has it."""
    return [Repository(client, name) for client in replicas.clients]


def test_a_tag_that_was_moved_is_seen_by_all_in_their_next_read(three: Replicas) -> None:
    views = repositories(three, "team/moved")
    for number in range(ROUNDS):
        made = factories.image()
        views[number % 3].push(made, "latest")
        for view in views:
            got = view.client.get(view.manifest("latest"))
            assert got.body == made.raw
            assert got.headers["docker-content-digest"] == made.digest
            assert view.client.head(view.manifest("latest")).headers["docker-content-digest"] == made.digest


def test_what_was_deleted_is_gone_for_all_at_once(three: Replicas) -> None:
    views = repositories(three, "team/deleted")
    for number in range(ROUNDS):
        kept, made = factories.image(), factories.image()
        views[0].push(kept, "kept")
        views[0].push(made, "v1")
        for view in views:  # so that each remembers its content
            assert view.client.get(view.manifest("v1")).status == 200
            assert view.client.get(view.manifest(made.digest)).status == 200
        deleting = views[number % 3]
        assert deleting.client.delete(deleting.manifest("v1")).status == 202
        assert [view.client.get(view.manifest("v1")).status for view in views] == [404] * 3
        assert deleting.client.delete(deleting.manifest(made.digest)).status == 202
        assert [view.client.get(view.manifest(made.digest)).status for view in views] == [404] * 3
        blob = made.blobs[0].digest
        assert deleting.client.delete(deleting.blob(blob)).status == 202
        assert [view.client.head(view.blob(blob)).status for view in views] == [404] * 3


def test_a_blob_that_one_replica_took_is_served_and_mounted_by_the_others(three: Replicas) -> None:
    first, second, third = repositories(three, "team/blobs")
    for size in (100, 300_000):
        blob = factories.blob(size)
        first.push_blob(blob)
        assert second.client.get(second.blob(blob.digest)).body == blob.content
        mounted = third.client.post(f"/v2/team/mounted/blobs/uploads/?mount={blob.digest}&from=team/blobs")
        assert mounted.status == 201
        assert first.client.get(f"/v2/team/mounted/blobs/{blob.digest}").body == blob.content


def test_one_of_those_who_make_a_tag_at_different_replicas_has_it(three: Replicas) -> None:
    views = repositories(three, "team/raced")
    images = [factories.image() for _ in views]
    for view, made in zip(views, images, strict=True):
        for blob in made.blobs:
            view.push_blob(blob)
    for number in range(ROUNDS):
        threads = [
            threading.Thread(target=view.put, args=(made, f"v{number}"))
            for view, made in zip(views, images, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {view.client.get(view.manifest(f"v{number}")).body for view in views}
        assert len(found) == 1
        assert found < {made.raw for made in images}


def test_nothing_fails_and_nothing_is_skipped(
    url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with Replicas.start(tmp_path, url, 2, SPARSE) as replicas:
        verdict = judge(replicas.trows[0], tmp_path, {"OCI_TLS": "disabled"})
    record_property(JUDGE, f"OCI conformance on PostgreSQL: {verdict}")
    assert not verdict.other_than_passed, "\n".join(verdict.other_than_passed[:20])
    assert (verdict.failed, verdict.errors, verdict.skipped, verdict.disabled) == (0, 0, 0, 0)
    assert verdict.passed > FLOOR


def test_a_token_that_was_revoked_is_refused_by_all_at_once_and_commands_need_no_server(
    url: str, tmp_path: Path
) -> None:
    with Replicas.start(tmp_path, url, 2, GUARDED) as replicas:
        trow = replicas.trows[0]
        config, flags = str(trow.folder / "trow.yaml"), ("--data-dir", str(replicas.data_dir))
        made = trow.command("token", "create", "--name=ci", "--repository=**", "--action=pull,push", "--json",
                            "--config", config, last=flags)  # fmt: skip
        token = json.loads(made)
        clients = [Client(each.url, ("ci", token["token"])) for each in replicas.trows]
        assert [client.get("/v2/").status for client in clients] == [200, 200]
        assert token["id"] in trow.command("token", "list", "--config", config, last=flags)
        trow.command("token", "revoke", token["id"], "--config", config, last=flags)
        assert [client.get("/v2/").status for client in clients] == [401, 401]
        assert "token-0001.pem" in trow.command("keys", "list", "--config", config, last=flags)
        for client in clients:
            client.close()


class Pushers:
    """Threads that push images to any replica, again where that fails, until the end."""

    def __init__(self, replicas: Replicas, lanes: int) -> None:
        self.answered: list[tuple[str, bytes]] = []
        self._replicas = replicas
        self._over = threading.Event()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._work, args=(lane,)) for lane in range(lanes)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def pushed(self, more: int) -> None:
        enough = len(self.answered) + more
        until(lambda: len(self.answered) >= enough, START_SECONDS)

    def _work(self, lane: int) -> None:
        while not self._over.is_set():
            clients = self._replicas.clients
            repository = Repository(clients[lane % len(clients)], f"team/lane{lane}")
            try:
                self._push(repository, factories.image(), f"v{next(self._numbers)}")
            except (OSError, urllib3.exceptions.HTTPError):
                self._over.wait(0.05)

    def _push(self, repository: Repository, made: Manifest, label: str) -> None:
        for blob in made.blobs:
            if repository.client.post(f"{repository.uploads}?digest={blob.digest}", blob.content).status != 201:
                return
        if repository.put(made, label).status == 201:
            self.answered.append((repository.manifest(label), made.raw))


def test_what_was_answered_is_there_when_replicas_and_the_server_were_killed(
    server: PostgresServer, replicas: Replicas
) -> None:
    with Pushers(replicas, 4) as pushers:
        for victim in ("replica", "server", "replica"):
            pushers.pushed(20)
            if victim == "server":
                server.down()
                server.up()
            else:
                replicas.kill(0)
                replicas.add()
        pushers.pushed(20)
    for client in replicas.clients:
        until(lambda client=client: client.get("/readyz").status == 200, START_SECONDS)  # type: ignore[misc]
        assert [path for path, content in pushers.answered if client.get(path).body != content] == []
