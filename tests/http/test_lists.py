"""end-8 and the catalogue: lists in byte order, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.registry import Repository

if TYPE_CHECKING:
    from support.registry import Client

TAGS = ["A", "Z", "_", "a", "a-b", "a.b", "a0", "aa", "v1.10", "v1.9"]


@pytest.fixture
def tagged(repository: Repository) -> Repository:
    image = factories.image()
    repository.push(image, image.digest, "".join(f"&tag={tag}" for tag in reversed(TAGS)).replace("&", "?", 1))
    return repository


def test_tags_in_byte_order(client: Client, tagged: Repository) -> None:
    reply = client.get(tagged.tags)
    assert (reply.status, reply.next) == (200, None)
    assert reply.json == {"name": tagged.name, "tags": TAGS}
    assert sorted(TAGS) == TAGS
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 11, 1000])
def test_links_lead_through_all_tags(client: Client, tagged: Repository, n: int) -> None:
    pages = [reply.json["tags"] for reply in client.pages(f"{tagged.tags}?n={n}")]
    assert [tag for page in pages for tag in page] == TAGS
    assert [len(page) for page in pages[:-1]] == [n] * (len(pages) - 1)
    assert 1 <= len(pages[-1]) <= n


@pytest.mark.parametrize("last", ["A", "a", "aa", "b", "v1.1", "0", "zzz", "-", "a/b", "%00", "x" * 300])
def test_tags_after_any_word(client: Client, tagged: Repository, last: str) -> None:
    reply = client.get(f"{tagged.tags}?last={last}")
    assert reply.json["tags"] == [tag for tag in TAGS if tag > ("\0" if last == "%00" else last)]


def test_page_of_nothing(client: Client, tagged: Repository) -> None:
    reply = client.get(f"{tagged.tags}?n=0")
    assert (reply.status, reply.json["tags"], reply.next) == (200, [], None)


@pytest.mark.parametrize("n", ["10001", "9" * 30, "9" * 1000])
def test_huge_page_is_made_smaller(client: Client, tagged: Repository, n: str) -> None:
    assert client.get(f"{tagged.tags}?n={n}").json["tags"] == TAGS


@pytest.mark.parametrize("query", ["n=abc", "n=-1", "n=1.5", "n=%2B1", "n=1&n=2", "last=a&last=b", "last=" + "x" * 600])
@pytest.mark.parametrize(
    "path", ["/v2/{name}/tags/list", "/v2/_catalog", "/v2/{name}/referrers/{digest}", "/api/v1/repositories"]
)
def test_page_that_cannot_be_understood(client: Client, tagged: Repository, path: str, query: str) -> None:
    target = path.format(name=tagged.name, digest=factories.image().digest)
    assert client.get(f"{target}?{query}").refusal == (400, "UNSUPPORTED")


@pytest.mark.parametrize("query", ["n=", "last=", "n=&last=", "n", "n=5&n=5"])
def test_empty_or_repeated_parameters_ask_for_nothing_more(client: Client, tagged: Repository, query: str) -> None:
    """As distribution takes them."""
    for path in (tagged.tags, "/v2/_catalog", tagged.referrers(factories.image().digest), "/api/v1/repositories"):
        assert client.get(f"{path}?{query}").status == 200
    assert client.get(f"{tagged.tags}?{query}").json["tags"] == (TAGS[:5] if "5" in query else TAGS)


def test_tags_of_what_is_not_there(client: Client, repository: Repository) -> None:
    repository.push_blob(factories.blob())
    assert client.get(repository.tags).refusal == (404, "NAME_UNKNOWN")


def test_repository_without_tags(client: Client, repository: Repository) -> None:
    repository.push(factories.image())
    assert client.get(repository.tags).json == {"name": repository.name, "tags": []}


def test_tags_have_a_head_too(client: Client, tagged: Repository) -> None:
    reply = client.head(tagged.tags)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-length"] == client.get(tagged.tags).headers["content-length"]


def test_pages_have_the_size_of_the_settings(strict_client: Client, strict: Repository) -> None:
    for tag in "abcde":
        image = factories.image(0)
        strict.push(image, tag)
    assert [reply.json["tags"] for reply in strict_client.pages(strict.tags)] == [["a", "b"], ["c", "d"], ["e"]]
    large = strict_client.pages(f"{strict.tags}?n=100")
    assert [reply.json["tags"] for reply in large] == [["a", "b", "c"], ["d", "e"]]


# The catalogue


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_links_lead_through_all_repositories(client: Client, repository: Repository, n: int) -> None:
    names = [f"{repository.name}{rest}" for rest in ("", "-b", "/a", "/b", "0")]
    for name in reversed(names):
        Repository(client, name).push(factories.image())
    found = [name for reply in client.pages(f"/v2/_catalog?n={n}") for name in reply.json["repositories"]]
    assert found == sorted(found)
    assert [name for name in found if name.startswith(repository.name)] == names


def test_repository_that_only_has_blobs_is_not_listed(client: Client, repository: Repository) -> None:
    repository.push_blob(factories.blob())
    assert repository.name not in client.get("/v2/_catalog").json["repositories"]


def test_catalogue_after_any_word(client: Client, repository: Repository) -> None:
    repository.push(factories.image())
    before, _, last = repository.name.rpartition("/")
    assert repository.name in client.get(f"/v2/_catalog?last={before}/{last[:-1]}").json["repositories"]
    assert repository.name not in client.get(f"/v2/_catalog?last={repository.name}").json["repositories"]
    assert client.get("/v2/_catalog?n=0").json == {"repositories": []}
