"""The listener for webhooks, whose certificate may come after the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.oci.errors import Unavailable
from trow.tls.terminator import TlsTerminator

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from trow.tls.files import TlsFiles
    from trow.tls.inner_socket import InnerSocket
    from trow.tls.terminator import ConnectionLimit


class WebhookListener:
    """Takes connections from the first certificate on, and shows a renewed one from the next connection on.

    Args:
        files: certificate and key; they may come later.
        limit: how many connections there may be.
    """

    def __init__(self, files: TlsFiles, limit: ConnectionLimit) -> None:
        self.files = files
        self.terminator = TlsTerminator(files, limit=limit)
        self._sockets: Sequence[socket.socket] = ()
        self._upstream: InnerSocket | None = None
        self._listening = False

    def bind(self, sockets: Sequence[socket.socket], upstream: InnerSocket) -> None:
        """Say on which bound sockets to listen, and where the HTTP server is."""
        self._sockets, self._upstream = sockets, upstream

    async def load(self) -> None:
        """Take up the files as they are now, which are read beside the event loop.

        Raises:
            OSError, ValueError: they cannot be used; the certificate before stays.
        """
        await self.terminator.reload()
        if not self._listening and self._upstream is not None:
            for each in self._sockets:
                self.terminator.start(each, self._upstream)
            self._listening = True

    async def check(self) -> None:
        """Whether the API server can call.

        Raises:
            Unavailable: there was no certificate yet.
        """
        if not self._listening:
            raise Unavailable("there is no certificate for the webhooks yet; see the log for why")
