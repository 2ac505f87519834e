"""Files of credentials that are read again when they change."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
_GONE: Final = (-1, -1, -1)
Value = TypeVar("Value")
Signature: TypeAlias = tuple[tuple["Path", tuple[int, int, int]], ...]


class BrokenFile(ValueError):
    """A file of credentials cannot be used; the message names it, says why and what to do, and repeats no secret."""


class Watched(Generic[Value]):
    """A value that files hold.

    A new version that cannot be used is told of once, and the last good one stays in force: a slip of the editor
    must not lock everybody out.

    Args:
        find: names the files, at each look.
        read: makes the value of them, and raises `BrokenFile` where it cannot.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Path]],
        read: Callable[[Sequence[Path]], Value],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._read = read
        self._clock = clock
        self._looked_at = clock()
        paths = find()
        # The files are looked at before they are read: a change in between is seen at the next look.
        self._seen = _signature(paths)
        self._value = read(paths)

    def get(self, at_most_old: float = _LOOK_EVERY) -> Value:
        """The value as of at most so many seconds ago."""
        now = self._clock()
        if now - self._looked_at >= at_most_old:
            self._looked_at = now
            self._look()
        return self._value

    def _look(self) -> None:
        paths = self._find()
        seen = _signature(paths)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._value = self._read(paths)
        except BrokenFile as error:
            log.error("a new version of a file is not used, the last good one stays in force", extra=_why(error))  # noqa: TRY400 - the file is to blame, no line of ours
        else:
            log.info("a file was read again", extra={"files": [str(path) for path in paths]})


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
