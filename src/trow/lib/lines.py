"""Lines for a pipe, a terminal or a file, written by a thread of their own, so that the caller never waits.

A pipe that nobody reads, a stopped terminal and a disk that hangs make a write wait endlessly. Then only the thread
waits; lines beyond a limit are dropped and counted, and when it goes on one line tells how many.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Final

from trow.lib.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING_BYTES: Final = 4 * 1024 * 1024
# How many lines of the frequent kind may wait, so that there is room for the few that report trouble.
_SHARE_OF_BULK: Final = 0.75
_LOOK_MILLISECONDS: Final = 200


class LineWriter:
    """Writes lines to a file descriptor. Lines may come from any thread.

    Args:
        fd: where they go; it stays open.
        dropped: words the line that tells of dropped ones.
        most_bytes: how many may wait.

    Attributes:
        dropped: how many lines were dropped since the start.

    Raises:
        ThreadsError: the system refuses the thread.
    """

    def __init__(self, fd: int, dropped: Callable[[int], bytes], most_bytes: int = MOST_WAITING_BYTES) -> None:
        self._fd = fd
        self._tell = dropped
        self._most = most_bytes
        self._ready = threading.Condition()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._untold = 0
        self.dropped = 0
        self._closing = False
        self._torn = False
        self._thread = start_thread(self._work, "trow-log")

    def put(self, lines: bytes, count: int = 1, *, bulk: bool = False) -> None:
        """Add whole lines, to be written.

        Args:
            lines: each with its line break.
            count: how many they are.
            bulk: there are many of their kind; others go first when there is little room.
        """
        with self._ready:
            room = self._most * _SHARE_OF_BULK if bulk else self._most
            if self._closing or self._bytes + len(lines) > room:
                self._drop(count)
                return
            self._bytes += len(lines)
            self._lines.append(lines)
            self._ready.notify()

    def close(self, patience: float) -> None:
        """Write what waits, for at most this many seconds; lines that come later are dropped."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(patience)

    def _drop(self, count: int) -> None:
        self._untold += count
        self.dropped += count

    # ---- in the thread

    def _work(self) -> None:
        ending = False
        while not ending:
            with self._ready:
                self._ready.wait_for(lambda: self._lines or self._closing or (self._untold and not self._torn))
                lines, self._lines = self._lines, []
                untold, self._untold = self._untold, 0
                ending = not lines and self._closing
            content = b"".join(lines)
            before = b"\n" if self._torn else b""
            try:
                # What was dropped came after what was waiting then.
                write_all(self._fd, before + content + (self._tell(untold) if untold else b""))
                self._torn = False
            except OSError:  # such as a full disk: these lines are lost, the next ones may fare better
                self._torn = True  # the last line may have been cut off
            with self._ready:
                self._bytes = sum(map(len, self._lines))
                if self._torn:
                    self._untold += untold
                    self._drop(content.count(b"\n"))


def write_all(fd: int, content: bytes) -> None:
    """Write everything, however long that takes.

    The descriptor itself is written to: a thread that is stuck in a buffered stream keeps the process from ending,
    because the interpreter flushes these last.

    Raises:
        OSError: not everything was written.
    """
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # another program has made the stream so
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll(_LOOK_MILLISECONDS)
