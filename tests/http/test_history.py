"""What a tag pointed at, and who made it so."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import factories
from support.registry import Client, Repository

if TYPE_CHECKING:
    from support.server import Trow

ALICE = ("alice", "correct horse")


def lines(repository: Repository, tag: str = "v1") -> list[dict[str, Any]]:
    reply = repository.client.get(repository.history(tag))
    assert (reply.status, reply.json["name"], reply.json["tag"]) == (200, repository.name, tag)
    found: list[dict[str, Any]] = reply.json["history"]
    return found


def test_pushes_moves_and_deletions(repository: Repository) -> None:
    first, second = factories.image(), factories.image()
    started = datetime.now(UTC) - timedelta(seconds=1)
    repository.push(first, "v1")
    repository.push(second, "v1")
    repository.client.delete(repository.manifest("v1"))
    repository.push(first, "v1")
    repository.client.delete(repository.manifest(first.digest))
    found = lines(repository)
    assert [(line["sequence"], line["action"], line["digest"]) for line in found] == [
        (5, "delete", None),
        (4, "push", first.digest),
        (3, "delete", None),
        (2, "push", second.digest),
        (1, "push", first.digest),
    ]
    times = [datetime.fromisoformat(line["at"]) for line in found]
    assert started <= times[-1]
    assert times == sorted(times, reverse=True)
    assert {line["subject"] for line in found} == {None}
    assert all(line["at"].endswith("Z") for line in found)


def test_who_it_was(private: Trow) -> None:
    with Client(private.url, ALICE) as alice:
        repository = Repository(alice, f"history/{secrets.token_hex(8)}")
        repository.push(factories.image(), "v1")
        repository.client.delete(repository.manifest("v1"))
        assert [line["subject"] for line in lines(repository)] == ["alice", "alice"]


def test_links_lead_through_all_lines(client: Client, repository: Repository) -> None:
    for _ in range(5):
        repository.push(factories.image(0), "v1")
    pages = [
        [line["sequence"] for line in reply.json["history"]]
        for reply in client.pages(f"{repository.history('v1')}?n=2")
    ]
    assert pages == [[5, 4], [3, 2], [1]]
    reply = client.get(f"{repository.history('v1')}?n=0")
    assert (reply.status, reply.json["history"], reply.next) == (200, [], None)


def test_old_lines_go(strict: Repository) -> None:
    for _ in range(5):
        strict.push(factories.image(0), "v1")
    found = [line["sequence"] for reply in strict.client.pages(strict.history("v1")) for line in reply.json["history"]]
    assert found == [5, 4, 3]


def test_tags_have_each_their_own(repository: Repository, other: Repository) -> None:
    image = factories.image()
    repository.push(image, image.digest, "?tag=a&tag=b")
    other.push(image, "a")
    for tag in "ab":
        assert [line["sequence"] for line in lines(repository, tag)] == [1]


def test_tag_that_never_was(client: Client, repository: Repository) -> None:
    repository.push(factories.image(), "v1")
    assert client.get(repository.history("v2")).refusal == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("query", "code"),
    [("?last=abc", "UNSUPPORTED"), ("?last=-1", "UNSUPPORTED"), ("?n=x", "UNSUPPORTED")],
)
def test_page_that_cannot_be_understood(client: Client, repository: Repository, query: str, code: str) -> None:
    repository.push(factories.image(), "v1")
    assert client.get(repository.history("v1") + query).refusal == (400, code)


def test_names_outside_the_grammar(client: Client, repository: Repository) -> None:
    assert client.get(repository.history(".x")).refusal == (400, "MANIFEST_INVALID")
    assert client.get(Repository(client, "A").history("v1")).refusal == (400, "NAME_INVALID")
