"""Equal events are counted, and nobody has more records than their share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.audit import RecordingAudit
from support.clock import Clock
from trow.access.identity import ANONYMOUS, Identity, Method
from trow.registry.aggregator import ALLOWED, REFUSALS, REVIEWS, WINDOW_SECONDS, EventAggregator
from trow.registry.events import Action, Event, Origin, Outcome, Part, part_of

ALICE = Identity("alice", Method.PASSWORD)
SAID = Identity("alice", Method.REVIEW)


class Trail:
    """A trail, and a clock."""

    def __init__(self) -> None:
        self.audit, self.clock = RecordingAudit(), Clock()
        self.repeats = EventAggregator(self.audit, self.clock)

    def after(self, seconds: float) -> list[Event]:
        self.clock.now += seconds
        self.repeats.sweep()
        return [*self.audit.taken()]


@pytest.fixture
def world() -> Trail:
    return Trail()


def event(actor: Identity = ALICE, outcome: Outcome = Outcome.OK, address: str = "192.0.2.1", **members: Any) -> Event:
    return Event(**{"action": Action.TOKEN_ISSUE} | members, actor=actor, outcome=outcome, origin=Origin(address))


def test_equal_events_are_two_records_with_a_count_and_the_first_and_the_last_time(world: Trail) -> None:
    first = world.clock.now
    world.repeats.gather(event())
    assert world.audit.taken() == [event()]
    for _ in range(1000):
        world.clock.now += 0.01
        world.repeats.gather(event())
    last = world.clock.now
    assert world.audit.taken() == []
    assert world.after(WINDOW_SECONDS + 1) == [replace(event(), count=1000, started_at=first, ended_at=last)]
    assert world.after(1000) == []


@pytest.mark.parametrize(
    "other",
    [
        event(outcome=Outcome.DENIED), event(action=Action.LOGIN), event(replace(ALICE, name="bob")),
        event(address="192.0.2.2"), event(detail="granted more"), event(reason="a rule"), event(repository="a/b"),
        event(reference="v1"),
    ],
)  # fmt: skip
def test_what_differs_in_who_what_where_or_why_is_apart(world: Trail, other: Event) -> None:
    for each in (event(), other, event(), other):
        world.repeats.gather(each)
    assert world.audit.taken() == [event(), other]
    assert [each.count for each in world.after(WINDOW_SECONDS + 1)] == [1, 1]


def test_what_is_alike_may_differ_in_its_words(world: Trail) -> None:
    for number in range(12):
        world.repeats.gather(event(detail=f"Pod web-{number}"), "uid")
    assert [each.detail for each in world.audit.taken()] == ["Pod web-0"]
    assert [each.count for each in world.after(WINDOW_SECONDS + 1)] == [11]


@pytest.mark.parametrize(
    ("actor", "outcome", "action", "most", "word"),
    [
        (ANONYMOUS, Outcome.DENIED, Action.LOGIN, REFUSALS, "refusals"),
        (ALICE, Outcome.DENIED, Action.ACCESS, REFUSALS, "refusals"),
        (ALICE, Outcome.OK, Action.TOKEN_ISSUE, ALLOWED, "requests"),
        (SAID, Outcome.DENIED, Action.ADMISSION, REVIEWS, "reviews"),
        (SAID, Outcome.OK, Action.ADMISSION, REVIEWS, "reviews"),
    ],
)
def test_different_events_of_one_user_or_source_have_a_share_of_records(
    world: Trail, actor: Identity, outcome: Outcome, action: Action, most: int, word: str
) -> None:
    def flood(address: str) -> list[Event]:
        for number in range(most + 500):
            world.repeats.gather(event(actor, outcome, address, action=action, detail=f"{number}", reason=f"{number}"))
        return [*world.audit.taken()]

    recorded = flood("2001:db8::1")
    assert len(recorded) == most + 1
    assert recorded[-1].reason == f"many different {word} of this client"
    assert part_of(recorded[-1]) is part_of(recorded[0])
    assert len(flood("2001:db8::2")) == 0, "the same network is the same source"
    assert len(flood("192.0.2.9")) == most + 1
    counted = world.after(WINDOW_SECONDS + 1)
    assert sum(each.count for each in counted) == 3 * (most + 500) - 2 * (most + 1)


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.DENIED])
def test_the_share_of_one_user_is_not_that_of_another_at_the_same_address(world: Trail, outcome: Outcome) -> None:
    for number in range(2 * ALLOWED):
        world.repeats.gather(event(outcome=outcome, detail=f"{number}"))
    assert {each.actor.name for each in world.audit.taken()} == {"alice"}
    world.repeats.gather(event(replace(ALICE, name="bob"), outcome))
    assert [each.actor.name for each in world.audit.taken()] == ["bob"]


def test_everything_is_recorded_in_the_end(world: Trail) -> None:
    for number in range(10):
        for _ in range(3):
            world.repeats.gather(event(detail=f"{number}"))
    world.repeats.sweep(everything=True)
    assert sum(each.count for each in world.audit.taken()) == 30
    world.repeats.sweep(everything=True)
    assert world.audit.taken() == []


@pytest.mark.parametrize(
    ("recorded", "part"),
    [
        (Event(Action.PULL, actor=ALICE), Part.EFFECTS),
        (Event(Action.PUSH, Outcome.FAILED, actor=ALICE), Part.EFFECTS),
        (Event(Action.CONFIGURATION), Part.EFFECTS),
        (Event(Action.AUDIT_READ, actor=ALICE), Part.EFFECTS),
        (Event(Action.LOGIN, actor=ALICE), Part.ACCESS),
        (Event(Action.TOKEN_ISSUE, Outcome.DENIED, actor=ALICE), Part.ACCESS),
        (Event(Action.ACCESS, Outcome.DENIED, actor=ALICE), Part.ACCESS),
        (Event(Action.LIST, actor=ALICE), Part.ACCESS),
        (Event(Action.ADMISSION, Outcome.DENIED, actor=ALICE), Part.ACCESS),
        (Event(Action.LOGIN, Outcome.DENIED), Part.ANONYMOUS),
        (Event(Action.PULL), Part.ANONYMOUS),
        (Event(Action.ADMISSION, actor=SAID), Part.REVIEWS),
        (Event(Action.ADMISSION, actor=Identity("", Method.REVIEW)), Part.REVIEWS),
        (Event(Action.AUDIT_TRIM, part=Part.REVIEWS), Part.REVIEWS),
    ],
)
def test_parts_of_the_record_are_apart_by_who_can_fill_them(recorded: Event, part: Part) -> None:
    assert part_of(recorded) is part
