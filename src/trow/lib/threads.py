"""Threads that are there before they are needed.

A thread that is started for a request may fail to start: containers limit how many there are. So all of them are
started when the program starts, where a failure is told to who can change it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ThreadsError(Exception):
    """The system lets a thread not be started; the message says what to do."""


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
