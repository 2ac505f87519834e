"""Notices when open files were moved, so that the next start would not find them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)


class DisplacementWatch:
    """Logs when files or folders in use are moved, deleted or replaced, and when they are back.

    Args:
        displaced: functions that name those which are not in their place.
    """

    def __init__(self, *displaced: Callable[[], Sequence[Path]]) -> None:
        self._displaced = displaced
        self._before: Sequence[Path] = ()

    async def look(self) -> None:
        """Look once; call it every second."""
        now = await asyncio.to_thread(lambda: [path for find in self._displaced for path in find()])
        paths = {"paths": [str(path) for path in now]}
        if now and now != self._before:
            log.error(
                "files in use were moved or replaced: changes are refused; put them back, or restart", extra=paths
            )
        if self._before and not now:
            log.warning("files in use are back in their place: changes are accepted")
        self._before = now


async def require_in_place(displaced: Callable[[], Sequence[Path]]) -> None:
    """Raises `Unavailable` when something was moved."""
    if await asyncio.to_thread(displaced):
        raise Unavailable("it was moved or replaced while it is in use; put it back, or restart Trow")
