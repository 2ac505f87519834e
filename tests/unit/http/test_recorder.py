from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.core import OTHER, digest, tag
from support.gates import ALICE, APP, World
from trow.access.permissions import Permission
from trow.http.recorder import Recorder
from trow.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown, Unavailable
from trow.registry.events import Action, Event, Outcome
from trow.registry.ports import ManifestRecord, TagMove
from trow.registry.publish import Published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.fixtures import Make
    from trow.http.request import Request

IMAGE = factories.image()
NAME = digest(IMAGE.digest)
OLD = digest(factories.image().digest)
RECORD = ManifestRecord(NAME, IMAGE.media_type, IMAGE.raw)
LAYER = digest(IMAGE.blobs[1].digest)


def published(*moves: TagMove) -> Published:
    return Published(NAME, IMAGE.media_type, None, (), moves)


@pytest.fixture
def recorder(world: World) -> Recorder:
    return Recorder(world.audit, world.transfers)


async def asked(world: World, method: str = "GET") -> Request:
    """A request of alice's."""
    request = world.request(ALICE, method=method)
    await world.access.admit(request, Permission.PULL)
    return request


def events(world: World) -> Sequence[Event]:
    world.transfers.sweep(everything=True)
    assert all(event.actor.name == "alice" for event in world.audit.events)
    assert all(event.repository == APP for event in world.audit.events)
    return world.audit.taken()


async def test_manifest_counts_as_many_bytes_as_are_sent(world: World, recorder: Recorder) -> None:
    for method, sent in (("HEAD", True), ("GET", True), ("GET", False)):
        await recorder.manifest(await asked(world, method), tag("v1"), RECORD, sent=sent)
    (event,) = events(world)
    assert (event.detail, event.bytes) == ("2 manifest requests, 1 checks (HEAD)", IMAGE.size)


async def test_looking_whether_a_blob_is_there_is_no_pull(world: World, recorder: Recorder) -> None:
    await recorder.blob(await asked(world, "HEAD"), LAYER, 200)
    assert events(world) == []
    await recorder.blob(await asked(world), LAYER, 200)
    assert [(event.blobs, event.bytes) for event in events(world)] == [(1, 200)]


@pytest.mark.parametrize("holder", ["password", "token", "nobody"])
async def test_ping_is_a_login_of_who_shows_credentials_of_their_own(
    world: World, recorder: Recorder, holder: str
) -> None:
    header = {"password": ALICE, "token": await world.token(ALICE, Permission.PULL), "nobody": None}[holder]
    request = world.request(header, Permission.PING)
    if header is not None:
        await world.access.admit(request, Permission.PING)
    await recorder.logged_in(request)
    assert [event.action for event in world.audit.events] == [Action.LOGIN] * (holder == "password")


async def test_push_is_one_record_and_one_for_each_tag_that_moved(world: World, recorder: Recorder) -> None:
    recorder.received(await asked(world, "PUT"), 300)
    moves = TagMove(tag("v1"), None), TagMove(tag("v2"), OLD)
    recorder.pushed(await asked(world, "PUT"), NAME, IMAGE.size, published(*moves))
    push, created, moved = events(world)
    assert (push.action, push.reference, push.digest) == (Action.PUSH, NAME, NAME)
    assert (push.blobs, push.bytes, push.status) == (1, 300 + IMAGE.size, 201)
    assert (created.action, created.reference, created.digest, created.previous) == (Action.TAG_MOVE, "v1", NAME, "")
    assert (moved.action, moved.reference, moved.digest, moved.previous) == (Action.TAG_MOVE, "v2", NAME, OLD)


async def test_push_that_attaches_says_to_what(world: World, recorder: Recorder) -> None:
    attached = Published(NAME, IMAGE.media_type, OLD, ())
    recorder.pushed(await asked(world, "PUT"), NAME, IMAGE.size, attached)
    assert [event.detail for event in events(world)] == [f"attached to {OLD}"]


async def test_push_that_fails_is_on_record_with_the_reason(world: World, recorder: Recorder) -> None:
    with pytest.raises(ManifestInvalid):
        async with recorder.attempt(await asked(world, "PUT"), Action.PUSH, reference=tag("v1")):
            raise ManifestInvalid("it is no JSON")
    (event,) = events(world)
    assert (event.action, event.outcome, event.reference) == (Action.PUSH, Outcome.FAILED, "v1")
    assert event.reason == "it is no JSON"


async def test_deleted_manifest_is_on_record_with_its_tags(world: World, recorder: Recorder) -> None:
    gone = TagMove(tag("v1"), NAME), TagMove(tag("v2"), NAME)
    recorder.deleted(await asked(world, "DELETE"), NAME, gone)
    found = [(event.action, event.reference, event.digest, event.previous) for event in events(world)]
    assert found == [
        (Action.MANIFEST_DELETE, "", NAME, ""),
        (Action.TAG_DELETE, "v1", "", NAME),
        (Action.TAG_DELETE, "v2", "", NAME),
    ]


async def test_deleted_tag_is_on_record_with_what_it_was(world: World, recorder: Recorder) -> None:
    recorder.deleted(await asked(world, "DELETE"), tag("v1"), [TagMove(tag("v1"), NAME)])
    found = [(event.action, event.reference, event.previous) for event in events(world)]
    assert found == [(Action.TAG_DELETE, "v1", NAME)]


async def test_what_could_not_be_deleted_is_on_record_as_failed(world: World, recorder: Recorder) -> None:
    with pytest.raises(ManifestUnknown):
        async with recorder.attempt(await asked(world, "DELETE"), Action.TAG_DELETE, reference=tag("v1")):
            raise ManifestUnknown("none")
    with pytest.raises(BlobUnknown):
        async with recorder.attempt(await asked(world, "DELETE"), Action.BLOB_DELETE, digest=LAYER):
            raise BlobUnknown("none")
    assert [(event.action, event.outcome, event.reason) for event in events(world)] == [
        (Action.TAG_DELETE, Outcome.FAILED, "none"),
        (Action.BLOB_DELETE, Outcome.FAILED, "none"),
    ]


async def test_deleted_blob_and_mount(world: World, recorder: Recorder) -> None:
    recorder.unlinked(await asked(world, "DELETE"), Action.BLOB_DELETE, LAYER)
    recorder.mounted(await asked(world, "POST"), LAYER, OTHER)
    deleted, mounted = events(world)
    assert (deleted.action, deleted.status, deleted.digest) == (Action.BLOB_DELETE, 202, LAYER)
    assert (mounted.action, mounted.status, mounted.digest, mounted.source) == (Action.MOUNT, 201, LAYER, OTHER)


# Where nothing may happen off the record


async def test_intent_is_on_record_before_anything_is_done(make: Make) -> None:
    world = make(fail_closed=True)
    recorder = Recorder(world.audit, world.transfers)
    request = await asked(world, "DELETE")
    async with recorder.attempt(request, Action.TAG_DELETE, reference=tag("v1")):
        (intent,) = world.audit.now
        assert (intent.action, intent.outcome, intent.reference) == (Action.TAG_DELETE, Outcome.INTENT, "v1")
    recorder.deleted(request, tag("v1"), [TagMove(tag("v1"), NAME)])
    async with recorder.attempt(request, Action.PUSH, reference=tag("v1")):
        assert [event.action for event in world.audit.now] == [Action.TAG_DELETE, Action.PUSH]
    recorder.pushed(request, tag("v1"), 5, published())
    async with recorder.attempt(request, Action.BLOB_DELETE, digest=LAYER):
        assert world.audit.now[-1].digest == LAYER
    recorder.unlinked(request, Action.BLOB_DELETE, LAYER)
    assert [(event.action, event.outcome) for event in events(world)] == [
        (action, outcome)
        for action in (Action.TAG_DELETE, Action.PUSH, Action.BLOB_DELETE)
        for outcome in (Outcome.INTENT, Outcome.OK)
    ]


async def test_nothing_is_done_that_cannot_be_recorded(make: Make) -> None:
    world = make(fail_closed=True)
    recorder = Recorder(world.audit, world.transfers)
    request = await asked(world, "PUT")
    world.audit.full = True
    for block in (
        recorder.attempt(request, Action.TAG_DELETE, reference=tag("v1")),
        recorder.attempt(request, Action.PUSH, reference=tag("v1")),
        recorder.attempt(request, Action.BLOB_DELETE, digest=LAYER),
    ):
        with pytest.raises(Unavailable):
            async with block:
                pytest.fail("it was done")
    with pytest.raises(Unavailable):
        await recorder.manifest(request, tag("v1"), RECORD, sent=True)
    with pytest.raises(Unavailable):
        await recorder.blob(request, LAYER, 200)
    assert events(world) == []
