"""429: too many requests, too many open uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.registry import Client, Repository
from support.server import Trow
from support.team import users_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def start(tmp_path: Path, limits: str) -> Trow:
    settings = tmp_path / "trow.yaml"
    settings.write_text(f"limits: {{{limits}}}", encoding="utf-8")
    return Trow.start(tmp_path, "--config", str(settings))


def test_too_many_requests(tmp_path: Path) -> None:
    with start(tmp_path, "requests_per_second: 1, burst: 5") as trow, Client(trow.url) as client:
        replies = [client.get("/v2/") for _ in range(20)]
        assert {reply.status for reply in replies[:5]} == {200}
        refused = [reply for reply in replies if reply.status == 429]
        assert len(refused) >= 10
        for reply in refused:
            assert reply.refusal == (429, "TOOMANYREQUESTS")
            assert int(reply.headers["retry-after"]) >= 1


def test_too_many_uploads(tmp_path: Path) -> None:
    with start(tmp_path, "max_uploads: 3") as trow, Client(trow.url) as client:
        repository = Repository(client, "a")
        locations = [repository.begin() for _ in range(3)]
        reply = client.post(repository.uploads)
        assert reply.refusal == (429, "TOOMANYREQUESTS")
        assert int(reply.headers["retry-after"]) >= 1
        blob = factories.blob()
        repository.push_blob(blob)  # opens none
        assert client.delete(locations[0]).status == 204
        repository.begin()
        assert client.put(f"{locations[1]}?digest={blob.digest}", blob.content).status == 201
        repository.begin()
        assert client.post(repository.uploads).status == 429


def test_who_opens_uploads_without_end_has_a_share_of_them(tmp_path: Path) -> None:
    """The own empty ones end, however often their status is asked for; others are not concerned."""
    users = tmp_path / "users"
    users.write_text(users_file({"alice": "secret", "mallory": "secret"}), encoding="utf-8")
    config = {
        "limits": {"max_uploads": 20, "max_uploads_per_user": 5},
        "auth": {"users_file": str(users)},
        "access": {"rules": [{"users": ["alice", "mallory"], "actions": ["pull", "push"]}]},
    }
    with (
        Trow.start(tmp_path, config=config) as trow,
        Client(trow.url, ("mallory", "secret")) as mallory,
        Client(trow.url, ("alice", "secret")) as alice,
    ):
        mine = Repository(alice, "a")
        location = mine.begin()
        locations = []
        for _ in range(30):
            locations.append(Repository(mallory, "a").begin())
            for each in locations[-5:]:
                assert mallory.get(each).status == 204
        assert [mallory.get(each).status for each in locations].count(204) == 5
        assert alice.get(location).status == 204
        blob = factories.blob(100_000)
        mine.push_blob(blob)
        assert alice.put(f"{location}?digest={blob.digest}", blob.content).status == 201
        for each in locations[-5:]:
            assert mallory.patch(each, b"x").status == 202
        reply = mallory.post(Repository(mallory, "a").uploads)
        assert reply.refusal == (429, "TOOMANYREQUESTS")
        assert int(reply.headers["retry-after"]) >= 1
        mine.begin()


def test_addresses_have_shares_where_nobody_logs_in(tmp_path: Path) -> None:
    config = {"limits": {"max_uploads_per_user": 2}, "listen": {"trusted_proxies": ["127.0.0.1"]}}
    with Trow.start(tmp_path, config=config) as trow, Client(trow.url) as client:
        path = Repository(client, "a").uploads

        def begin(address: str) -> str:
            return client.post(path, x_forwarded_for=address).headers["location"]

        other = begin("2001:db8:0:2::1")
        locations = [begin(f"2001:db8:0:1::{number}") for number in range(4)]
        assert [client.get(each).status for each in locations] == [404, 404, 204, 204], "one /64 is one source"
        assert client.get(other).status == 204


def test_a_repository_has_room_for_all(tmp_path: Path) -> None:
    config = {"limits": {"max_uploads_per_repository": 3}, "listen": {"trusted_proxies": ["127.0.0.1"]}}
    with Trow.start(tmp_path, config=config) as trow, Client(trow.url) as client:
        locations = []
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"):
            reply = client.post("/v2/a/blobs/uploads/", x_forwarded_for=address)
            assert reply.status == 202
            locations.append(reply.headers["location"])
        assert [client.get(each).status for each in locations] == [404, 204, 204, 204]
        assert client.post("/v2/b/blobs/uploads/", x_forwarded_for="192.0.2.1").status == 202
