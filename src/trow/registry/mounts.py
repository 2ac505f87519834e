"""Where a mount without a source finds its blob: in any repository that the client may read."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from trow.access.permissions import Permission
from trow.lib.shares import Bounds, Shares
from trow.oci.errors import TooManyRequests, Unavailable
from trow.registry.actor import owner_of

if TYPE_CHECKING:
    from trow.oci.digest import Digest
    from trow.oci.names import Repository
    from trow.registry.actor import Actor
    from trow.registry.ports import Metadata

# How many repositories are looked at for one that the client may read.
CANDIDATES: Final = 100
# A search that finds nothing takes this long, whatever there is.
SEARCH_SECONDS: Final = 0.05
SEARCHES: Final = Bounds(total=64, each=4, waiting=0, waiting_each=0, patience=0.0)


class MountSearch:
    """Finds a repository that has a blob and may be read."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._searches = Shares(SEARCHES, "searches for a blob")

    async def find(self, digest: Digest, actor: Actor) -> Repository | None:
        """A repository that has the blob and that the actor may pull, None where none is found in time.

        That takes the same time whether no repository has the blob, or only those that the client may not read: knowing
        a digest must not tell who has it. A search is optional: when it is refused or fails, the client sends the
        bytes.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + SEARCH_SECONDS
        with contextlib.suppress(TimeoutError, TooManyRequests, Unavailable), self._searches.hold_now(owner_of(actor)):
            async with asyncio.timeout_at(ends):
                for candidate in await self._metadata.repositories_with(digest, CANDIDATES):
                    if await actor.may(Permission.PULL, candidate):
                        return candidate
        await asyncio.sleep(ends - loop.time())
        return None
