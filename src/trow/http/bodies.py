"""Bodies that are held in memory: each has a limit, and so have all of them together."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.lib.source import source_of
from trow.oci.errors import BodyTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from trow.http.request import Request
    from trow.lib.shares import Shares
    from trow.oci.errors import OciError

# Nearly all bodies are not larger. They need no place, so that slow ones do not delay them; a client that has sent this
# much costs hardly more than one that has sent nothing.
FREE: Final = 4 * 1024


@dataclass(frozen=True, slots=True)
class Tier:
    """Places for bodies that are larger than ``above`` bytes."""

    above: int
    places: Shares


class Bodies:
    """Receives bodies.

    Args:
        most: how many bytes one may have.
        too_large: makes the error for a larger one.
        tiers: in which one needs a place; the smallest first.
        seconds: how long one may take to arrive, beside the limits of every body; None: only those.
    """

    def __init__(
        self, most: int, too_large: Callable[[], OciError], tiers: Sequence[Tier], *, seconds: float | None = None
    ) -> None:
        self._most = most
        self._too_large = too_large
        self._tiers = tuple(tiers)
        self._seconds = seconds

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body; a large one has a place of its source until the end of the block.

        Raises:
            OciError: it is too large.
            BodyTimeout: it does not come.
            TooManyRequests, Unavailable: there is no place for another large one.
        """
        if (request.content_length or 0) > self._most:
            raise self._too_large()
        async with contextlib.AsyncExitStack() as places:
            try:
                async with asyncio.timeout(self._seconds):
                    body = await self._read(request, places)
            except TimeoutError:
                raise BodyTimeout(f"the body did not come within {self._seconds:g} seconds; send it again") from None
            yield body

    async def _read(self, request: Request, places: contextlib.AsyncExitStack) -> bytes:
        body = bytearray()
        async for piece in request.body():
            for tier in self._tiers:
                if len(body) <= tier.above < len(body) + len(piece):
                    await places.enter_async_context(tier.places.hold(source_of(request.client)))
            body += piece
            if len(body) > self._most:
                raise self._too_large()
        return bytes(body)
