"""Where the HTTP server behind our own TLS listeners is: a Unix socket that nobody else on the machine can open.

The server tells of each request the name that the other end of its connection has. A connection of ours gets a name
that is used once and cannot be guessed, so that it says for certain which connection a request came by. An address of
the network could not: whoever connects from it would be taken for whoever had it before.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# In memory: connections are taken when a disk is full, too. The kernel wants short paths (unix(7): 108 bytes).
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder made in it has a name of its own and is private
_PREFIX: Final = "trow-http-"
_SOCKET: Final = "socket"
_NAME_BYTES: Final = 16


class InnerSocket:
    """A socket for one HTTP server, and names for connections to it.

    Args:
        folder: nobody else may enter it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / _SOCKET

    def __str__(self) -> str:
        return str(self.path)

    def new_name(self) -> str:
        """A name for a connection; there was none and will be none like it."""
        return str(self._folder / secrets.token_hex(_NAME_BYTES))

    def connect(self, name: str) -> socket.socket:
        """Connect to the server, which will see this name.

        Raises:
            OSError: it takes no connection now.
        """
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.setblocking(False)
            connection.bind(name)
            os.unlink(name)  # noqa: PTH108 - the connection keeps its name, and the folder stays empty
            connection.connect(str(self.path))
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def inner_socket() -> Iterator[InnerSocket]:
    """A socket in a folder of its own, which goes in the end.

    Raises:
        OSError: no folder can be made.
    """
    base = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for left in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # a process that holds its folder is alive
            descriptor = _open(left)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(descriptor)
    folder, held = _held_folder(base)
    try:
        yield InnerSocket(folder)
    finally:
        _remove(folder)
        os.close(held)


def _held_folder(base: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that says that it is in use."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))  # for its owner alone
        held = _open(folder)
        fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)  # another process that starts has taken it for one that was left


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _remove(folder: Path) -> None:
    """What holds anything but a socket is none of ours and stays."""
    with contextlib.suppress(OSError):
        socket_file = folder / _SOCKET
        if socket_file.is_socket():
            socket_file.unlink()
        folder.rmdir()
