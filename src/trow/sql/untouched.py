"""An SQLite database that is looked at without a change to any of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import apsw

if TYPE_CHECKING:
    from pathlib import Path

_BUSY_MILLISECONDS: Final = 5_000


def open_untouched(path: Path) -> apsw.Connection:
    """Open a database for reading, for whoever keeps others from writing to it meanwhile.

    An ordinary connection makes a log where there is none, and its end writes a log that was left by a crash into the
    database. Where there is a log, this one has the log's index in its own memory (exclusive locking mode,
    https://www.sqlite.org/wal.html, section 8) and leaves the log as it is.

    Raises:
        apsw.Error: there is none, or it cannot be opened.
    """
    real = path.resolve()
    log = real.with_name(f"{real.name}-wal")
    if not log.exists() or not log.stat().st_size:
        address = f"file:{quote(str(real))}?immutable=1"
        return apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection = apsw.Connection(str(real), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA query_only = ON")
    return connection
