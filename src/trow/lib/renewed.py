"""What a file says, for those who use it now and then and have to have it as it is by then."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Value = TypeVar("Value")


class Renewed(Generic[Value]):
    """What a file says, read again when the file is another one.

    Args:
        path: the file.
        read: makes the value of its content.
        most: how many bytes of it are read.
    """

    def __init__(self, path: Path, read: Callable[[bytes], Value], most: int) -> None:
        self._path = path
        self._read = read
        self._most = most
        self._known: tuple[tuple[int, int, int], Value] | None = None

    async def get(self) -> Value:
        """The value by now, looked for beside the event loop.

        Raises:
            OSError: the file cannot be read.
            Exception: what ``read`` raises.
        """
        return await asyncio.to_thread(self._look)

    def _look(self) -> Value:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            known = self._known
            if known is None or known[0] != seen:
                known = self._known = seen, self._read(file.read(self._most))
            return known[1]
