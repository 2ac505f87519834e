"""Trow's own token for the API server."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.lib.file_watch import CurrentFile
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from trow.kube.access import TokenSource

_LONGEST_TOKEN: Final = 64 << 10
# RFC 6750, section 2.1: what a bearer token is made of; anything else would be another header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")


class BearerToken:
    """A bearer token that is read again when its file has changed: projected tokens rotate.

    Args:
        source: the token, its file, or a function that gives the current one, which is called in a thread.
    """

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._header: dict[str, str] = {}
        if isinstance(source, Path):
            self._file = CurrentFile(source, lambda content: _checked(content, str(source)), _LONGEST_TOKEN)
        elif isinstance(source, str) and source:
            self._header = _checked(source.encode(), "the configured token")

    async def header(self) -> dict[str, str]:
        """The header of a request, none without a token.

        Raises:
            Unavailable: there is no token in the file, or the function gives none.
        """
        if callable(self._source):
            return _checked((await asyncio.to_thread(self._source)).encode(), "what the credential plugin returned")
        if not isinstance(self._source, Path):
            return self._header
        try:
            return await self._file.get()
        except OSError as error:
            raise Unavailable(
                f"Trow's own token cannot be read from {self._source} ({error.strerror}); mount a ServiceAccount's"
                " token there"
            ) from None


def _checked(content: bytes, where: str) -> dict[str, str]:
    token = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise Unavailable(f"{where} is not a bearer token; have Kubernetes issue a new one")
    return {"Authorization": f"Bearer {token}"}
