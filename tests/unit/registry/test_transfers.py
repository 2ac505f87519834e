from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import factories
from support.actors import Somebody
from support.audit import RecordingAudit
from support.clock import Clock
from support.core import OTHER, REPO, digest, tag
from trow.access.identity import Identity, Method
from trow.oci.errors import Unavailable
from trow.oci.names import Repository
from trow.registry import aggregator, transfers
from trow.registry.events import Action, Event, Origin, Outcome
from trow.registry.ports import ManifestRecord
from trow.registry.transfers import References, TransferTracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from factories import Blob, Manifest

IDLE = 10.0
ALICE = Identity("alice", Method.PASSWORD, credential="one")


def caller(identity: Identity = ALICE, address: str = "192.0.2.1") -> Somebody:
    return Somebody(identity=identity, client=address)


def record(manifest: Manifest) -> ManifestRecord:
    return ManifestRecord(digest(manifest.digest), manifest.media_type, manifest.raw)


class PullRequests:
    """TransferTracker, with the requests of clients."""

    def __init__(self, *, fail_closed: bool = False) -> None:
        self.audit = RecordingAudit(fail_closed=fail_closed)
        self.clock = Clock()
        self.transfers = TransferTracker(self.audit, IDLE, self.clock)

    async def head(self, by: Somebody, manifest: Manifest, reference: str = "", repository: Repository = REPO) -> None:
        target = tag(reference) if reference else digest(manifest.digest)
        await self.transfers.manifest(by, repository, target, record(manifest), None)

    async def get(self, by: Somebody, manifest: Manifest, reference: str = "", repository: Repository = REPO) -> None:
        target = tag(reference) if reference else digest(manifest.digest)
        await self.transfers.manifest(by, repository, target, record(manifest), manifest.size)

    async def blobs(self, by: Somebody, *blobs: Blob, repository: Repository = REPO) -> None:
        for each in blobs:
            await self.transfers.blob(by, repository, digest(each.digest), each.size)

    def after(self, seconds: float) -> Sequence[Event]:
        """What is on record when so much time has passed."""
        self.clock.now += seconds
        self.transfers.sweep()
        return self.audit.taken()

    def at_the_end(self) -> Sequence[Event]:
        self.transfers.sweep(everything=True)
        return self.audit.taken()


@pytest.fixture
def registry() -> PullRequests:
    return PullRequests()


# Pulls


async def test_pull_of_an_index_by_tag_is_one_record(registry: PullRequests) -> None:
    index = factories.index()
    child = index.children[0]
    by, began = caller(), registry.clock.now
    await registry.head(by, index, "v1")
    await registry.get(by, index, "v1")
    await registry.get(by, child)
    await registry.blobs(by, *child.blobs)
    assert registry.after(IDLE) == []
    (event,) = registry.after(1)
    assert event == Event(
        Action.PULL,
        Outcome.OK,
        actor=ALICE,
        origin=Origin("192.0.2.1", agent="test/1"),
        status=200,
        repository=REPO,
        reference="v1",
        digest=index.digest,
        media_type=index.media_type,
        manifests=(child.digest,),
        detail="2 manifest requests, 1 checks (HEAD)",
        blobs=2,
        bytes=index.size + child.size + sum(blob.size for blob in child.blobs),
        started_at=began,
    )
    assert registry.after(1000) == []


async def test_manifest_by_tag_and_again_by_the_digest_that_was_answered(registry: PullRequests) -> None:
    image = factories.image()
    await registry.head(caller(), image, "v1")
    await registry.get(caller(), image)
    await registry.get(caller(), image, "v1")
    (event,) = registry.at_the_end()
    assert (event.reference, event.manifests, event.bytes) == ("v1", (), 2 * image.size)


async def test_check_for_news_is_a_pull_of_no_bytes(registry: PullRequests) -> None:
    image = factories.image()
    await registry.head(caller(), image, "v1")
    await registry.transfers.manifest(caller(), REPO, tag("v1"), record(image), 0)  # answered 304
    (event,) = registry.at_the_end()
    assert (event.bytes, event.detail) == (0, "1 manifest requests, 1 checks (HEAD)")


async def test_two_tags_are_two_pulls(registry: PullRequests) -> None:
    image = factories.image()
    await registry.get(caller(), image, "v1")
    await registry.get(caller(), image, "v2")
    await registry.blobs(caller(), *image.blobs)
    events = registry.at_the_end()
    assert [(event.reference, event.blobs) for event in events] == [("v1", 0), ("v2", 3)]


async def test_tag_that_moves_in_the_middle_is_two_pulls(registry: PullRequests) -> None:
    before, after = factories.image(), factories.image()
    await registry.head(caller(), before, "v1")
    await registry.get(caller(), after, "v1")
    assert [event.digest for event in registry.at_the_end()] == [before.digest, after.digest]


@pytest.mark.parametrize(
    "other",
    [
        caller(Identity("bob", Method.PASSWORD)),
        caller(Identity("alice", Method.PASSWORD, credential="two")),
        caller(ALICE, "192.0.2.2"),
    ],
    ids=["identity", "credential", "address"],
)
async def test_two_callers_are_two_pulls(registry: PullRequests, other: Somebody) -> None:
    image = factories.image()
    for by in (caller(), other):
        await registry.get(by, image, "v1")
    for by in (caller(), other):
        await registry.blobs(by, *image.blobs)
    events = registry.at_the_end()
    assert [(event.actor, event.origin.address) for event in events] == [
        (by.identity, by.client) for by in (caller(), other)
    ]
    assert [event.blobs for event in events] == [3, 3]


async def test_two_repositories_are_two_pulls(registry: PullRequests) -> None:
    image = factories.image()
    for repository in (REPO, OTHER):
        await registry.get(caller(), image, "v1", repository)
        await registry.blobs(caller(), *image.blobs, repository=repository)
    assert [(event.repository, event.blobs) for event in registry.at_the_end()] == [(REPO, 3), (OTHER, 3)]


async def test_requests_at_the_same_time_are_one_pull(registry: PullRequests) -> None:
    index = factories.index()
    await asyncio.gather(*(registry.get(caller(), index, "v1") for _ in range(8)))
    await asyncio.gather(*(registry.get(caller(), child) for child in index.children for _ in range(2)))
    blobs = [blob for child in index.children for blob in child.blobs]
    await asyncio.gather(*(registry.blobs(caller(), blob) for blob in blobs))
    (event,) = registry.at_the_end()
    assert event.manifests == tuple(child.digest for child in index.children)
    assert (event.blobs, event.detail) == (len(blobs), "12 manifest requests")


async def test_blob_without_a_manifest_is_a_pull_of_its_own(registry: PullRequests) -> None:
    image, stray = factories.image(), factories.blob()
    await registry.get(caller(), image, "v1")
    await registry.blobs(caller(), stray, stray)
    events = registry.at_the_end()
    assert [(event.reference, event.blobs, event.bytes) for event in events] == [
        ("v1", 0, image.size),
        (stray.digest, 2, 2 * stray.size),
    ]
    assert events[1].detail == ""


async def test_large_manifest_is_read_for_what_it_refers_to(registry: PullRequests) -> None:
    image = factories.sized_image(200_000)
    await registry.get(caller(), image, "v1")
    await registry.blobs(caller(), *image.blobs)
    assert [event.blobs for event in registry.at_the_end()] == [1]


async def test_manifest_that_cannot_be_read_is_recorded_all_the_same(registry: PullRequests) -> None:
    raw = b"this is not JSON"
    broken = ManifestRecord(digest(factories.digest_of(raw)), factories.OCI_IMAGE, raw)
    await registry.transfers.manifest(caller(), REPO, tag("v1"), broken, len(raw))
    assert [event.digest for event in registry.at_the_end()] == [broken.digest]


async def test_pull_lasts_as_long_as_something_is_asked_for(registry: PullRequests) -> None:
    image = factories.image(5)
    await registry.get(caller(), image, "v1")
    for blob in image.blobs:
        assert registry.after(IDLE) == []
        await registry.blobs(caller(), blob)
    assert [event.blobs for event in registry.after(IDLE + 1)] == [6]


async def test_pull_that_never_ends_is_recorded_now_and_then(registry: PullRequests) -> None:
    image = factories.image(1)
    requests, recorded = 0, 0
    for _ in range(1000):
        await registry.get(caller(), image, "v1")
        requests += 1
        for event in registry.after(IDLE / 2):
            recorded += int(event.detail.split()[0])
            assert registry.clock.now - event.started_at < 320
    assert requests - 65 < recorded < requests


async def test_one_ended_pull_does_not_end_the_others_of_its_caller(registry: PullRequests) -> None:
    one, two = factories.image(), factories.image()
    await registry.get(caller(), one, "v1")
    registry.clock.now += IDLE / 2
    await registry.get(caller(), two, "v2")
    assert [event.reference for event in registry.after(IDLE / 2 + 1)] == ["v1"]
    await registry.blobs(caller(), *two.blobs)
    assert [(event.reference, event.blobs) for event in registry.at_the_end()] == [("v2", 3)]


async def test_origin_is_worked_out_once_for_each_pull(registry: PullRequests) -> None:
    by = caller()
    image = factories.image()
    await registry.head(by, image, "v1")
    await registry.get(by, image, "v1")
    await registry.blobs(by, *image.blobs)
    assert by.origins == 1


async def test_pulls_are_bounded_and_none_is_lost(registry: PullRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_MOST", 10)
    images = [factories.image(0) for _ in range(25)]
    for number, image in enumerate(images):
        await registry.get(caller(address=f"192.0.2.{number}"), image, "v1")
    early = registry.audit.taken()
    assert [event.digest for event in early] == [image.digest for image in images[:15]]
    assert [event.digest for event in registry.at_the_end()] == [image.digest for image in images[15:]]


async def test_pulls_of_one_caller_are_bounded_and_none_is_lost(registry: PullRequests) -> None:
    stray = [factories.blob(10) for _ in range(200)]
    await registry.blobs(caller(), *stray)
    early = registry.audit.taken()
    assert len(early) == 200 - 64
    assert [event.digest for event in (*early, *registry.at_the_end())] == [blob.digest for blob in stray]


async def test_manifests_named_in_one_record_are_bounded(registry: PullRequests) -> None:
    index = factories.index([factories.image(0) for _ in range(100)])
    await registry.get(caller(), index, "v1")
    for child in index.children:
        await registry.get(caller(), child)
    (event,) = registry.at_the_end()
    assert len(event.manifests) == 64
    assert event.detail == "101 manifest requests"


# Where nothing may happen off the record


async def test_pull_begins_on_record_before_anything_is_sent() -> None:
    registry = PullRequests(fail_closed=True)
    image = factories.image()
    await registry.get(caller(), image, "v1")
    (began,) = registry.audit.now
    assert (began.action, began.outcome, began.reference) == (Action.PULL_BEGIN, Outcome.INTENT, "v1")
    await registry.blobs(caller(), *image.blobs)
    assert registry.audit.now == [began]
    assert [event.action for event in registry.at_the_end()] == [Action.PULL_BEGIN, Action.PULL]


async def test_stray_blob_begins_on_record_too() -> None:
    registry = PullRequests(fail_closed=True)
    blob = factories.blob()
    await registry.blobs(caller(), blob, blob)
    assert [event.digest for event in registry.audit.now] == [blob.digest]


async def test_pull_that_cannot_be_recorded_leaves_nothing_open() -> None:
    registry = PullRequests(fail_closed=True)
    image = factories.image()
    registry.audit.full = True
    for _ in range(2):
        with pytest.raises(Unavailable):
            await registry.get(caller(), image, "v1")
        with pytest.raises(Unavailable):
            await registry.blobs(caller(), *image.blobs)
    assert registry.at_the_end() == []
    registry.audit.full = False
    await registry.get(caller(), image, "v1")
    assert [event.action for event in registry.at_the_end()] == [Action.PULL_BEGIN, Action.PULL]


async def test_nobody_is_served_while_the_begin_of_their_pull_waits_for_the_record() -> None:
    registry = PullRequests(fail_closed=True)
    image = factories.image()
    registry.audit.open.clear()
    first = asyncio.create_task(registry.get(caller(), image, "v1"))
    await registry.audit.waiting.wait()
    others = [asyncio.create_task(registry.get(caller(), image, "v1")) for _ in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in (first, *others))
    registry.audit.full = True
    registry.audit.open.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert registry.at_the_end() == []


async def test_client_that_goes_away_does_not_take_the_record_from_others() -> None:
    registry = PullRequests(fail_closed=True)
    image = factories.image()
    registry.audit.open.clear()
    first = asyncio.create_task(registry.get(caller(), image, "v1"))
    await registry.audit.waiting.wait()
    second = asyncio.create_task(registry.get(caller(), image, "v1"))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert registry.after(IDLE + 1) == [], "a pull ended before it had begun"
    registry.audit.open.set()
    await second
    assert [event.action for event in registry.at_the_end()] == [Action.PULL_BEGIN, Action.PULL]


# Pushes


def stored(reference: str = "v1", size: int = 500) -> Event:
    return Event(Action.PUSH, Outcome.OK, actor=ALICE, repository=REPO, reference=reference, bytes=size)


async def test_push_of_a_manifest_gathers_the_blobs_before_it(registry: PullRequests) -> None:
    began = registry.clock.now
    for size in (100, 20, 3):
        registry.transfers.received(caller(), REPO, size)
        assert registry.after(60) == []
    registry.transfers.pushed(caller(), REPO, stored())
    (event,) = registry.audit.taken()
    assert (event.reference, event.blobs, event.bytes, event.started_at) == ("v1", 3, 623, began)
    assert registry.at_the_end() == []


async def test_push_of_a_manifest_alone_is_recorded_as_it_is(registry: PullRequests) -> None:
    registry.transfers.pushed(caller(), REPO, stored())
    assert registry.audit.taken() == [stored()]


async def test_blobs_count_for_the_first_manifest_that_follows(registry: PullRequests) -> None:
    registry.transfers.received(caller(), REPO, 100)
    for reference in ("v1", "v2"):
        registry.transfers.pushed(caller(), REPO, stored(reference))
    assert [event.blobs for event in registry.audit.taken()] == [1, 0]


async def test_pushes_of_other_callers_and_to_other_repositories_are_apart(registry: PullRequests) -> None:
    registry.transfers.received(caller(address="192.0.2.2"), REPO, 100)
    registry.transfers.received(caller(), OTHER, 100)
    registry.transfers.pushed(caller(), REPO, stored())
    assert [event.blobs for event in registry.audit.taken()] == [0]
    assert [event.repository for event in registry.at_the_end()] == [REPO, OTHER]


async def test_what_is_gathered_is_on_record_at_once_when_the_clock_is_set_back(registry: PullRequests) -> None:
    """It would end only when the clock has caught up, and be lost with whatever happens until then."""
    image = factories.image()
    await registry.get(caller(), image, "v1")
    registry.transfers.received(caller(), REPO, 10)
    for _ in range(3):
        registry.transfers.aggregator.gather(
            Event(Action.LOGIN, Outcome.DENIED, actor=ALICE, origin=Origin("192.0.2.1"), reason="wrong")
        )
    assert [event.action for event in registry.after(0.1)] == [Action.LOGIN]
    found = registry.after(-3600)
    assert {event.action for event in found} == {Action.PULL, Action.PUSH, Action.LOGIN}
    assert {event.count for event in found if event.action is Action.LOGIN} == {2}
    await registry.get(caller(), image, "v1")
    assert registry.after(IDLE) == []
    assert [event.action for event in registry.after(1)] == [Action.PULL]


async def test_a_begin_that_is_being_recorded_when_the_clock_is_set_back_is_not_lost() -> None:
    registry = PullRequests(fail_closed=True)
    image = factories.image()
    await registry.get(caller(), image, "v1")
    taken = list(registry.after(-3600)) + list(registry.after(2 * IDLE))
    assert Action.PULL in {event.action for event in taken}


async def test_push_that_is_never_finished_is_recorded_when_it_was_idle(registry: PullRequests) -> None:
    registry.transfers.received(caller(), REPO, 100)
    assert registry.after(600) == []
    registry.transfers.received(caller(), REPO, 20)
    assert registry.after(600) == []
    (event,) = registry.after(1)
    assert (event.action, event.outcome, event.blobs, event.bytes) == (Action.PUSH, Outcome.OK, 2, 120)
    assert "no manifest followed" in event.detail
    assert registry.at_the_end() == []


async def test_pushes_are_bounded_and_none_is_lost(registry: PullRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_MOST", 10)
    for number in range(25):
        registry.transfers.received(caller(), Repository.parse(f"r{number:02}"), 1)
    early = registry.audit.taken()
    assert len(early) == 15
    assert [event.repository for event in (*early, *registry.at_the_end())] == [f"r{n:02}" for n in range(25)]


# Refusals


def refusal(reason: str = "no rule allows it", address: str = "192.0.2.1", repository: str = REPO) -> Event:
    return Event(
        Action.ACCESS, Outcome.DENIED, actor=ALICE, origin=Origin(address), reason=reason, repository=repository
    )


async def test_first_refusal_is_recorded_at_once_and_its_repetitions_are_counted(registry: PullRequests) -> None:
    began = registry.clock.now
    registry.transfers.aggregator.gather(refusal())
    assert registry.audit.taken() == [refusal()]
    for _ in range(7):
        registry.transfers.aggregator.gather(refusal())
    assert registry.after(60) == []
    (event,) = registry.after(1)
    assert (event.count, event.started_at, event.reason) == (7, began, "no rule allows it")
    registry.transfers.aggregator.gather(refusal())
    assert registry.audit.taken() == [refusal()]


async def test_refusal_that_is_not_repeated_is_one_record(registry: PullRequests) -> None:
    registry.transfers.aggregator.gather(refusal())
    assert registry.at_the_end() == [refusal()]


@pytest.mark.parametrize(
    "other", [refusal("expired"), refusal(address="192.0.2.2"), refusal(repository=OTHER)], ids=lambda e: e.reason
)
async def test_different_refusals_are_recorded_apart(registry: PullRequests, other: Event) -> None:
    for event in (refusal(), other):
        registry.transfers.aggregator.gather(event)
    assert registry.audit.taken() == [refusal(), other]


async def test_flood_of_different_refusals_of_one_client_is_bounded(registry: PullRequests) -> None:
    for number in range(1000):
        registry.transfers.aggregator.gather(refusal(repository=f"r{number}"))
    events = registry.audit.taken()
    assert len(events) == 61
    assert (events[-1].repository, events[-1].reason) == ("", "many different refusals of this client")
    registry.transfers.aggregator.gather(replace(refusal(), actor=Identity("bob", Method.PASSWORD)))
    assert len(registry.audit.taken()) == 1, "another user is not concerned"
    registry.transfers.aggregator.gather(refusal(address="192.0.2.2"))
    assert len(registry.audit.taken()) == 1, "nor is another client"
    (rest,) = registry.after(61)
    assert rest.count == 1000 - 61
    registry.transfers.aggregator.gather(refusal(repository="r999"))
    assert [event.repository for event in registry.audit.taken()] == ["r999"]


async def test_refusals_are_bounded_and_none_is_lost(registry: PullRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregator, "MOST", 10)
    for number in range(25):
        for _ in range(3):
            registry.transfers.aggregator.gather(refusal(address=f"192.0.2.{number}"))
    early = registry.audit.taken()
    assert len(early) == 25 + 15
    assert sum(event.count for event in (*early, *registry.at_the_end())) == 75


async def test_flood_from_many_addresses_of_one_network_is_one_client(registry: PullRequests) -> None:
    for number in range(1000):
        registry.transfers.aggregator.gather(refusal(address=f"2001:db8::{number:x}", repository=f"r{number}"))
    events = registry.audit.taken()
    assert len(events) == 61
    assert events[-1].reason == "many different refusals of this client"


async def test_of_long_texts_no_more_is_kept_than_a_record_shows(registry: PullRequests) -> None:
    """Addresses are cheap, and what each of them writes can be 60 kB long."""
    tracemalloc.start()
    try:
        for number in range(1000):
            text = f"{number}" + "x" * 60_000
            event = Event(Action.ACCESS, Outcome.DENIED, repository=text, reference=text, reason=text, detail=text)
            registry.transfers.aggregator.gather(replace(event, origin=Origin(f"192.0.{number >> 8}.{number & 255}")))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1000 * 8_000
    assert len(registry.audit.taken()) == 1000


async def test_manifest_is_read_once_for_all_who_pull_it(registry: PullRequests) -> None:
    image = factories.image()
    for number in range(10):
        await registry.get(caller(address=f"192.0.2.{number}"), image, "v1")
    assert len(registry.transfers.references) == 1
    first = await registry.transfers.references.of(record(image))
    assert await registry.transfers.references.of(record(image)) is first


async def test_manifest_with_more_references_than_any_image_costs_each_pull_nothing(registry: PullRequests) -> None:
    index = factories.index([factories.image(0) for _ in range(500)])
    assert len(index.raw) > 64 * 1024
    (references,) = {await registry.transfers.references.of(record(index)) for _ in range(3)}
    assert len(references) == 256
    await registry.get(caller(), index, "v1")
    assert [event.digest for event in registry.at_the_end()] == [index.digest]


async def test_manifests_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_MOST_KNOWN", 2)
    references = References()
    for _ in range(5):
        image = factories.image()
        assert len(await references.of(record(image))) == 3
    assert len(references) == 2


async def test_nothing_is_kept_of_what_has_ended(registry: PullRequests) -> None:
    image = factories.image()
    for number in range(100):
        by = caller(address=f"192.0.2.{number}")
        await registry.get(by, image, "v1")
        registry.transfers.received(by, REPO, 1)
        registry.transfers.aggregator.gather(refusal(address=by.client))
    registry.after(10_000)
    kept = vars(registry.transfers)
    assert not any(kept[name] for name in ("_pulls", "_due", "_pushes"))
