"""`trow fsck` for a configuration."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE, hold, require_registry, was_used
from trow.metadata.inventory import SqliteInventory
from trow.registry.fsck import Fsck
from trow.registry.fsck import FsckReport as FsckReport  # noqa: PLC0414 - part of what this package offers
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.config import Config


def fsck(config: Config, *, quarantine: bool, progress: Callable[[str], None]) -> FsckReport:
    """Read everything that is stored and hold it against its digest.

    Args:
        config: whose data directory to check.
        quarantine: move what is damaged to ``quarantine/``; then no server may use the directory.
        progress: told now and then how far the check has come.

    Raises:
        DataDirectoryError: the check cannot run.
    """
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    held = hold(config.data_dir) if quarantine else contextlib.nullcontext()
    with held, contextlib.closing(SqliteInventory(config.data_dir / DATABASE)) as inventory:
        check = Fsck(FilesystemBlobs(config.data_dir), inventory, progress, quarantine=quarantine)
        return asyncio.run(check.run())
