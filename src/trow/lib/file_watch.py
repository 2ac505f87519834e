"""Files that are read again when they change.

A file has changed when it was replaced, written to, or given other permissions. That is known without reading it.
Symbolic links are followed: Kubernetes replaces the files of a Secret by exchanging one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, Self, TypeAlias, TypeVar

from trow.lib.files import BrokenFile
from trow.lib.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
_MOMENT: Final = 0.1
_Value = TypeVar("_Value")
FileVersion: TypeAlias = tuple[int, int, int, int]
MISSING: Final[FileVersion] = (-1, -1, -1, -1)


def version_of(path: Path) -> FileVersion:
    """What differs from one version of a file to the next; `MISSING` where nothing can be seen."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path would only wrap it, and this runs every second
    except OSError:
        return MISSING
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class FileWatcher(Generic[_Value]):
    """A value that is read from files. `look` looks at them; `get` asks no filesystem.

    A new version that cannot be used is logged once, and the last good one stays in force: a mistake in the file
    must not lock everybody out.

    Args:
        find: names the files, at each look.
        read: makes the value of them, and raises `BrokenFile` where it cannot.
    """

    def __init__(self, find: Callable[[], Sequence[Path]], read: Callable[[Sequence[Path]], _Value]) -> None:
        self._find = find
        self._read = read
        self._looking = threading.Lock()
        self._looks: SingleFlight[None] = SingleFlight()
        self._looked_at = time.monotonic()
        paths = find()
        # The files are looked at before they are read: a change in between is seen at the next look.
        self._seen = _versions(paths)
        self._value = read(paths)

    def get(self) -> _Value:
        """The value as of the last look."""
        return self._value

    async def look_soon(self) -> None:
        """Look beside the event loop, unless that was done a moment ago or is under way."""
        if time.monotonic() - self._looked_at >= _MOMENT:
            await self._looks.share(b"", lambda: asyncio.to_thread(self.look))

    def look(self) -> None:
        """Read the files again if they have changed. Asks the filesystem, which may block."""
        with self._looking:
            paths = self._find()
            seen = _versions(paths)
            if seen != self._seen:
                self._seen = seen
                try:
                    self._value = self._read(paths)
                    log.info("a file was read again", extra={"files": [str(path) for path in paths]})
                except BrokenFile as error:
                    why = {"reason": str(error)}
                    log.error("a new version of a file is not used, the last good one stays in force", extra=why)  # noqa: TRY400 - the file is to blame, no line of ours
            self._looked_at = time.monotonic()


async def keep_fresh(*looks: Callable[[], None]) -> None:
    """Look every second, beside the event loop, until cancelled."""
    while True:
        for look in looks:
            await asyncio.to_thread(look)
        await asyncio.sleep(_LOOK_SECONDS)


class CurrentFile(Generic[_Value]):
    """The value of a file that is used now and then: always that of its present version.

    Args:
        path: the file.
        read: makes the value of its content.
        most: how many bytes of it are read.
    """

    def __init__(self, path: Path, read: Callable[[bytes], _Value], most: int) -> None:
        self._path = path
        self._read = read
        self._most = most
        self._known: tuple[FileVersion, _Value] | None = None

    async def get(self) -> _Value:
        """The value of the present version; the file is read beside the event loop.

        Raises:
            OSError: the file cannot be read.
            Exception: what ``read`` raises.
        """
        return await asyncio.to_thread(self._look)

    def _look(self) -> _Value:
        version, known = version_of(self._path), self._known
        if known is None or known[0] != version:
            with self._path.open("rb") as file:
                known = self._known = version, self._read(file.read(self._most))
        return known[1]


class FileChanges:
    """The changes of files since this object was made. Make it before the files are read, so that none is missed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._seen = _versions(paths)

    @classmethod
    async def since_now(cls, paths: Sequence[Path]) -> Self:
        """Look at the files for the first time, beside the event loop."""
        return await asyncio.to_thread(cls, paths)

    async def follow(self, take: Callable[[], Awaitable[None]], seconds: float = 5.0) -> None:
        """Call ``take`` whenever the files have changed, until cancelled; it looks now and every ``seconds``.

        A failure of ``take`` is logged, and nothing is read while one of the files is missing.
        """
        files = {"files": [str(path) for path in self._paths]}
        while True:
            now = await asyncio.to_thread(_versions, self._paths)
            if now != self._seen and all(version != MISSING for _, version in now):
                self._seen = now
                try:
                    await take()
                    log.info("files were read again", extra=files)
                except Exception:
                    log.exception("the new version of files cannot be used; the old one stays", extra=files)
            await asyncio.sleep(seconds)


def _versions(paths: Sequence[Path]) -> Sequence[tuple[Path, FileVersion]]:
    return [(path, version_of(path)) for path in paths]
