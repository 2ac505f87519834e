"""`trow fsck` for a configuration."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trow.fsck import Check
from trow.fsck import FsckReport as FsckReport  # noqa: PLC0414 - part of what this package offers
from trow.lib.datadir import DATABASE, hold, require_registry, was_used
from trow.sql.connections import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.config import Config


@in_words()
def fsck(config: Config, *, quarantine: bool, progress: Callable[[str], None]) -> FsckReport:
    """Read everything that is stored and hold it against its digest.

    Args:
        config: whose data directory to check.
        quarantine: move what is damaged to ``quarantine/``; then no server may use the directory.
        progress: told now and then how far the check has come.

    Raises:
        DataDirectoryError, DatabaseError: the check cannot run.
    """
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    with hold(config.data_dir) if quarantine else contextlib.nullcontext():
        return Check(config.data_dir, config.data_dir / DATABASE, progress).run(quarantine=quarantine)
