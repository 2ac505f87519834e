"""Files and folders for the user alone that Trow runs as, from the moment they are there."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = 0o700
FILE: Final = 0o600


def make_folder(path: Path) -> None:
    """Make a folder where there is none. Raises OSError when that is impossible."""
    path.mkdir(mode=FOLDER, parents=True, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file where there is none. Raises OSError when that is impossible.

    One that is there is not opened: closing it would end the locks that SQLite holds on it in this process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE))


def try_folder(path: Path) -> None:
    """See that something can be put into a folder, or that the folder can be made. Nothing is changed.

    Raises:
        OSError: it cannot, as `make_folder` and what comes after it would say.
    """
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise _error(errno.EEXIST if there == path else errno.ENOTDIR, there)
    _try_access(there, os.W_OK | os.X_OK)


def try_file(path: Path) -> None:
    """The same of a file: that it can be written, or made."""
    if path.exists():
        _try_access(path, os.R_OK | os.W_OK)
    else:
        try_folder(path.parent)


def _try_access(path: Path, mode: int) -> None:
    if not os.access(path, mode):
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        raise _error(errno.EROFS if read_only else errno.EACCES, path)


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
