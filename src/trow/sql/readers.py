"""Pages of lists are read in threads of their own: they may be long, and the event loop is for deciding."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Final, TypeVar

from trow.lib.threads import started_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

Result = TypeVar("Result")

# Reading is a matter of the processor, and the interpreter has one at a time; the second is for who reads little.
_THREADS: Final = 2


class Readers:
    """Connections that read, each with a thread. Whose turn it is has been decided before (`trow.http.handlers.lists`).

    Args:
        connect: opens a connection. All are opened at once, so that they are to the file that is there now.

    Raises:
        ThreadsError: the system refuses the threads.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._threads = started_pool(_THREADS, "trow-lists")
        self._connections: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for _ in range(_THREADS):
            self._connections.put(connect())

    async def read(self, work: Callable[[apsw.Connection], Result]) -> Result:
        """Do something with a connection, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    def _read(self, work: Callable[[apsw.Connection], Result]) -> Result:
        connection = self._connections.get_nowait()  # there is one for each thread
        try:
            return work(connection)
        finally:
            self._connections.put(connection)

    def close(self) -> None:
        """Wait for what is being read, and close the connections."""
        self._threads.shutdown()
        while not self._connections.empty():
            self._connections.get_nowait().close()
