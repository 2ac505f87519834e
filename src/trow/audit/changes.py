"""Records what changes who may do what while the server runs: files that are read again, robot tokens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, TypeAlias

from trow.access.identity import Identity
from trow.audit.errors import AuditError
from trow.oci.errors import OciError
from trow.registry.events import Action, Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trow.registry.events import Audit
    from trow.registry.ports import Outbox

    # Time of the last change, size and inode of each file.
    Stamps: TypeAlias = Mapping[str, tuple[int, int, int]]

log = logging.getLogger(__name__)


class ConfigurationChanges:
    """Records changed files, and the events that commands have left in the outbox.

    Args:
        paths: files, and directories of files.
    """

    def __init__(self, paths: Sequence[Path], outbox: Outbox, audit: Audit) -> None:
        self._paths = paths
        self._outbox = outbox
        self._audit = audit
        self._before = _stamps(paths)

    async def look(self) -> None:
        """Look once; call it every second."""
        now = await asyncio.to_thread(_stamps, self._paths)
        for name in sorted(now.keys() | self._before.keys()):
            if now.get(name) != self._before.get(name):
                self._audit.record(Event(Action.CONFIGURATION, detail=f"{name} changed"))
        self._before = now
        try:
            await self._empty_outbox()
        except (OciError, AuditError):
            log.exception("changes to robot tokens are not on record yet; trying again")

    async def _empty_outbox(self) -> None:
        events = await self._outbox.pending_events()
        for event in events:
            actor = Identity(event.actor)
            await self._audit.record_now(
                Event(Action.CONFIGURATION, actor=actor, detail=event.detail, started_at=event.at)
            )
        if events:
            await self._outbox.drop_pending_events(events)


def _stamps(paths: Sequence[Path]) -> Stamps:
    stamps = {}
    for file in (file for path in paths for file in (path, *(path.glob("*") if path.is_dir() else ()))):
        with contextlib.suppress(OSError):
            stat = file.stat()
            stamps[str(file)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return stamps
