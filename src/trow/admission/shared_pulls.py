"""What replicas tell each other of the pulls that they have allowed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.access.identity import Identity
    from trow.admission.ports import AllowedPulls
    from trow.oci.digest import Digest
    from trow.oci.names import Repository, Tag

# Replicas learn of changed policies one after the other; what one allowed meanwhile may be by the old ones.
_SETTLING_SECONDS: Final = 5.0
# Digests that are remembered; what was allowed first is forgotten first, and decided again.
_MOST_ROWS: Final = 100_000


class SharedPulls:
    """Pulls by tag that any replica has allowed, for those of the digests that follow.

    Args:
        rows: where replicas tell each other.
        seconds: for how long a pull counts.
        clock: seconds since 1970.
    """

    def __init__(self, rows: AllowedPulls, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._seconds = seconds
        self._clock = clock
        self._rules_since = 0.0

    def rules_changed(self) -> None:
        """What was allowed until now does not count any more."""
        self._rules_since = self._clock()

    async def find(self, identity: Identity, repository: Repository, digest: Digest) -> Tag | None:
        """The tag by which a digest was allowed to somebody, by the policies of now. Raises Unavailable."""
        found = await self._rows.allowed_pull(identity.name, repository, digest)
        earliest = max(self._clock() - self._seconds, self._rules_since + _SETTLING_SECONDS)
        return found[0] if found is not None and found[1] >= earliest else None

    async def tell(self, identity: Identity, repository: Repository, digests: Sequence[Digest], tag: Tag) -> None:
        """Let the other replicas know; where that cannot be, they decide for themselves."""
        with contextlib.suppress(Unavailable):
            await self._rows.add_allowed_pulls(identity.name, repository, digests, tag, self._clock())

    async def drop_old(self) -> None:
        """Forget what is past; call it every minute. Raises Unavailable."""
        await self._rows.drop_allowed_pulls(self._clock() - self._seconds, _MOST_ROWS)
