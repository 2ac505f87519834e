"""Objects of the API, asked of a server that does what a real one would not do on demand."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.apiserver import Answer, Asked, Lines, ObjectServer
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.errors import BadAnswer, Conflict, Expired, Forbidden, Invalid, KubeRefused, NotFound, TooLarge
from trow.kube.objects import Change, Objects, PatchType, WatchEvent
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

COLLECTION: Final = "/apis/example.com/v1/namespaces/a/colours"
OBJECT: Final = f"{COLLECTION}/red"
SECONDS: Final = 5.0


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer.start() as running:
        yield running


@asynccontextmanager
async def api(
    server: ObjectServer, seconds: float = SECONDS, observe: Callable[[str, float], None] | None = None
) -> AsyncIterator[Objects]:
    client = KubeClient(ClusterAccess(server.url), connect_seconds=seconds, observe=observe)
    try:
        yield Objects(client, seconds=seconds)
    finally:
        await client.close()


def colour(name: str, version: str = "1", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "a", "name": name, "resourceVersion": version}
    return {"apiVersion": "example.com/v1", "kind": "Colour", "metadata": metadata, "spec": spec}


def page(*names: str, version: str = "7", token: str = "") -> Answer:
    metadata = {"resourceVersion": version, "continue": token}
    items = [colour(name) for name in names]
    return Answer({"apiVersion": "example.com/v1", "kind": "ColourList", "metadata": metadata, "items": items})


def status(code: int, message: str = "", reason: str = "") -> Answer:
    return Answer({"kind": "Status", "message": message, "reason": reason, "code": code}, code)


def event(change: str, manifest: dict[str, Any]) -> dict[str, Any]:
    return {"type": change, "object": manifest}


async def watched(server: ObjectServer, seconds: float = SECONDS, term: int = 60) -> list[WatchEvent]:
    async with api(server, seconds) as objects, objects.watch(COLLECTION, "7", seconds=term) as events:
        return [each async for each in events]


# Refusals


@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, KubeRefused), (403, Forbidden), (404, NotFound), (405, KubeRefused), (409, Conflict), (410, Expired),
     (413, KubeRefused), (415, KubeRefused), (422, Invalid)],
)  # fmt: skip
async def test_a_refusal_has_its_kind_and_the_servers_words(
    server: ObjectServer, code: int, kind: type[KubeRefused]
) -> None:
    server.reply = lambda asked: status(code, "spec.red: Invalid value", "Because")
    async with api(server) as objects:
        with pytest.raises(KubeRefused) as caught:
            await objects.apply(OBJECT, colour("red"))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, "Because")
    assert caught.value.message == f"the Kubernetes API server refuses PATCH {OBJECT} ({code}): spec.red: Invalid value"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"message": 1}', b"null"])
async def test_a_refusal_without_words_is_one(server: ObjectServer, body: bytes) -> None:
    server.reply = lambda asked: Answer(body, 403)
    async with api(server) as objects:
        with pytest.raises(Forbidden, match=r"\(403\): no reason is given$"):
            await objects.get(OBJECT)


async def test_an_admission_plugins_refusal_is_not_called_a_missing_right(server: ObjectServer) -> None:
    server.reply = lambda asked: status(403, 'colours "red" is forbidden: exceeded quota: small')
    async with api(server) as objects:
        with pytest.raises(Forbidden, match=r"exceeded quota: small$"):
            await objects.create(COLLECTION, colour("red"))


async def test_long_words_are_cut(server: ObjectServer) -> None:
    server.reply = lambda asked: status(422, "x" * 500_000)
    async with api(server) as objects:
        with pytest.raises(Invalid) as caught:
            await objects.apply(OBJECT, colour("red"))
    assert len(caught.value.message) < 2200


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (status(500, "failed calling webhook"), r"status 500: failed calling webhook; see its log"),
        (Answer(b"", 503), r"status 503; see its log"),
        (status(429, "too many requests"), r"status 429: too many requests; see its log"),
        (status(401, "Unauthorized"), r"own credentials \(401\)"),
        (Answer({}, 302, {"Location": "/elsewhere"}), r"status 302; see its log"),
        (Answer(b"", 204), r"status 204; see its log"),
    ],
)
async def test_troubles_of_the_servers_own_may_pass(server: ObjectServer, answer: Answer, message: str) -> None:
    server.reply = lambda asked: answer
    async with api(server) as objects:
        with pytest.raises(Unavailable, match=message):
            await objects.get(OBJECT)
        with pytest.raises(Unavailable, match=message):
            async with objects.watch(COLLECTION, "7"):
                pass
    assert {asked.path for asked in server.asked} == {OBJECT, COLLECTION}


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b"null", b"[]", b'"text"'])
async def test_what_is_no_object_is_no_answer(server: ObjectServer, body: bytes) -> None:
    server.reply = lambda asked: Answer(body)
    async with api(server) as objects:
        with pytest.raises(BadAnswer, match=OBJECT):
            await objects.get(OBJECT)
        with pytest.raises(BadAnswer, match=COLLECTION):
            await objects.list_all(COLLECTION)


# Requests


@pytest.mark.parametrize(
    "path",
    ["", "/", "/healthz", "api/v1/pods", "/api/v1", "/api/v1/", "/api/v1/pods/", "/api/v1//pods", "/api/v1/pods?x=1",
     "/api/v1/pods/../secrets", "/api/v1/pods/.", "/api/v1/pods/%2e%2e", "/api/v1/pods/a b", "/api/v1/pods#x",
     "/apis/v1/pods/..", "//other.example.com/api/v1/pods", "/api/v1/pods\n", "/api/v1/a/b/c/d/e/f"],
)  # fmt: skip
async def test_what_is_no_path_of_the_api_is_not_asked(server: ObjectServer, path: str) -> None:
    async with api(server) as objects:
        for asking in (objects.get(path), objects.list_all(path), objects.delete(path), objects.apply(path, {})):
            with pytest.raises(ValueError, match="is not the path"):
                await asking
        with pytest.raises(ValueError, match="is not the path"):
            async with objects.watch(path, "7"):
                pass
    assert server.asked == []


async def test_what_is_written_has_its_type_and_its_manager(server: ObjectServer) -> None:
    server.reply = lambda asked: Answer(colour("red"))
    red = colour("red", shade=1)
    async with api(server) as objects:
        await objects.create(COLLECTION, red, dry_run=True)
        await objects.apply(OBJECT, red)
        await objects.apply_status(OBJECT, red)
        await objects.patch(OBJECT, [{"op": "remove", "path": "/spec"}], PatchType.JSON)
        await objects.patch(OBJECT, {"spec": None}, PatchType.MERGE)
        await objects.delete(OBJECT)
    trow, dry, apply = {"fieldManager": "trow"}, {"dryRun": "All"}, "application/apply-patch+yaml"
    assert server.asked == [
        Asked("POST", COLLECTION, trow | dry, "application/json", red),
        Asked("PATCH", OBJECT, trow | {"force": "true"}, apply, red),
        Asked("PATCH", f"{OBJECT}/status", trow | {"force": "true"}, apply, red),
        Asked("PATCH", OBJECT, trow, "application/json-patch+json", [{"op": "remove", "path": "/spec"}]),
        Asked("PATCH", OBJECT, trow, "application/merge-patch+json", {"spec": None}),
        Asked("DELETE", OBJECT, {}, "", None),
    ]


async def test_what_could_be_done_twice_is_not_repeated(server: ObjectServer) -> None:
    server.broken = True
    async with api(server) as objects:
        for asking in (objects.create(COLLECTION, {}), objects.patch(OBJECT, [], PatchType.JSON)):
            with pytest.raises(Unavailable, match=r"may have done (POST|PATCH) /apis\S+ or not"):
                await asking
        assert server.requests.total() == 2
        with pytest.raises(Unavailable, match="without an answer"):
            await objects.apply(OBJECT, {})
        assert server.requests.total() == 4


@pytest.mark.slow
async def test_a_slow_server_is_given_up(server: ObjectServer) -> None:
    server.delay = 30
    began = time.monotonic()
    async with api(server, seconds=0.2) as objects:
        for asking in (objects.get(OBJECT), objects.list_all(COLLECTION), objects.apply(OBJECT, {})):
            with pytest.raises(Unavailable, match=r"does not answer within 0.2 s"):
                await asking
        with pytest.raises(Unavailable, match=r"does not answer within 0.2 s"):
            async with objects.watch(COLLECTION, "7"):
                pass
    assert time.monotonic() - began < 10


async def test_requests_are_observed_by_what_they_do(server: ObjectServer) -> None:
    seen: list[str] = []
    server.reply = lambda asked: page() if asked.path == COLLECTION else Answer(colour("red"))
    async with api(server, observe=lambda operation, seconds: seen.append(operation)) as objects:
        await objects.get(OBJECT)
        await objects.list_all(COLLECTION)
        await objects.apply_status(OBJECT, {})
    assert seen == ["get", "list", "apply"]


# Lists


async def test_pages_are_followed_to_the_end(server: ObjectServer) -> None:
    pages = {"": page("a", "b", token="next/=+&"), "next/=+&": page("c", version="9", token="z"), "z": page("d")}
    server.reply = lambda asked: pages[asked.query.get("continue", "")]
    async with api(server) as objects:
        found = await objects.list_all(COLLECTION, limit=2)
    assert list(found.objects) == [("a", name) for name in "abcd"]
    assert found.version == "7"
    assert [asked.query["limit"] for asked in server.asked] == ["2", "2", "2"]


async def test_a_list_that_takes_too_long_is_begun_anew_by_the_caller(server: ObjectServer) -> None:
    expired = status(410, "The provided continue parameter is too old", "Expired")
    server.reply = lambda asked: expired if "continue" in asked.query else page("a", token="t")
    async with api(server) as objects:
        with pytest.raises(Expired, match="too old"):
            await objects.list_all(COLLECTION)


async def test_a_list_without_end_is_cut(server: ObjectServer) -> None:
    server.reply = lambda asked: page(token="again")
    async with api(server) as objects:
        with pytest.raises(TooLarge, match="1000 pages"):
            await objects.list_all(COLLECTION)
    assert len(server.asked) == 1000


async def test_a_huge_list_is_cut(server: ObjectServer) -> None:
    filled = page("a", token="again").response().body
    assert isinstance(filled, bytes)
    server.reply = lambda asked: Answer(filled + b" " * (15 << 20))
    async with api(server, seconds=30) as objects:
        with pytest.raises(TooLarge, match=f"more than {128 << 20} bytes"):
            await objects.list_all(COLLECTION)
    assert len(server.asked) == 9


async def test_large_objects_are_read_in_smaller_pages(server: ObjectServer) -> None:
    """As if each had 2 MiB."""

    def reply(asked: Asked) -> Answer:
        first, limit = int(asked.query.get("continue", 0)), int(asked.query["limit"])
        last = min(first + limit, 20)
        if last - first > 8:
            return Answer(b" " * (17 << 20))
        return page(*(f"colour-{number}" for number in range(first, last)), token=str(last) if last < 20 else "")

    server.reply = reply
    async with api(server, seconds=30) as objects:
        found = await objects.list_all(COLLECTION)
    assert len(found.objects) == 20
    assert [asked.query["limit"] for asked in server.asked] == ["100", "25", "6", "6", "6", "6"]


async def test_pages_are_so_large_that_reading_one_keeps_nobody_waiting(server: ObjectServer) -> None:
    """As if each had 64 KiB, and further on next to nothing."""

    def reply(asked: Asked) -> Answer:
        first, limit = int(asked.query.get("continue", 0)), int(asked.query["limit"])
        last = min(first + limit, 1000)
        filled = page(*(f"colour-{number}" for number in range(first, last)), token=str(last) if last < 1000 else "")
        body = filled.response().body
        assert isinstance(body, bytes)
        return Answer(body + b" " * (max(0, min(last, 130) - first) << 16))

    server.reply = reply
    async with api(server, seconds=30) as objects:
        found = await objects.list_all(COLLECTION)
    assert len(found.objects) == 1000
    limits = [int(asked.query["limit"]) for asked in server.asked]
    assert limits[0] == 100
    assert {limit << 16 for limit in limits[1:3]} <= {*range(1 << 20)}
    assert max(limits) == 500


async def test_an_object_that_is_too_large_by_itself_is_named(server: ObjectServer) -> None:
    server.reply = lambda asked: Answer(b" " * ((16 << 20) + 1))
    async with api(server, seconds=30) as objects:
        with pytest.raises(TooLarge, match=f"more than {16 << 20} bytes"):
            await objects.list_all(COLLECTION, limit=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"resourceVersion": ""}},
        {"metadata": {"resourceVersion": 7}},
        {"items": {}},
        {"items": [None]},
        {"items": [{}]},
        {"items": [{"metadata": {}}]},
        {"items": [{"metadata": {"name": "", "resourceVersion": "1"}}]},
        {"items": [{"metadata": {"name": "a", "resourceVersion": ""}}]},
        {"items": [{"metadata": {"name": 1, "resourceVersion": "1"}}]},
        {"kind": None},
    ],
)
async def test_a_lie_is_no_list(server: ObjectServer, changes: dict[str, Any]) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": []}
    server.reply = lambda asked: Answer(body | changes)
    async with api(server) as objects:
        with pytest.raises(BadAnswer, match=COLLECTION):
            await objects.list_all(COLLECTION)


async def test_an_empty_list_may_be_null(server: ObjectServer) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": None}
    server.reply = lambda asked: Answer(body)
    async with api(server) as objects:
        assert (await objects.list_all(COLLECTION)).objects == {}


# Watches


async def test_events_come_as_they_are_written(server: ObjectServer) -> None:
    bookmark: dict[str, object] = {"kind": "Colour", "metadata": {"resourceVersion": "12"}}
    told = [
        event("ADDED", colour("red", "8")),
        event("MODIFIED", colour("red", "9", shade=1)),
        event("DELETED", colour("red", "10", shade=1)),
        event("BOOKMARK", bookmark),
    ]
    server.reply = lambda asked: Lines.of(*told)
    assert await watched(server) == [
        WatchEvent(Change.ADDED, ("a", "red"), "8", colour("red", "8")),
        WatchEvent(Change.MODIFIED, ("a", "red"), "9", colour("red", "9", shade=1)),
        WatchEvent(Change.DELETED, ("a", "red"), "10", colour("red", "10", shade=1)),
        WatchEvent(Change.BOOKMARK, ("", ""), "12", bookmark),
    ]
    query = {"watch": "true", "resourceVersion": "7", "allowWatchBookmarks": "true", "timeoutSeconds": "60"}
    assert server.asked == [Asked("GET", COLLECTION, query, "", None)]


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
async def test_lines_may_be_cut_anywhere(server: ObjectServer, size: int) -> None:
    told = b"".join(Lines.of(*(event("ADDED", colour(f"c{each}", str(each + 1))) for each in range(30))).chunks)
    server.reply = lambda asked: Lines(tuple(told[at : at + size] for at in range(0, len(told), size)))
    assert [each.version for each in await watched(server)] == [str(number) for number in range(1, 31)]


async def test_half_a_line_is_no_event(server: ObjectServer) -> None:
    whole = Lines.of(event("ADDED", colour("red", "8")), event("ADDED", colour("blue", "9")))
    server.reply = lambda asked: Lines((*whole.chunks[:1], whole.chunks[1][:-1]))
    assert [each.version for each in await watched(server)] == ["8"]


async def test_a_line_of_some_megabytes_is_read_and_an_endless_one_is_not(server: ObjectServer) -> None:
    server.reply = lambda asked: Lines.of(event("ADDED", colour("red", "8", text="x" * (4 << 20))))
    assert [each.version for each in await watched(server, seconds=20)] == ["8"]
    server.reply = lambda asked: Lines((b"x" * (1 << 20),) * 64, "stay")
    with pytest.raises(TooLarge, match=f"a line of more than {8 << 20} bytes"):
        await watched(server, seconds=20)


@pytest.mark.parametrize("told", ["line", "status"])
async def test_an_old_version_is_told_apart(server: ObjectServer, told: str) -> None:
    said = {"kind": "Status", "message": "too old resource version: 7 (8)", "reason": "Expired", "code": 410}
    server.reply = lambda asked: Lines.of(event("ERROR", said)) if told == "line" else Answer(said, 410)
    with pytest.raises(Expired, match=r"too old resource version: 7 \(8\)"):
        await watched(server)


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ({"code": 403, "message": "no more"}, Forbidden, "no more"),
        ({"code": 500, "message": "etcd event received"}, Unavailable, "breaks off the watch of .*: etcd event"),
        ({}, Unavailable, "no reason is given"),
        ([], Unavailable, "no reason is given"),
        ({"code": "410"}, Unavailable, "no reason is given"),
    ],
)
async def test_another_error_ends_a_watch(
    server: ObjectServer, said: object, kind: type[Exception], message: str
) -> None:
    server.reply = lambda asked: Lines.of({"type": "ERROR", "object": said}, ending="stay")
    with pytest.raises(kind, match=message):
        await watched(server)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"<html>\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b"[]\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": null}\n',
        b'{"type": "ADDED", "object": []}\n',
        b'{"type": "ADDED", "object": {}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "8"}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}\n',
        b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": ""}}}\n',
        b'{"type": "RENAMED", "object": {"metadata": {"name": "a", "resourceVersion": "8"}}}\n',
        b'{"type": 1, "object": {}}\n',
        b'{"type": "ADDED", "object": {' + b'"a": {' * 50_000 + b"\n",
    ],
)
async def test_a_lie_is_no_event(server: ObjectServer, line: bytes) -> None:
    server.reply = lambda asked: Lines((line,), "stay")
    with pytest.raises(BadAnswer, match=COLLECTION):
        await watched(server)


async def test_a_watch_that_breaks_is_told_after_its_events(server: ObjectServer) -> None:
    server.reply = lambda asked: Lines.of(event("ADDED", colour("red", "8")), ending="break")
    seen: list[str] = []

    async def follow(objects: Objects) -> None:
        async with objects.watch(COLLECTION, "7") as events:
            async for each in events:
                seen.append(each.version)  # noqa: PERF401 - it ends with an error

    async with api(server) as objects:
        with pytest.raises(Unavailable, match="breaks off its answer"):
            await follow(objects)
    assert seen == ["8"]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [(), (b'{"type": "ADD',)], ids=["silence", "half a line"])
async def test_a_silent_watch_is_given_up_soon_after_its_term(server: ObjectServer, chunks: tuple[bytes, ...]) -> None:
    server.reply = lambda asked: Lines(chunks, "stay")
    began = time.monotonic()
    with pytest.raises(Unavailable, match="silent for too long"):
        await watched(server, seconds=0.3, term=1)
    assert 1.2 < time.monotonic() - began < 10


async def test_a_watch_that_is_left_ends_its_connection_and_does_not_count(server: ObjectServer) -> None:
    red = Lines.of(event("ADDED", colour("red", "8")), ending="stay")
    server.reply = lambda asked: red if asked.watch else Answer(colour("red"))
    async with api(server) as objects:
        for _ in range(40):
            async with objects.watch(COLLECTION, "7") as events:
                assert (await anext(events)).key == ("a", "red")
                assert await objects.get(OBJECT)
    assert server.busiest < 20


async def test_many_watches_leave_room_for_requests(server: ObjectServer) -> None:
    red = Lines.of(event("ADDED", colour("red", "8")), ending="stay")
    server.reply = lambda asked: red if asked.watch else Answer(colour("red"))

    async def nested(objects: Objects, depth: int) -> None:
        async with objects.watch(COLLECTION, "7") as events:
            await anext(events)
            await (nested(objects, depth - 1) if depth else objects.get(OBJECT))

    async with api(server) as objects:
        await nested(objects, 40)
    assert server.busiest > 40
