"""What runs beside the server goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from trow.lib.background import every, restarting

if TYPE_CHECKING:
    import pytest


async def test_what_fails_is_begun_again_and_what_ends_too(caplog: pytest.LogCaptureFixture) -> None:
    turns = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise RuntimeError("nobody has thought of this")
        if turns == 2:
            return
        done.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(restarting(work, 0.001))
    await asyncio.wait_for(done.wait(), 20)
    assert [each.message for each in caplog.records] == ["a background task failed and is started again"]
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert turns == 3


async def test_periodic_work_goes_on_after_it_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    turns = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            raise RuntimeError("the database does not answer")
        done.set()

    task = asyncio.create_task(every(0.001, work, pause=0.002)())
    await asyncio.wait_for(done.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [each.message for each in caplog.records] == ["a periodic task failed; trying again in 0.002 s"]
