"""A copy of a certificate that the cluster keeps, so that a start does not have to wait for the API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from trow.lib.files import make_folder, replace_file
from trow.tls.authority import Leaf

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path


class CertificateCopy:
    """Certificate and key in one file, which is read and written beside the event loop.

    Args:
        path: the file.
        names: what the certificate has to cover.
        load: has the listener take up the file.

    Attributes:
        expires: when the certificate ends, in seconds since 1970; 0 without one.
    """

    def __init__(self, path: Path, names: Sequence[str], load: Callable[[], Awaitable[None]]) -> None:
        self.expires = 0.0
        self._path = path
        self._names = names
        self._load = load
        self._loaded = b""

    async def restore(self) -> None:
        """Have the listener take up what the last run has left, if it is still good."""
        with contextlib.suppress(OSError, ValueError):
            found = await asyncio.to_thread(self._path.read_bytes)
            leaf = Leaf.read(found, found)
            if leaf.end > time.time() and leaf.covers(self._names):
                await self._load()
                self._loaded, self.expires = leaf.pem, leaf.end

    async def install(self, leaf: Leaf) -> None:
        """Have the listener show this certificate from now on.

        Raises:
            OSError: it cannot be written.
        """
        if leaf.pem == self._loaded:
            return
        await asyncio.to_thread(self._write, leaf.pem)
        await self._load()
        self._loaded, self.expires = leaf.pem, leaf.end

    def _write(self, content: bytes) -> None:
        make_folder(self._path.parent)
        replace_file(self._path, content)
