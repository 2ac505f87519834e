"""Bytes that no blob has any more: removed when nobody reads them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.registry.ports import Blobs, Metadata

# Longer than a client takes from being told where a blob is to asking for it there.
GRACE_SECONDS: Final = 6 * 3600.0
_AT_ONCE: Final = 100


class Leftovers:
    """The locations that the metadata has doomed.

    Args:
        clock: seconds since 1970, as the metadata has it.
    """

    def __init__(self, blobs: Blobs, metadata: Metadata, clock: Callable[[], float] = time.time) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._clock = clock

    async def remove(self) -> int:
        """Remove the bytes whose grace is over, then what the metadata has of them; returns how many.

        A crash in between, or another replica that does the same, leaves nothing wrong: no location gets another blob.

        Raises:
            Unavailable: some are left for the next time.
        """
        count = 0
        while locations := await self._metadata.doomed(self._clock() - GRACE_SECONDS, _AT_ONCE):
            for location in locations:
                await self._blobs.delete(location)
            await self._metadata.forget_doomed(locations)
            count += len(locations)
        return count
