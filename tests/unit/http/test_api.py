from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from trow.access.permissions import Permission
from trow.http.handlers.api import Api
from trow.http.handlers.lists import Lists
from trow.http.recorder import Recorder
from trow.oci.errors import RequestInvalid
from trow.registry.browse import Browse
from trow.registry.events import RecordPage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.gates import World


class StoredRecords:
    """Records that were taken down, and what was asked of them."""

    def __init__(self, records: Sequence[bytes] = (), following: str = "") -> None:
        self.page = RecordPage(records, following)
        self.asked: Mapping[str, str] = {}

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        self.asked = given
        return self.page


async def ask(world: World, shelf: StoredRecords, query: str = "") -> tuple[object, dict[str, str]]:
    recorder, lists = Recorder(world.audit, world.transfers), Lists(default=10, most=100)
    api = Api(Browse(world.metadata), shelf, world.access, recorder, lists)
    answer = await api.audit(world.request(None, Permission.AUDIT, path="/api/v1/audit", query=query))
    return json.loads(answer.body), dict(answer.headers)


async def test_records_are_answered_as_they_were_taken_down(world: World) -> None:
    body, headers = await ask(world, StoredRecords([b'{"a": 1}', b'{"b": "\xc3\xa9"}']))
    assert body == {"records": [{"a": 1}, {"b": "é"}]}
    assert "link" not in headers


async def test_what_is_asked_for_reaches_the_record(world: World) -> None:
    shelf = StoredRecords()
    await ask(world, shelf, "repository=team-a/**&user=alice&since=2030-01-31T12:00:00Z&n=5&last=7&outcome=")
    assert shelf.asked == {
        "repository": "team-a/**",
        "user": "alice",
        "since": "2030-01-31T12:00:00Z",
        "n": "5",
        "last": "7",
    }


async def test_next_page_is_asked_for_in_the_same_words(world: World) -> None:
    _, headers = await ask(world, StoredRecords([b"{}"], "41"), "user=a%26b&n=1&last=42")
    assert headers["link"] == '</api/v1/audit?user=a%26b&n=1&last=41>; rel="next"'


async def test_word_that_stands_twice_is_refused(world: World) -> None:
    with pytest.raises(RequestInvalid):
        await ask(world, StoredRecords(), "user=alice&user=bob")
