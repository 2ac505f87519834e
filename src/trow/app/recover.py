"""`trow recover` for a configuration: a new database in place of a damaged one."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE, hold, require_registry, was_used
from trow.lib.errors import StartError
from trow.lib.files import make_folder, sync_folder
from trow.metadata.salvage import Salvaged as Salvaged  # noqa: PLC0414 - part of what this package offers
from trow.metadata.salvage import salvage
from trow.sql.engine import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trow.config import Config


def recover(config: Config) -> tuple[Sequence[Salvaged], Path]:
    """Copy what can be read into a new database and put it in place of the damaged one.

    Returns:
        What became of each table, and the folder where the damaged database is now.

    Raises:
        StartError: there is no registry, or it cannot be done, and nothing was changed; the message says what to do.
    """
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    with hold(config.data_dir):
        path, new = config.data_dir / DATABASE, config.data_dir / f"{DATABASE}.recovered"
        if not path.exists():
            raise StartError(f"{path} is missing; put it back from a backup, or start with trow serve --new-database")
        new.unlink(missing_ok=True)
        try:
            tables = salvage(path, new)
            kept = _keep(path)
        except (DatabaseError, OSError) as error:
            new.unlink(missing_ok=True)
            raise StartError(f"{path} cannot be recovered: {error}; put it back from a backup") from error
        _exchange(path, new, kept)
        return tables, kept


def _keep(path: Path) -> Path:
    """The damaged database under a second name; returns the folder where it is."""
    kept = path.parent / "quarantine" / f"database-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    make_folder(kept)
    os.link(path, kept / path.name)
    return kept


def _exchange(path: Path, new: Path, kept: Path) -> None:
    """Its log goes away first, lest it is taken for one of the new database. There always is a database."""
    for suffix in ("-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept / part.name)
    new.replace(path)
    sync_folder(kept)
    sync_folder(path.parent)
