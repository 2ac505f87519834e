"""Files of credentials that are read again when they change."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from trow.lib.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
_MOMENT: Final = 0.1
_GONE: Final = (-1, -1, -1)
Value = TypeVar("Value")
Signature: TypeAlias = tuple[tuple["Path", tuple[int, int, int]], ...]


class BrokenFile(ValueError):
    """A file of credentials cannot be used; the message names it, says why and what to do, and repeats no secret."""


class FileWatcher(Generic[Value]):
    """A value that files hold. They are looked at by whoever calls `look`; `get` asks no filesystem.

    A new version that cannot be used is told of once, and the last good one stays in force: a slip of the editor
    must not lock everybody out.

    Args:
        find: names the files, at each look.
        read: makes the value of them, and raises `BrokenFile` where it cannot.
    """

    def __init__(self, find: Callable[[], Sequence[Path]], read: Callable[[Sequence[Path]], Value]) -> None:
        self._find = find
        self._read = read
        self._looking = threading.Lock()
        self._looks: SingleFlight[None] = SingleFlight()
        self._looked_at = time.monotonic()
        paths = find()
        # The files are looked at before they are read: a change in between is seen at the next look.
        self._seen = _signature(paths)
        self._value = read(paths)

    def get(self) -> Value:
        """The value as of the last look."""
        return self._value

    async def look_soon(self) -> None:
        """Look beside the event loop, unless that was done a moment ago or is under way."""
        if time.monotonic() - self._looked_at >= _MOMENT:
            await self._looks.share(b"", lambda: asyncio.to_thread(self.look))

    def look(self) -> None:
        """Take over what has changed. Asks the filesystem, which may make a thread wait."""
        with self._looking:
            paths = self._find()
            seen = _signature(paths)
            if seen != self._seen:
                self._seen = seen
                self._take(paths)
            self._looked_at = time.monotonic()

    def _take(self, paths: Sequence[Path]) -> None:
        try:
            self._value = self._read(paths)
        except BrokenFile as error:
            log.error("a new version of a file is not used, the last good one stays in force", extra=_why(error))  # noqa: TRY400 - the file is to blame, no line of ours
        else:
            log.info("a file was read again", extra={"files": [str(path) for path in paths]})


async def keep_fresh(*looks: Callable[[], None]) -> None:
    """Look every second, beside the event loop, for ever."""
    while True:
        for look in looks:
            await asyncio.to_thread(look)
        await asyncio.sleep(_LOOK_EVERY)


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a small file.

    Raises:
        BrokenFile: it cannot be read, or is not small.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BrokenFile(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if len(content) > most:
        raise BrokenFile(f"{path} is larger than {most // 1024} KiB; is this the right file?")
    return content


def _signature(paths: Sequence[Path]) -> Signature:
    return tuple((path, _facts(path)) for path in paths)


def _facts(path: Path) -> tuple[int, int, int]:
    try:
        facts = os.stat(path)  # noqa: PTH116 - a Path would only wrap it, and this runs every second
    except OSError:
        return _GONE
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _why(error: BrokenFile) -> dict[str, str]:
    return {"reason": str(error)}
