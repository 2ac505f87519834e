"""Records what changes who may do what while the server runs: files that are read again, robot tokens."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from trow.access.identity import Identity
from trow.audit.errors import AuditError
from trow.lib.file_watch import version_of
from trow.oci.errors import OciError
from trow.registry.events import Action, Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trow.lib.file_watch import FileVersion
    from trow.registry.events import AuditLog
    from trow.registry.ports import Outbox

log = logging.getLogger(__name__)


class ConfigurationChanges:
    """Records changed files, and the events that commands have left in the outbox.

    Args:
        paths: files, and directories of files.
    """

    def __init__(self, paths: Sequence[Path], outbox: Outbox, audit: AuditLog) -> None:
        self._paths = paths
        self._outbox = outbox
        self._audit = audit
        self._before = _versions(paths)

    async def look(self) -> None:
        """Look once; call it every second."""
        now = await asyncio.to_thread(_versions, self._paths)
        for name in sorted(now.keys() | self._before.keys()):
            if now.get(name) != self._before.get(name):
                self._audit.record(Event(Action.CONFIGURATION, detail=f"{name} changed"))
        self._before = now
        try:
            events = await self._outbox.pending_events()
            for event in events:
                actor = Identity(event.actor)
                await self._audit.record_now(
                    Event(Action.CONFIGURATION, actor=actor, detail=event.detail, started_at=event.at)
                )
            if events:
                await self._outbox.drop_pending_events(events)
        except (OciError, AuditError):
            log.exception("changes to robot tokens are not on record yet; trying again")


def _versions(paths: Sequence[Path]) -> Mapping[Path, FileVersion]:
    return {file: version_of(file) for path in paths for file in (path, *(path.glob("*") if path.is_dir() else ()))}
