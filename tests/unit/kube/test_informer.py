"""A copy of a collection, and an API server that does all it can to have it wrong."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.apiserver import Answer, Asked, Lines, ObjectServer
from support.running import running
from support.waiting import eventually
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.informer import Informer
from trow.kube.objects import Objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

COLLECTION: Final = "/apis/example.com/v1/colours"
SECONDS: Final = 20
PAUSE: Final = 0.01


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer.start() as served:
        yield served


class Copy(Informer):
    """Counts what it tells."""

    def __init__(self, objects: Objects, **options: Any) -> None:
        self.told = 0
        super().__init__(objects, COLLECTION, self.tell, **({"first_pause": PAUSE} | options))

    def tell(self) -> None:
        self.told += 1

    @property
    def names(self) -> str:
        return " ".join(sorted(name for _, name in self.objects))


@asynccontextmanager
async def copy(server: ObjectServer, seconds: float = 5.0, **options: Any) -> AsyncIterator[Copy]:
    client = KubeClient(ClusterAccess(server.url), connect_seconds=seconds)
    watched = Copy(Objects(client, seconds=seconds), **options)
    async with running(watched.run(), client):
        yield watched


def colour(name: str, version: int, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": str(version), "managedFields": [{"manager": "kubectl"}]}
    return {"apiVersion": "example.com/v1", "kind": "Colour", "metadata": metadata, **more}


def page(*names: str, version: int = 7) -> Answer:
    items = [colour(name, version) for name in names]
    metadata = {"resourceVersion": str(version)}
    return Answer({"apiVersion": "example.com/v1", "kind": "ColourList", "metadata": metadata, "items": items})


def event(change: str, name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"type": change, "object": colour(name, version, **more)}


EXPIRED: Final = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "reason": "Expired"}}


def lists(server: ObjectServer) -> int:
    return sum(not asked.watch for asked in server.asked)


def versions(server: ObjectServer) -> list[str]:
    """From where watches were begun."""
    return [asked.query["resourceVersion"] for asked in server.asked if asked.watch]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged by what is tested."""
    return [record for record in caplog.records if record.name.startswith("trow")]


def script(server: ObjectServer, *watches: Lines | Answer, listed: Answer | None = None) -> None:
    """Each watch gets the next answer, and all from then on the last one; `listed` is what there is."""

    def reply(asked: Asked) -> Answer | Lines:
        turn = sum(each.watch for each in server.asked)
        return watches[min(turn, len(watches)) - 1] if asked.watch else listed or page("red")

    server.reply = reply


async def test_all_is_listed_and_then_followed(server: ObjectServer) -> None:
    events = (event("ADDED", "blue", 8), event("MODIFIED", "red", 9, spec=1), event("DELETED", "blue", 10))
    script(server, Lines.of(events[0], ending="stay"))
    async with copy(server) as colours:
        assert (colours.synced, colours.age, colours.names) == (False, math.inf, "")
        await eventually(lambda: colours.names == "blue red")
        assert colours.synced
        assert colours.objects["", "red"] == {
            "apiVersion": "example.com/v1",
            "kind": "Colour",
            "metadata": {"name": "red", "resourceVersion": "7"},
        }
    script(server, Lines.of(*events, ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: "spec" in colours.objects.get(("", "red"), {}) and colours.names == "red")
        assert 0 <= colours.age < SECONDS
        assert colours.failing == ""


async def test_what_has_changed_is_told_after_the_list_and_then_for_many_at_once(server: ObjectServer) -> None:
    script(server, Lines(ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: colours.told == 1)
    many = (event("ADDED", f"c{number}", 8 + number) for number in range(500))
    script(server, Lines.of(*many, ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: len(colours.objects) == 501)
        before = colours.told
        await eventually(lambda: colours.told > before)
        assert colours.told < 100


async def test_a_list_without_objects_is_told_too(server: ObjectServer) -> None:
    script(server, Lines(ending="stay"), listed=page())
    async with copy(server) as colours:
        await eventually(lambda: colours.told)
        assert (colours.synced, colours.names) == (True, "")


async def test_bookmarks_are_no_changes(server: ObjectServer) -> None:
    script(server, Lines.of(event("BOOKMARK", "", 8), event("BOOKMARK", "", 9)), Lines(ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: len(versions(server)) == 2)
        assert (versions(server), colours.told, lists(server)) == (["7", "9"], 1, 1)


@pytest.mark.parametrize("ending", ["end", "break"])
async def test_a_watch_goes_on_where_it_ended(server: ObjectServer, ending: str) -> None:
    script(
        server,
        Lines.of(event("ADDED", "blue", 8), ending=ending),
        Lines.of(event("BOOKMARK", "", 12), ending=ending),
        Lines.of(event("DELETED", "red", 13), ending="stay"),
    )
    async with copy(server) as colours:
        await eventually(lambda: colours.names == "blue")
        assert (versions(server), lists(server)) == (["7", "8", "12"], 1)


async def test_after_an_old_version_all_is_listed_anew(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    script(server, Lines.of(event("ADDED", "blue", 8), EXPIRED), Lines(ending="stay"), listed=page("red", "green"))
    async with copy(server) as colours:
        await eventually(lambda: len(versions(server)) == 2)
        assert (versions(server), lists(server), colours.names) == (["7", "7"], 2, "green red")
        assert colours.failing == ""
    assert caplog.messages == []


async def test_versions_that_are_always_old_are_told(server: ObjectServer) -> None:
    script(server, Lines.of(EXPIRED))
    async with copy(server) as colours:
        await eventually(lambda: "too old" in colours.failing)
        assert colours.names == "red"


async def test_a_silent_watch_is_doubted(server: ObjectServer) -> None:
    """An API server whose data was restored from a copy says nothing about the versions that it has lost."""
    script(server, Lines(), Lines(), Lines(ending="stay"))
    async with copy(server):
        await eventually(lambda: len(versions(server)) == 3)
        assert lists(server) == 3


async def test_a_server_that_is_down_is_waited_for(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    script(server, Lines(ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: versions(server))
        await asyncio.to_thread(server.down)
        await eventually(lambda: "cannot be reached" in colours.failing)
        tries = colours._backoff.failures  # noqa: SLF001 - nothing else shows that it tries
        await eventually(lambda: colours._backoff.failures > tries + 3)  # noqa: SLF001
        assert (colours.synced, colours.names) == (True, "red")
        script(server, Lines(ending="stay"), listed=page("red", "blue"))
        await asyncio.to_thread(server.up)
        await eventually(lambda: colours.names == "blue red")
        await eventually(lambda: not colours.failing)
    first, second = told(caplog)
    assert (first.levelname, second.levelname) == ("WARNING", "INFO")
    assert first.getMessage().startswith(f"{COLLECTION} cannot be followed; what is known of it stays in use: ")
    assert second.getMessage() == f"{COLLECTION} is followed again"


async def test_a_server_that_was_never_there_is_waited_for(
    server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    script(server, Lines(ending="stay"))
    await asyncio.to_thread(server.down)
    async with copy(server) as colours:
        await eventually(lambda: colours.failing)
        assert (colours.synced, colours.age, colours.told) == (False, math.inf, 0)
        await asyncio.to_thread(server.up)
        await eventually(lambda: colours.synced and not colours.failing)
    assert [record.levelname for record in told(caplog)] == ["WARNING"]


LIES: Final[dict[str, Answer | Lines]] = {
    "empty": Answer(b""),
    "html": Answer(b"<html>"),
    "deep": Answer(b"[" * 100_000),
    "null": Answer(None),
    "nothing": Answer({}),
    "no version": Answer({"apiVersion": "v1", "kind": "L", "metadata": {}, "items": []}),
    "nameless": Answer({"apiVersion": "v1", "kind": "L", "metadata": {"resourceVersion": "7"}, "items": [{}]}),
    "401": Answer({}, 401),
    "403": Answer({}, 403),
    "404": Answer(b"404 page not found", 404),
    "410": Answer({}, 410),
    "429": Answer({}, 429),
    "500": Answer({}, 500),
    "302": Answer({}, 302, {"Location": "/"}),
    "break": Lines(ending="break"),
    "half": Lines((b'{"type":',), ending="break"),
    "no events": Lines((b"{}\n",) * 3),
    "gone": Lines.of(EXPIRED),
    "error": Lines.of({"type": "ERROR", "object": {"code": 500}}),
    "unknown": Lines.of({"type": "RENAMED", "object": colour("red", 8)}),
    "bad events": Lines.of({"type": "ADDED", "object": {"metadata": {}}}),
    "endless": Lines((b" " * (1 << 20),) * 17, ending="stay"),
}


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("about", ["lists", "watches"])
async def test_a_lie_ends_nothing(server: ObjectServer, lie: str, about: str, caplog: pytest.LogCaptureFixture) -> None:
    def reply(asked: Asked) -> Answer | Lines:
        if asked.watch == (about == "watches"):
            return LIES[lie]
        return Lines(ending="stay") if asked.watch else page("red")

    caplog.set_level(logging.INFO)
    server.reply = reply
    async with copy(server, seconds=1.0) as colours:
        await eventually(lambda: len(server.asked) >= 4)
        await eventually(lambda: colours.failing)
        assert colours.synced == (about == "watches")
        # It may have listed what was there before, and be about to watch that.
        server.reply = lambda asked: Lines(ending="stay") if asked.watch and colours.names == "blue" else page("blue")
        await eventually(lambda: colours.names == "blue")
        await eventually(lambda: not colours.failing)
    # Once for each change of state; a long lie may look like a recovery for a moment.
    levels = [record.levelname for record in told(caplog)]
    assert levels == ["WARNING", "INFO"] * (len(levels) // 2)
    assert len(levels) < len(server.asked)


async def test_what_was_known_stays_while_a_right_is_missing(server: ObjectServer) -> None:
    script(server, Lines.of(event("ADDED", "blue", 8), EXPIRED))
    async with copy(server) as colours:
        await eventually(lambda: colours.names == "blue red")
        server.reply = lambda asked: Answer({"message": "colours is forbidden"}, 403)
        await eventually(lambda: "colours is forbidden" in colours.failing)
        assert "red" in colours.names
        assert colours.synced


async def test_a_slow_server_is_given_up_and_asked_again(server: ObjectServer) -> None:
    script(server, Lines(ending="stay"))
    server.delay = 30
    async with copy(server, seconds=0.1) as colours:
        await eventually(lambda: "does not answer within 0.1 s" in colours.failing)
        server.delay = 0
        await eventually(lambda: colours.synced and not colours.failing)


@pytest.mark.slow
async def test_a_connection_that_died_unnoticed_is_noticed(server: ObjectServer) -> None:
    script(server, Lines(ending="stay"))
    async with copy(server, seconds=0.2, watch_seconds=1) as colours:
        await eventually(lambda: "silent for too long" in colours.failing)
        script(server, Lines.of(event("ADDED", "blue", 8), ending="stay"))
        await eventually(lambda: colours.names == "blue red")


@pytest.mark.slow
@pytest.mark.parametrize("watches", [Lines(), Lines.of(event("BOOKMARK", "", 8)), Answer({}, 500)])
async def test_a_server_that_ends_each_watch_is_asked_ever_less(server: ObjectServer, watches: Lines | Answer) -> None:
    script(server, watches)
    began = time.monotonic()
    async with copy(server, first_pause=0.1):
        await eventually(lambda: len(versions(server)) == 6)
    # Half of 0.1 + 0.2 + 0.4 + 0.8 + 1.6.
    assert time.monotonic() - began > 1.5


async def test_a_watch_that_has_lasted_is_begun_anew_at_once(server: ObjectServer) -> None:
    lasting = [Lines.of(event("BOOKMARK", "", 8 + number), seconds=0.1) for number in range(5)]
    script(server, *lasting, Lines(ending="stay"))
    async with copy(server, first_pause=0.05) as colours:
        await eventually(lambda: len(versions(server)) == 6)
        assert (lists(server), colours.failing, colours._backoff.failures) == (1, "", 0)  # noqa: SLF001 - no pause can be seen


async def test_a_change_that_cannot_be_taken_in_ends_nothing(
    server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    script(server, Lines.of(event("ADDED", "blue", 8), ending="stay"))

    class Clumsy(Copy):
        def tell(self) -> None:
            super().tell()
            raise ZeroDivisionError

    client = KubeClient(ClusterAccess(server.url))
    colours = Clumsy(Objects(client))
    task = asyncio.create_task(colours.run())
    await eventually(lambda: colours.told == 2)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.close()
    assert caplog.messages == [f"a change of {COLLECTION} could not be taken in"] * 2


async def test_an_end_is_an_end(server: ObjectServer) -> None:
    script(server, Lines.of(event("ADDED", "blue", 8), ending="stay"))
    async with copy(server) as colours:
        await eventually(lambda: colours.names == "blue red")
        before = colours.told
    # What was about to be told is not.
    await asyncio.sleep(0)
    assert colours._notifying is None  # noqa: SLF001
    assert colours.told == before
    await eventually(lambda: server.busy == 0)
