"""The directory that a running registry owns alone, or together with its replicas.

The directory itself and ``trow.lock`` in it are held (flock(2)) while a server or a repairing ``trow fsck`` runs: a
file can be deleted, and some network file systems lock no directories. ``trow.running`` is there from start to clean
stop: finding it at start tells of a crash, after which staged bytes cannot be trusted and are cleared away.

Nobody else on the machine may read what is here. A group may where that is meant: Kubernetes gives a volume to a Pod's
``fsGroup`` (setgid, and writable by the group), and an administrator may let a group read who keeps the others out.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import stat
import time
from typing import TYPE_CHECKING, Final

from trow.lib.errors import StartError
from trow.lib.files import FILE, make_file, make_folder, try_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)

_ROOT: Final = 0
DATABASE: Final = "trow.db"
# Tells that the metadata is on a server, and which one: its database has the same name for the directory.
IDENTITY: Final = "trow.registry"
_LOCK: Final = "trow.lock"
# A replica has a shared directory alone while it clears away what a crash has left.
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.05
# Beside what is named after the program or its trail, and what file systems bring.
_FOLDERS: Final = frozenset({"blobs", "uploads", "quarantine", "keys", "lost+found"})
_PREFIXES: Final = ("trow.", "audit.", ".")


class DataDirectoryError(StartError):
    """The directory cannot be used; the message says why and what to do."""


def require_registry(path: Path, *, embedded: bool = True) -> None:
    """Check that a registry's data is there, before a command changes it.

    Nothing is made: what a command wrote into another directory than the server's would never be seen again.

    Args:
        path: the data directory.
        embedded: whether the command is for a database that is there too, and not on a server.

    Raises:
        DataDirectoryError: it is not there.
    """
    if is_of_a_server(path):
        if embedded:
            raise DataDirectoryError(
                f"the metadata of {path.absolute()} is in PostgreSQL; give the --config that trow serve has"
            )
        return
    try:
        (path / DATABASE).stat()
    except PermissionError:
        raise DataDirectoryError(f"{path.absolute()} cannot be read; run this as the user that trow runs as") from None
    except OSError:
        raise DataDirectoryError(
            f"there is no registry in {path.absolute()} ({DATABASE} is missing); give the --data-dir or the --config "
            "that trow serve has, which makes the data at its first start"
        ) from None


class Hold:
    """A directory that is held.

    Attributes:
        alone: whether no other process has it.
    """

    def __init__(self, files: Sequence[int]) -> None:
        self._files = files
        self.alone = True

    def share(self) -> None:
        """Let further replicas in."""
        self._lock(fcntl.LOCK_SH)
        self.alone = False

    def try_alone(self) -> bool:
        """Have it alone again, where no other replica has it; those that start have to wait."""
        self.alone = self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self.alone

    def _lock(self, how: int) -> bool:
        """Whether all files are locked so; those of file systems without locks count as locked."""
        return all(_flock(file, how, unsupported=True) for file in self._files)


def is_of_a_server(path: Path) -> bool:
    """Whether the directory belongs to a registry whose metadata is on a server."""
    with contextlib.suppress(PermissionError):
        return (path / IDENTITY).exists() and not (path / DATABASE).exists()
    return False


@contextlib.contextmanager
def hold(path: Path, *, shared: bool = False) -> Iterator[Hold]:
    """Own the directory while the context lasts, and keep others out of it.

    Args:
        path: the directory.
        shared: own it together with other replicas. The first one has it alone until it calls `Hold.share`.

    Raises:
        DataDirectoryError: it cannot be written, belongs to another user, has another purpose, or is in use.
    """
    try:
        make_folder(path)
        _check_owner(path)
        _check_purpose(path)
        fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE)
    except OSError as error:
        raise DataDirectoryError(f"cannot write to {path}: {error.strerror}; give another --data-dir") from None
    with contextlib.ExitStack() as stack:
        held = _lock(path, fd, stack, shared=shared)
        _close_to_others(path)
        yield held


@contextlib.contextmanager
def try_to_hold(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Check whether `hold` would succeed, and keep others out while the context lasts; nothing is made or changed.

    Raises:
        DataDirectoryError: as `hold` would.
    """
    with contextlib.ExitStack() as stack:
        try:
            if path.is_dir():
                _check_owner(path)
                _check_purpose(path)
            try_folder(path)
            with contextlib.suppress(FileNotFoundError):  # then nobody holds it
                fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
                held = _lock(path, fd, stack, shared=shared)
                if shared:
                    held.share()
        except OSError as error:
            raise DataDirectoryError(f"cannot write to {path}: {error.strerror}; give another --data-dir") from None
        yield


def _lock(path: Path, fd: int, stack: contextlib.ExitStack, *, shared: bool) -> Hold:
    """Keep others out until the end of the stack, which also closes the file."""
    stack.callback(os.close, fd)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, folder)
    held, end = Hold((fd, folder)), time.monotonic() + _PATIENCE_SECONDS
    while not _lock_both(fd, folder, fcntl.LOCK_EX):
        if shared and _lock_both(fd, folder, fcntl.LOCK_SH):
            held.alone = False
            break
        if not shared or time.monotonic() > end:
            raise DataDirectoryError(f"{path} is in use by another trow; stop it or give another --data-dir")
        time.sleep(_PAUSE_SECONDS)  # another replica, which has it alone for a moment while it starts or stops
    return held


def _lock_both(fd: int, folder: int, how: int) -> bool:
    return _flock(fd, how | fcntl.LOCK_NB, unsupported=False) and _flock(folder, how | fcntl.LOCK_NB, unsupported=True)


def _flock(fd: int, how: int, *, unsupported: bool) -> bool:
    """Whether we hold the lock; ``unsupported`` is the answer where the file system has no locks."""
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError:
        return unsupported
    return True


def is_open_to_others(path: Path) -> bool:
    """Whether other users may read what is in the directory; a start takes that from them."""
    return path.exists() and any(_open_to_others(path))


def was_used(path: Path) -> bool:
    """Whether a registry has been here: it has left blobs, or an audit trail; not where that cannot be seen."""
    trail = path / "audit.db"
    with contextlib.suppress(PermissionError):
        return (trail.exists() and trail.stat().st_size > 0) or any((path / "blobs").glob("*/*/*"))
    return False


def _check_owner(path: Path) -> None:
    """A directory of root is one too: volumes belong to root, and root can read everything anyway."""
    found = path.stat()
    shared = bool(found.st_mode & stat.S_IWGRP) and found.st_gid in {os.getegid(), *os.getgroups()}
    if shared or found.st_uid in {os.geteuid(), _ROOT}:
        return
    raise DataDirectoryError(
        f"{path} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}: run trow as its owner, "
        f"or change the owner (chown -R {os.geteuid()} {path})"
    )


def _check_purpose(path: Path) -> None:
    """Closing a directory that is for something else too, such as /tmp or /, would take that away from everybody."""
    if (path / DATABASE).exists() or was_used(path) or not path.stat().st_mode & _unwanted(path):
        return
    names = (each.name for each in path.iterdir())
    if other := sorted(name for name in names if name not in _FOLDERS and not name.startswith(_PREFIXES)):
        raise DataDirectoryError(
            f"{path.absolute()} is not the directory of a registry: it holds {', '.join(other[:3])}, and others may "
            "read it, while a registry closes its directory to them; give --data-dir a directory of its own"
        )


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _close_to_others(path: Path) -> None:
    """Whatever made the directory, a copy, an older version, may have let everybody read it.

    What is in the folders below is out of reach with them.
    """
    unwanted, closed = _unwanted(path), []
    for each in _open_to_others(path):
        try:
            each.chmod(stat.S_IMODE(each.stat().st_mode) & ~unwanted)
            closed.append(each.name)
        except OSError as error:
            log.warning("others can read %s, which cannot be changed: %s", each, error.strerror)
    if closed:
        log.warning(
            "others could read the data directory; it is closed to them now",
            extra={"data_dir": str(path), "changed": closed},
        )
    if path.stat().st_mode & stat.S_IWOTH:
        log.warning(
            "everybody may write to the data directory, and only its owner can change that: chmod o-rwx, or give "
            "the Pod an fsGroup",
            extra={"data_dir": str(path)},
        )


def _unwanted(path: Path) -> int:
    """The permissions to take away; a group keeps its own where the directory is meant for it."""
    mode = path.stat().st_mode
    by_kubelet = mode & stat.S_ISGID and mode & stat.S_IWGRP
    by_hand = mode & stat.S_IRWXG and not mode & stat.S_IRWXO
    return stat.S_IRWXO if by_kubelet or by_hand else stat.S_IRWXO | stat.S_IRWXG


def _open_to_others(path: Path) -> Iterator[Path]:
    """What is ours of the directory and of what lies in it, and others may do something with."""
    unwanted = _unwanted(path)
    for each in (path, *sorted(path.iterdir())):
        found = each.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & unwanted:
            yield each


class RunningMark:
    """Tells the next start how this run ended."""

    def __init__(self, path: Path) -> None:
        self._path = path / "trow.running"

    def found(self) -> bool:
        """Whether the last run did not end cleanly."""
        return self._path.exists()

    def set(self) -> None:
        """Note that a run has begun."""
        make_file(self._path)

    def clear(self) -> None:
        """Note that the run has ended well. Where that cannot be written, the next start recovers as after a crash."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
