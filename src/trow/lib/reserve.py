"""Space on a volume that is kept for deletes, which free space.

A delete has to write before it frees anything. On a volume that is full it could not, and nothing but a larger volume
would help. So some space is taken by a file beforehand and given back when a delete finds none. From then on everything
that would fill it again is refused, until the file could be made again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from trow.lib import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_BLOCK: Final = 512
_PART: Final = 16
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """The file. May be used from any thread.

    Where there is no space for it from the beginning, things go on without it: it helps only when it is there.

    Args:
        path: the file, on the volume in question; None for none.
        size: how many bytes are kept, or a sixteenth of the volume if that is less; 0 for none.

    Attributes:
        spent: whether the space was given back and is not there again.
    """

    def __init__(self, path: Path | None = None, size: int = 0) -> None:
        self._path = path if size else None
        self._size = size
        self._lock = threading.Lock()
        if path is not None and not size:
            path.unlink(missing_ok=True)
        # An empty file was left by a run that needed the space.
        self.spent = self._path is not None and self._path.exists() and not self._path.stat().st_size
        if not self.take() and not self.spent:
            log.warning("there is no space for the reserve for deletes; a volume that gets full stays so")

    @property
    def missing(self) -> bool:
        """Whether the space is in use for deletes and not there again; takes it again when it is free."""
        return self.spent and not self.take()

    def take(self) -> bool:
        """Take the space, unless that is done; False when there is not enough."""
        with self._lock:
            if self._path is not None and not self._allocate(self._path):
                return False
            if self.spent:
                log.warning("there is space again: the reserve for deletes is back, and pushes are taken")
            self.spent = False
            return True

    def give_back(self) -> bool:
        """Give the space back for deletes; False when there is none to give."""
        with self._lock:
            if self._path is None or self.spent or not self._path.exists():
                return False
            with contextlib.suppress(OSError), self._open(self._path) as fd:
                os.ftruncate(fd, 0)
                os.fsync(fd)  # some filesystems free space with their next commit only
            self.spent = True
            log.warning("the volume is full: deletes use the reserve, and pushes are refused until there is space")
            return True

    def _allocate(self, path: Path) -> bool:
        try:
            with self._open(path) as fd:
                state, volume = os.fstat(fd), os.fstatvfs(fd)
                size = min(self._size, volume.f_blocks * volume.f_frsize // _PART)
                if state.st_size != size or state.st_blocks * _BLOCK < size:
                    os.ftruncate(fd, 0)
                    os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # A part of the space would help nobody. An empty file tells the next start that it is in use.
            with contextlib.suppress(OSError):
                os.truncate(path, 0)
                if not self.spent:
                    path.unlink()
            return error.errno not in _FULL  # a filesystem that cannot do it has no reserve, and that is all
        return True

    @staticmethod
    @contextlib.contextmanager
    def _open(path: Path) -> Iterator[int]:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.FILE)
        try:
            yield fd
        finally:
            os.close(fd)


def has_room(path: Path, size: int) -> bool:
    """Whether a start has the reserve, which this does not make: its file holds it, or there is space for it."""
    if not size or (path.exists() and path.stat().st_size):
        return True
    folder = next(each for each in path.parents if each.exists())
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize >= min(size, volume.f_blocks * volume.f_frsize // _PART)
