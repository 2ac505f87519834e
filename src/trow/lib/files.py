"""Files and folders: private to the user that Trow runs as from the moment they exist, durable, of a limited size.

Durable is what was written to a temporary file, flushed, given its name, and whose folder was flushed then: after a
power cut there is the old content or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER: Final = 0o700
FILE: Final = 0o600


class BrokenFile(ValueError):
    """A file cannot be used; the message names it, says why and what to do, and repeats no secret."""


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


def create_file(path: Path, content: bytes) -> None:
    """Make a durable file for the owner alone: all of it or nothing, and never over another one.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be written.
    """
    with _temporary(path, content) as temporary:
        # Unlike a rename, a link fails where another process was faster.
        os.link(temporary, path)
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace the whole content of a file, durably; it keeps its owner and mode. A new one is for its owner alone.

    Raises:
        OSError: it cannot be written; the old content is still there.
    """
    with _temporary(path, content) as temporary:
        with contextlib.suppress(FileNotFoundError):
            old = path.stat()
            with contextlib.suppress(PermissionError):
                os.chown(temporary, old.st_uid, old.st_gid)
            temporary.chmod(old.st_mode & 0o777)
        temporary.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path, content: bytes) -> Iterator[Path]:
    """A flushed file beside ``path``; the name it has for now is gone when the context ends."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a small file.

    Raises:
        BrokenFile: it cannot be read, or has more than ``most`` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BrokenFile(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
    if len(content) > most:
        raise BrokenFile(f"{path} is larger than {most // 1024} KiB; is this the right file?")
    return content


def try_folder(path: Path) -> None:
    """Check that a file can be put into a folder, or that the folder can be made. Nothing is changed.

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
    """Check that a file can be written, or made. Nothing is changed."""
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
