"""Threads that all uploads share."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from support.core import Stalled, pieces
from support.waiting import eventually
from trow.lib.shares import Bounds, Shares
from trow.lib.threads import ThreadsError, require_threads, started_pool
from trow.oci.errors import Unavailable
from trow.storage.disk import DiskThreads
from trow.storage.workers import FanOut, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 4


@pytest.fixture
def workers() -> Iterator[WorkerPool]:
    with contextlib.closing(WorkerPool(THREADS)) as workers:
        yield workers


class Blocked:
    """Work that a thread cannot end until it is told to: a disk that does not answer."""

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Event()

    def __call__(self, _: bytes) -> None:
        self.begun += 1
        self.go_on.wait(30)


async def test_each_work_has_all_chunks_in_order(workers: WorkerPool) -> None:
    async def upload(number: int) -> None:
        chunks = [b"%d:%d" % (number, at) for at in range(200)]
        hashed: list[bytes] = []
        written: list[bytes] = []
        await FanOut([hashed.append, written.append], workers, f"user {number % 3}").run(pieces(*chunks))
        assert hashed == written == chunks

    await asyncio.gather(*map(upload, range(20)))
    assert (workers.places.working, workers.places.waiting) == (0, 0)


async def test_no_upload_waits_for_threads_that_have_ended(workers: WorkerPool) -> None:
    blocked, written = Blocked(), list[bytes]()
    before = [asyncio.create_task(FanOut([blocked] * 2, workers, str(n)).run(pieces(b"a", b"b"))) for n in range(6)]
    await eventually(lambda: blocked.begun == THREADS)
    workers.close()
    blocked.go_on.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*before)
        await FanOut([written.append], workers, "late").run(pieces(b"a", b"b"))
    assert (blocked.begun, written) == (6 * 2 * 2, [b"a", b"b"])


async def test_uploads_that_wait_for_bytes_hold_no_thread(workers: WorkerPool) -> None:
    before = threading.active_count()
    bodies = [Stalled(b"first", b"rest") for _ in range(100)]
    done: list[bytes] = []
    slow = [asyncio.create_task(FanOut([done.append], workers, "user slow").run(body)) for body in bodies]
    await eventually(lambda: len(done) == 100)
    assert threading.active_count() == before
    assert workers.places.working == 0
    await FanOut([done.append], workers, "user slow").run(pieces(b"quick"))
    assert done[-1] == b"quick"
    for body in bodies:
        body.go_on.set()
    await asyncio.gather(*slow)
    assert done.count(b"rest") == 100


async def test_one_owner_leaves_places_to_others(workers: WorkerPool) -> None:
    slow, done = Blocked(), list[bytes]()
    slow.go_on.set()
    greedy = [asyncio.create_task(FanOut([slow], workers, "user greedy").run(pieces(*[b"x"] * 9))) for _ in range(50)]
    await asyncio.sleep(0)
    assert workers.places.waiting >= 40
    await FanOut([done.append], workers, "user other").run(pieces(b"a", b"b"))
    assert done == [b"a", b"b"]
    assert workers.places.waiting > 0, "the other one did not wait for all of the first"
    await asyncio.gather(*greedy)


async def test_a_chunk_that_no_thread_takes_is_refused_and_the_others_are_not_lost(
    workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "places", Shares(Bounds(1, 1, 9, 9, 0.05), "uploads"))
    stuck = Blocked()
    first = asyncio.create_task(FanOut([stuck], workers, "user a").run(pieces(b"x")))
    await eventually(lambda: stuck.begun == 1)
    done: list[bytes] = []
    with pytest.raises(Unavailable):
        await FanOut([done.append], workers, "user b").run(pieces(b"y"))
    assert done == []
    stuck.go_on.set()
    await first
    await FanOut([done.append], workers, "user b").run(pieces(b"y"))
    assert done == [b"y"]
    assert workers.places.working == 0


@pytest.mark.parametrize(
    "make", [WorkerPool, DiskThreads, partial(started_pool, 9, "test"), partial(require_threads, 9)]
)
@pytest.mark.parametrize("most", [0, 2])
def test_threads_that_the_system_refuses_stop_the_start_and_leave_none(
    make: Callable[[], object], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(started) == most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadsError, match="raise the limit"):
        make()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


async def test_disk_work_of_one_owner_leaves_threads_to_others() -> None:
    with contextlib.closing(DiskThreads()) as disk:
        go_on = threading.Event()
        long = [asyncio.create_task(disk.run("user greedy", lambda: go_on.wait(30))) for _ in range(20)]
        await asyncio.sleep(0)
        assert await disk.run("user other", lambda: "done") == "done"
        go_on.set()
        assert await asyncio.gather(*long) == [True] * 20


async def test_disk_work_is_over_when_its_request_was_cancelled() -> None:
    with contextlib.closing(DiskThreads()) as disk:
        begun, go_on, done = threading.Event(), threading.Event(), list[str]()

        def work() -> None:
            begun.set()
            go_on.wait(30)
            done.append("done")

        task = asyncio.create_task(disk.run("user a", work))
        await eventually(begun.is_set)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == ["done"]
