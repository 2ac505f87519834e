"""Events: one for equal notices, and none that stops those after it."""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.clock import Clock
from support.running import running
from support.shelf import Shelf, refusal
from support.waiting import eventually
from trow.admission.ports import Notification, Subject
from trow.controllers.events import EventRecorder
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.objects import Objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.apiserver import Answer, Asked

EVENTS: Final = "/api/v1/namespaces/team-a/events"
# What the API server wants of the name of an Event (RFC 1123).
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf.start() as served:
        yield served


@asynccontextmanager
async def announcer(shelf: Shelf, clock: Clock | None = None) -> AsyncIterator[EventRecorder]:
    client = KubeClient(ClusterAccess(shelf.url))
    made = EventRecorder(Objects(client, seconds=5), "trow-0", clock or Clock())
    async with running(made.run(), client):
        yield made


def notice(message: str = "no", namespace: str = "team-a", **subject: str) -> Notification:
    given = {"api_version": "apps/v1", "kind": "ReplicaSet", "name": "web-5d", "uid": "u-1"} | subject
    return Notification(namespace, Subject(**given), "ImageDenied", message)


def events(shelf: Shelf) -> list[dict[str, Any]]:
    return [item for path, item in shelf.objects.items() if "/events/" in path]


async def test_a_notice_becomes_an_event(shelf: Shelf) -> None:
    async with announcer(shelf) as recorder:
        recorder.notify(notice("container web: no"))
        await eventually(lambda: events(shelf))
    ((path, found),) = shelf.objects.items()
    name = path.removeprefix(f"{EVENTS}/")
    assert re.fullmatch(r"web-5d\.[0-9a-f]{12}[0-9a-f]+", name)
    for key in ("generation", "resourceVersion"):
        del found["metadata"][key]
    assert found == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "team-a"},
        "involvedObject": {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": "web-5d",
            "namespace": "team-a",
            "uid": "u-1",
        },
        "reason": "ImageDenied",
        "message": "container web: no",
        "type": "Warning",
        "source": {"component": "trow"},
        "reportingComponent": "trow",
        "reportingInstance": "trow-0",
        "firstTimestamp": "2023-11-14T22:13:20Z",
        "lastTimestamp": "2023-11-14T22:13:20Z",
        "count": 1,
    }


async def test_equal_notices_are_one_event_for_some_time(shelf: Shelf) -> None:
    clock = Clock()
    async with announcer(shelf, clock) as recorder:
        recorder.notify(notice())
        await eventually(lambda: events(shelf))
        clock.now += 100
        for _ in range(3):
            recorder.notify(notice())
        await eventually(lambda: events(shelf)[0]["count"] == 4)
        (found,) = events(shelf)
        assert (found["firstTimestamp"], found["lastTimestamp"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:15:00Z")
        clock.now += 3000  # the API server will soon have forgotten it
        recorder.notify(notice())
        await eventually(lambda: len(events(shelf)) == 2)
    assert sorted(each["count"] for each in events(shelf)) == [1, 4]


async def test_different_notices_are_different_events(shelf: Shelf) -> None:
    told = [notice(), notice("other"), notice(uid="u-2"), notice(name="other"), notice(namespace="team-b")]
    async with announcer(shelf) as recorder:
        for each in told:
            recorder.notify(each)
        await eventually(lambda: len(events(shelf)) == len(told))
    assert {each["count"] for each in events(shelf)} == {1}


async def test_what_belongs_to_no_namespace_is_told_in_default(shelf: Shelf) -> None:
    async with announcer(shelf) as recorder:
        recorder.notify(notice(namespace="", kind="Thing"))
        await eventually(lambda: events(shelf))
    ((path, found),) = shelf.objects.items()
    assert path.startswith("/api/v1/namespaces/default/events/")
    assert (found["metadata"]["namespace"], found["involvedObject"]["namespace"]) == ("default", "")


@pytest.mark.parametrize(
    "name", ["a/b", "../../secrets/x", "..", ".", "", "A b", "x" * 4000, "-a.-b-", "é", "a\n", "%2e", "a..b"]
)
async def test_any_name_of_a_subject_will_do(shelf: Shelf, name: str) -> None:
    async with announcer(shelf) as recorder:
        recorder.notify(notice(name=name))
        await eventually(lambda: events(shelf))
    ((path, found),) = shelf.objects.items()
    own = path.removeprefix(f"{EVENTS}/")
    assert NAME.fullmatch(own)
    assert len(own) <= 253
    assert found["involvedObject"]["name"] == name


async def test_a_long_message_is_cut(shelf: Shelf) -> None:
    async with announcer(shelf) as recorder:
        recorder.notify(notice("x" * 10_000))
        await eventually(lambda: events(shelf))
    assert events(shelf)[0]["message"] == "x" * 1024


@pytest.mark.parametrize("namespace", ["../x", "a/b/c/d/e", "team a"])
async def test_what_cannot_be_written_keeps_nothing_from_being_written(shelf: Shelf, namespace: str) -> None:
    async with announcer(shelf) as recorder:
        recorder.notify(notice(namespace=namespace))
        recorder.notify(notice("after"))
        await eventually(lambda: [each for each in events(shelf) if each["message"] == "after"])


def written(shelf: Shelf, message: str) -> bool:
    return message in [each["message"] for each in events(shelf)]


async def refused(shelf: Shelf, recorder: EventRecorder, message: str) -> None:
    """Tell three times what the API server does not want to hear."""
    refusals: list[Asked] = []

    def refuse(asked: Asked) -> Answer:
        refusals.append(asked)
        return refusal(403, "it is being terminated")

    shelf.refuse = refuse
    for number in range(3):
        recorder.notify(notice(f"{message}: {number}"))
    await eventually(lambda: len(refusals) == 3)
    shelf.refuse = lambda asked: None


@pytest.mark.slow
async def test_a_refusal_is_logged_once_and_again_after_a_success(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [each.message for each in caplog.records if each.name == "trow.controllers.events"]

    async with announcer(shelf) as recorder:
        for turn in (1, 2):
            await refused(shelf, recorder, f"refused {turn}")
            recorder.notify(notice(f"written {turn}"))
            await eventually(partial(written, shelf, f"written {turn}"))
            assert len(told()) == turn
    assert all("an Event could not be written, and others may be missing too" in each for each in told())
    assert {each.levelno for each in caplog.records if each.name == "trow.controllers.events"} == {logging.WARNING}


async def test_of_too_many_notices_the_oldest_are_dropped(shelf: Shelf) -> None:
    async with announcer(shelf) as recorder:
        for number in range(7_000):
            recorder.notify(notice(str(number)))
        await eventually(lambda: events(shelf))
    assert events(shelf)[0]["message"] == "6000"
