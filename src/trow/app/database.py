"""A start never takes the remains of a registry for an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE, DataDirectoryError, was_used
from trow.metadata.store import SCHEMA
from trow.sql.connections import is_empty
from trow.sql.engine import DamagedError

if TYPE_CHECKING:
    from pathlib import Path


def check_database(directory: Path, *, new: bool) -> None:
    """See whether the database is there that belongs to what else is in the directory.

    Args:
        directory: the data directory, held.
        new: whether an empty database is wanted in place of one that is lost.

    Raises:
        DataDirectoryError: it is lost or damaged; the message says what to do.
    """
    path = directory / DATABASE
    try:
        lost = is_empty(path, SCHEMA)
    except DamagedError as error:
        raise DataDirectoryError(damaged(path, error)) from None
    if lost and not new and was_used(directory):
        what = "holds nothing" if path.exists() else "is missing"
        raise DataDirectoryError(
            f"{path} {what}, although a registry was here: put the database back from a backup, or begin with an empty "
            f"one (trow serve --new-database); docs/how-to/recover.md has both"
        )


def damaged(path: Path, error: DamagedError) -> str:
    """What to do about a database that cannot be read."""
    return (
        f"{path} is damaged ({error}): trow fsck says what is lost, and docs/how-to/recover.md how to get the rest back"
    )
