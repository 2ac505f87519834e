"""The directory that a running registry owns alone.

``trow.lock`` is held (flock(2)) while a server or a repairing ``trow fsck`` runs. ``trow.running`` is there from start
to clean stop: finding it at start tells of a crash, after which staged bytes cannot be trusted and are cleared away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DataDirectoryError(Exception):
    """The directory cannot be used; the message says why and what to do."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Own the directory while the context lasts.

    Raises:
        DataDirectoryError: it cannot be written, or another process owns it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        fd = os.open(path / "trow.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise DataDirectoryError(f"cannot write to {path}: {error.strerror}; give another --data-dir") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise DataDirectoryError(f"{path} is in use by another trow; stop it or give another --data-dir") from None
    try:
        yield
    finally:
        os.close(fd)


class RunningMark:
    """Tells the next start how this run ended."""

    def __init__(self, path: Path) -> None:
        self._path = path / "trow.running"

    def found(self) -> bool:
        """Whether the last run never came to its end."""
        return self._path.exists()

    def set(self) -> None:
        """Note that a run has begun."""
        self._path.touch()

    def clear(self) -> None:
        """Note that it has ended well. Where that cannot be written, the next start clears up as after a crash."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
