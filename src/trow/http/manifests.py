"""Manifests as they arrive: each is in memory as a whole until it is stored."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from trow.lib.shares import Bounds, Shares
from trow.lib.source import source_of
from trow.oci.errors import ManifestTooLarge
from trow.oci.manifest import LARGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.http.request import Request

# Of those over 64 KiB, which hardly any image has.
_BOUNDS: Final = Bounds(total=8, each=2, waiting=256, waiting_each=32, patience=30)


class ManifestBodies:
    """Receives manifests.

    Args:
        most_bytes: how large one may be.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.large: Final = Shares(_BOUNDS, "large manifests")

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The manifest; a large one has a place of its source until the end of the block.

        Raises:
            ManifestTooLarge: it is larger than any may be.
            TooManyRequests, Unavailable: there is no place for another large one.
        """
        if (request.content_length or 0) > self._most_bytes:
            raise self._too_large()
        body = bytearray()
        async with contextlib.AsyncExitStack() as place:
            async for piece in request.body():
                if len(body) <= LARGE < len(body) + len(piece):
                    await place.enter_async_context(self.large.hold(source_of(request.client)))
                body += piece
                if len(body) > self._most_bytes:
                    raise self._too_large()
            yield bytes(body)

    def _too_large(self) -> ManifestTooLarge:
        return ManifestTooLarge(f"the manifest is larger than {self._most_bytes} bytes (registry.max_manifest_size)")
