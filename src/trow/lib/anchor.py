"""Whether a path still leads to the file or folder that is in use.

A file that is renamed or deleted goes on working for whoever has it open. What is written to it then is answered like
everything else, and gone after the next start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Linux: names a file and opens nothing, so that closing it ends no locks that SQLite holds on it (fcntl(2)).
_ONLY_THE_NAME: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC


class Anchor:
    """Remembers what a path leads to. Its file is kept from being freed, so that no other gets its number."""

    def __init__(self, path: Path) -> None:
        """Remember. Raises OSError where there is nothing."""
        self.path = path
        self._fd = os.open(path, _ONLY_THE_NAME)
        self._identity = _identity(os.fstat(self._fd))

    def holds(self) -> bool:
        """Whether the path still leads to it. Asks the filesystem, which may block."""
        try:
            return _identity(self.path.stat()) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Stop remembering."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def anchors_of_database(path: Path) -> list[Anchor]:
    """Those of an SQLite database in use: of its file, its log and the log's index.

    The latter are there from the first transaction to the end, and lie beside the file itself where the path is a
    symbolic link. Raises OSError where one is missing.
    """
    real = path.resolve()
    return [Anchor(path), *(Anchor(real.with_name(real.name + suffix)) for suffix in ("-wal", "-shm"))]


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
