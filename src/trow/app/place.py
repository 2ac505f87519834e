"""Watches that what is open is what the next start would find."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)


class Place:
    """Looks where files and folders in use are.

    Args:
        looks: each names those that were moved, deleted or replaced.
    """

    def __init__(self, *looks: Callable[[], Sequence[Path]]) -> None:
        self._looks = looks
        self._missed: Sequence[Path] = ()

    async def look(self) -> None:
        """Look once, and log what has changed; call it every second."""
        missed = await asyncio.to_thread(lambda: [path for look in self._looks for path in look()])
        names = {"paths": [str(path) for path in missed]}
        if missed and missed != self._missed:
            log.error("what is in use was moved or replaced: changes are refused; put it back, or restart", extra=names)
        if self._missed and not missed:
            log.warning("what is in use is where it belongs again: changes are taken")
        self._missed = missed


async def check(look: Callable[[], Sequence[Path]]) -> None:
    """Raises `Unavailable` when something was moved."""
    if await asyncio.to_thread(look):
        raise Unavailable("it was moved or replaced while it is in use; put it back, or restart Trow")
