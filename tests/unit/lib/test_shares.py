from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from trow.lib.shares import Bounds, Shares
from trow.oci.errors import TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def shares(total: int = 2, each: int = 1, waiting: int = 4, waiting_each: int = 2, patience: float = 60) -> Shares:
    return Shares(Bounds(total, each, waiting, waiting_each, patience), "checks")


class Work:
    """Pieces of work that hold a place until they are told to end."""

    def __init__(self, places: Shares) -> None:
        self.places = places
        self.began: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str) -> None:
        """A name is the source and a number: a1, a2, b1."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks.append(asyncio.create_task(self._work(name), name=name))
            await settle()

    def release(self, name: str) -> None:
        self._ends[name].set()

    async def end(self, name: str) -> None:
        self.release(name)
        await settle()

    async def _work(self, name: str) -> None:
        async with self.places.hold(name[0]):
            self.began.append(name)
            await self._ends[name].wait()

    def refused(self) -> dict[str, type[BaseException]]:
        return {
            task.get_name(): type(error)
            for task in self.tasks
            if task.done() and not task.cancelled() and (error := task.exception()) is not None
        }


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await test()
        finally:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    asyncio.run(whole())


def test_no_more_are_at_work_than_there_are_places() -> None:
    async def test() -> None:
        work = Work(shares(total=2))
        await work.ask("a1", "b1", "c1")
        assert work.began == ["a1", "b1"]
        await work.end("a1")
        assert work.began == ["a1", "b1", "c1"]
        assert (work.places.working, work.places.waiting) == (2, 0)

    run(test)


def test_a_source_holds_no_more_than_its_share_though_places_are_free() -> None:
    async def test() -> None:
        work = Work(shares(total=3, each=1))
        await work.ask("a1", "a2", "b1")
        assert work.began == ["a1", "b1"]
        await work.end("a1")
        assert work.began == ["a1", "b1", "a2"]

    run(test)


def test_sources_that_wait_have_their_turns() -> None:
    async def test() -> None:
        work = Work(shares(total=1, each=1, waiting=9, waiting_each=9))
        await work.ask("a1", "b1", "b2", "b3", "c1")
        for name in ("a1", "b1", "c1", "b2"):
            await work.end(name)
        assert work.began == ["a1", "b1", "c1", "b2", "b3"]

    run(test)


def test_a_source_with_too_many_that_wait_is_over_its_limit() -> None:
    async def test() -> None:
        work = Work(shares(total=1, waiting=9, waiting_each=2))
        await work.ask("a1", "a2", "a3", "a4", "b1")
        assert work.refused() == {"a4": TooManyRequests}

    run(test)


def test_in_a_full_queue_the_newest_of_whoever_waits_most_gives_way() -> None:
    async def test() -> None:
        work = Work(shares(total=1, waiting=3, waiting_each=3))
        await work.ask("x1", "a1", "a2", "a3", "b1")
        assert work.refused() == {"a3": TooManyRequests}
        assert work.places.waiting == 3

    run(test)


def test_a_full_queue_of_equals_refuses_who_comes_last() -> None:
    async def test() -> None:
        work = Work(shares(total=1, waiting=2, waiting_each=2))
        await work.ask("x1", "a1", "b1", "c1")
        assert work.refused() == {"c1": Unavailable}

    run(test)


def test_waiting_has_an_end() -> None:
    async def test() -> None:
        places = shares(total=1, patience=0)
        async with places.hold("a"):
            with pytest.raises(Unavailable):
                async with places.hold("b"):
                    pass
        assert (places.working, places.waiting) == (0, 0)

    run(test)


def test_who_goes_in_the_moment_of_its_turn_passes_it_on() -> None:
    async def test() -> None:
        work = Work(shares(total=1))
        await work.ask("a1", "b1", "c1")
        work.release("a1")
        work.tasks[1].cancel()
        await settle()
        assert work.began == ["a1", "c1"]
        await work.end("c1")
        assert (work.places.working, work.places.waiting) == (0, 0)

    run(test)


def test_a_place_can_be_given_back_elsewhere() -> None:
    async def test() -> None:
        work = Work(shares(total=1))
        await work.places.take("a")
        await work.ask("b1")
        assert (work.places.working, work.began) == (1, [])
        work.places.give_back("a")
        await settle()
        assert work.began == ["b1"]

    run(test)


def test_who_goes_while_waiting_leaves_nothing_behind() -> None:
    async def test() -> None:
        work = Work(shares(total=1))
        await work.ask("a1", "b1")
        work.tasks[1].cancel()
        await work.end("a1")
        assert (work.places.working, work.places.waiting) == (0, 0)

    run(test)


def test_a_place_given_to_one_that_goes_in_the_same_moment_is_not_lost() -> None:
    async def test() -> None:
        places = shares(total=1)
        work = Work(places)
        async with places.hold("a"):
            await work.ask("b1")
        work.tasks[0].cancel()  # the place is given, and the task has not run since
        await settle()
        assert (work.began, places.working) == ([], 0)

    run(test)


def test_a_place_comes_back_after_a_failure() -> None:
    async def test() -> None:
        places = shares()
        with contextlib.suppress(ZeroDivisionError):
            async with places.hold("a"):
                raise ZeroDivisionError
        assert places.working == 0

    run(test)


def test_without_waiting_a_source_over_its_share_is_told_so_and_others_that_all_is_full() -> None:
    places = shares(total=2, each=1, waiting=0, waiting_each=0)
    with places.hold_now("a"):
        with pytest.raises(TooManyRequests), places.hold_now("a"):
            pass
        with places.hold_now("b"), pytest.raises(Unavailable), places.hold_now("c"):
            pass
    assert places.working == 0


async def test_several_places_are_taken_at_once_or_not_at_all() -> None:
    shares = Shares(Bounds(total=4, each=4, waiting=8, waiting_each=8, patience=5), "reads")
    assert await shares.take("a", 3) == 3
    large = asyncio.ensure_future(shares.take("b", 2))
    small = asyncio.ensure_future(shares.take("c"))
    await asyncio.sleep(0)
    assert (large.done(), shares.working) == (False, 4), "what is small may pass what has to wait"
    shares.give_back("a", 3)
    assert (await large, await small, shares.working) == (2, 1, 3)


async def test_more_places_than_a_share_are_all_of_the_share() -> None:
    shares = Shares(Bounds(total=4, each=3, waiting=8, waiting_each=8, patience=5), "reads")
    assert await shares.take("a", 100) == 3
    shares.give_back("a", 3)
    assert shares.working == 0


async def test_places_that_come_free_together_are_given_to_all_that_they_suffice_for() -> None:
    shares = Shares(Bounds(total=4, each=4, waiting=8, waiting_each=8, patience=5), "reads")
    await shares.take("a", 4)
    waiting = [asyncio.ensure_future(shares.take(source)) for source in "bcd"]
    await asyncio.sleep(0)
    shares.give_back("a", 4)
    assert await asyncio.gather(*waiting) == [1, 1, 1]
