"""Large documents of clients are parsed beside the event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from trow.oci.manifest import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class DocumentReader:
    """Parses small documents at once and large ones in a thread.

    One large document at a time: parsing takes the processor, in whatever thread.
    """

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(1)

    async def read(self, content: bytes, parse: Callable[[bytes], Result]) -> Result:
        """What ``parse`` makes of a document; raises what that raises."""
        if len(content) <= LARGE:
            return parse(content)
        async with self._large:
            return await asyncio.to_thread(parse, content)
