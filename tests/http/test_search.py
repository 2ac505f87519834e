"""The search in the names of repositories: what it finds, page by page, and that it tells nothing of what is hidden."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

import factories
from support.registry import Repository, described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.registry import Client
    from support.team import Team

SEARCH: Final = "/api/v1/repositories"


def search(client: Client, **parameters: str | int) -> list[str]:
    """All that is found, as the links lead."""
    pages = client.pages(f"{SEARCH}?{urlencode(parameters)}")
    return [name for reply in pages for name in reply.json["repositories"]]


@pytest.fixture
def word() -> str:
    """What is in no other test's names."""
    return secrets.token_hex(8)


def fill(client: Client, *names: str) -> None:
    for name in names:
        Repository(client, name).push(factories.image(0))


# What is found


def test_search_finds_the_text_anywhere_in_a_name(client: Client, word: str) -> None:
    names = [f"{word}/a", f"x-{word}", f"x/{word}-b", f"x/y/{word}"]
    fill(client, *reversed(names), f"x/{word[:-1]}")
    reply = client.get(f"{SEARCH}?q={word}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert (reply.json, reply.next) == ({"repositories": names}, None)
    assert search(client, q=f"/{word}") == names[2:]
    assert search(client, q=f"{word}/a") == names[:1]
    assert search(client, q=f"{word}/b") == []


def test_search_without_text_finds_what_the_catalogue_has(client: Client, word: str) -> None:
    fill(client, f"a/{word}", f"z/{word}")
    catalogue = client.get("/v2/_catalog?n=10000").json
    assert client.get(f"{SEARCH}?n=10000").json == catalogue
    assert {f"a/{word}", f"z/{word}"} <= set(catalogue["repositories"])


def test_underscore_and_dot_stand_for_themselves(client: Client, word: str) -> None:
    names = [f"{word}{between}x" for between in ("-", ".", "0", "__", "_", "a")]
    fill(client, *names)
    assert search(client, q=word) == names
    for between in ("_", "__", ".", "-"):
        assert search(client, q=f"{word}{between}x") == [f"{word}{between}x"]


def test_search_for_as_much_as_a_name_may_have(client: Client, word: str) -> None:
    name = f"{word}/{'x' * 238}"
    fill(client, name)
    assert len(name) == 255
    assert search(client, q=name) == [name]
    assert search(client, q="_" * 255) == []


def test_repository_is_found_while_it_has_a_manifest(client: Client, word: str) -> None:
    repository = Repository(client, f"search/{word}")
    repository.push_blob(factories.blob())
    assert search(client, q=word) == []
    image = factories.image()
    repository.push(image)
    assert search(client, q=word) == [repository.name]
    assert client.delete(repository.manifest(image.digest)).status == 202
    assert search(client, q=word) == []


BAD: Final = [
    "%25",
    "a%25",
    "A",
    "a*",
    "a%20b",
    "a+b",
    "a!",
    "%00",
    "%C3%A4",
    "a:1",
    "%5C",
    "%0A",
    "a%0A",
    "a" * 256,
]


@pytest.mark.parametrize("q", BAD)
def test_what_cannot_be_in_a_name_is_no_search(client: Client, q: str) -> None:
    reply = client.get(f"{SEARCH}?q={q}")
    assert reply.refusal == (400, "UNSUPPORTED")
    assert "q is not a part of a repository name" in reply.json["errors"][0]["message"]


def test_search_for_nothing_finds_all(client: Client, word: str) -> None:
    fill(client, word)
    assert word in client.get(f"{SEARCH}?q=&n=&last={word[:-1]}").json["repositories"]


@pytest.mark.parametrize("query", ["q=a&q=b", "q=%FF", "q=a&n=-1"])
def test_search_that_cannot_be_understood(client: Client, query: str) -> None:
    assert client.get(f"{SEARCH}?{query}").refusal == (400, "UNSUPPORTED")


# Page by page


@pytest.mark.parametrize("n", [1, 2, 4, 5, 1000])
def test_links_lead_through_all_that_is_found(client: Client, word: str, n: int) -> None:
    names = [f"{word}/{rest}" for rest in ("a", "a-b", "a/b", "a0", "b")]
    fill(client, *reversed(names), f"a/{word}-x", f"z/{word}-x")
    pages = list(client.pages(f"{SEARCH}?n={n}&q={word}%2F"))
    found = [reply.json["repositories"] for reply in pages]
    assert sum(found, []) == names  # noqa: RUF017 - few pages
    assert [len(page) for page in found[:-1]] == [n] * (len(found) - 1)
    for reply, page in zip(pages[:-1], found, strict=False):
        assert reply.next is not None
        link = urlsplit(reply.next)
        assert link.path == SEARCH
        assert parse_qs(link.query) == {"q": [f"{word}/"], "n": [str(n)], "last": [page[-1]]}


def test_search_after_any_word(client: Client, word: str) -> None:
    fill(client, f"{word}/a", f"{word}/b")
    for last, found in [
        (word, ["a", "b"]), (f"{word}/a", ["b"]), (f"{word}/aa", ["b"]), (f"{word}/b", []), ("%", ["a", "b"]),
        ("~", []), (f"{word}/A", ["a", "b"]), ("x" * 300, []),
    ]:  # fmt: skip
        assert search(client, q=word, last=last) == [f"{word}/{rest}" for rest in found], last


def test_page_of_nothing(client: Client, word: str) -> None:
    fill(client, f"search/{word}")
    reply = client.get(f"{SEARCH}?q={word}&n=0")
    assert (reply.status, reply.json, reply.next) == (200, {"repositories": []}, None)


def test_search_has_a_head_too(client: Client, word: str) -> None:
    fill(client, f"search/{word}")
    reply = client.head(f"{SEARCH}?q={word}")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-length"] == client.get(f"{SEARCH}?q={word}").headers["content-length"]


def test_pages_have_the_size_of_the_settings(strict_client: Client, word: str) -> None:
    fill(strict_client, *(f"{word}/{rest}" for rest in "abcde"))
    for query, sizes in [("", [2, 2, 1]), ("&n=100", [3, 2]), ("&n=" + "9" * 30, [3, 2])]:
        pages = strict_client.pages(f"{SEARCH}?q={word}{query}")
        assert [len(reply.json["repositories"]) for reply in pages] == sizes


# What is hidden


@pytest.fixture
def shown(team: Team) -> Iterator[Client]:
    """Somebody who may list and pull what is called so."""
    with team.bearer(team.robot("shown", "pull", "list", glob="*/shown")) as client:
        yield client


def all_answers(client: Client, word: str) -> list[tuple[bytes, dict[str, str]]]:
    """Whatever somebody can learn by searching for the word."""
    queries = [f"q={q}" for q in (word, f"-{word}", f"{word}/", f"{word}/s", f"{word}/hidden", "hidden")]
    forms = [f"{query}&n={n}" for query in queries for n in (0, 1, 2, 3, 4, 1000)]
    forms += [f"q={word}&last={last}-{word}/{rest}" for last in "abcd" for rest in ("hidden", "shown", "x")]
    return [(page.body, described(page)) for form in forms for page in client.pages(f"{SEARCH}?{form}")]


def test_answers_are_the_same_whatever_is_hidden(team: Team, shown: Client, word: str) -> None:
    names = [f"{each}-{word}/shown" for each in "abc"]
    fill(team.root, *names)
    before = all_answers(shown, word)
    assert search(shown, q=word) == names
    hidden = [f"{each}-{word}/{rest}" for each in "abcd" for rest in ("hidden", "more/shown", "z")]
    fill(team.root, f"0-{word}", *hidden, word)
    assert search(team.root, q=word) == sorted([f"0-{word}", *hidden, *names, word])
    assert all_answers(shown, word) == before
    assert search(shown, q=word) == names


def test_text_that_only_hidden_names_have_is_found_nowhere(team: Team, shown: Client, word: str) -> None:
    fill(team.root, f"{word}/hidden")
    for query in (f"q={word}", f"q={word}&n=1", f"q={word}/hidden"):
        reply, nothing = shown.get(f"{SEARCH}?{query}"), shown.get(f"{SEARCH}?q={secrets.token_hex(8)}")
        assert (reply.status, reply.json) == (200, {"repositories": []})
        assert described(reply) == described(nothing)


def test_listing_is_not_enough_nor_is_pulling(team: Team, word: str) -> None:
    fill(team.root, f"team-a/{word}")
    assert search(team.user("lister"), q=word) == []
    assert team.user("puller").get(f"{SEARCH}?q={word}").refusal == (403, "DENIED")
    assert search(team.root, q=word) == [f"team-a/{word}"]


def test_everybody_may_search_where_everybody_may_pull(open_team: Team, word: str) -> None:
    fill(open_team.root, f"team-a/{word}")
    assert search(open_team.nobody(), q=word) == [f"team-a/{word}"]
