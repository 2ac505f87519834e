"""Threads that are there before they are needed.

A thread that is started for a request may fail to start: containers limit how many there are. So all of them are
started when the program starts, where a failure is told to who can change it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


class ThreadsError(Exception):
    """The system does not allow another thread; the message says what to do."""


def start_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a thread that does not keep the program from ending.

    Raises:
        ThreadsError: the system refuses.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise _refused() from None
    return thread


def started_pool(count: int, name: str) -> ThreadPoolExecutor:
    """A pool of ``count`` threads, all of which run.

    Raises:
        ThreadsError: the system refuses this many.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    # A pool starts a thread when none is idle: these are not, until all of them are there.
    everybody = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(everybody.wait)
    except RuntimeError:
        everybody.abort()
        pool.shutdown(cancel_futures=True)
        raise _refused() from None
    everybody.wait()
    return pool


def require_threads(count: int) -> None:
    """See that this many more could be started, by a library that ends the process when it cannot.

    Raises:
        ThreadsError: the system would refuse.
    """
    started_pool(count, "trow-room").shutdown()


def _refused() -> ThreadsError:
    return ThreadsError(
        f"the system lets Trow have no more than its {threading.active_count()} threads;"
        " raise the limit of processes and threads (the container's pids limit, ulimit -u)"
    )


async def aside(work: Callable[[], _Result]) -> _Result:
    """Have something done by a thread of its own, which nobody waits for once the caller has given up.

    Other than the threads of a pool it keeps no program from ending: a file system or a name server may be silent.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("_Result", result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - the caller's
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    start_thread(run, "trow-aside")
    return await future
