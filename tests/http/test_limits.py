"""429: too many requests, too many open uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import factories
from support.registry import Client, Repository
from support.server import Trow

if TYPE_CHECKING:
    from pathlib import Path


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
