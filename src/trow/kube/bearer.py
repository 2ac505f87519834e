"""Trow's own token for the API server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from trow.oci.errors import Unavailable

_LONGEST_TOKEN: Final = 64 << 10
# RFC 6750, section 2.1: what a bearer token is made of; anything else would be another header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")


class BearerToken:
    """A bearer token that is read again when its file has changed: projected tokens rotate."""

    def __init__(self, source: Path | str) -> None:
        self._source = source
        self._seen: tuple[int, int, int] | None = None
        self._header: dict[str, str] = {}
        if isinstance(source, str) and source:
            self._header = self._checked(source, "the configured token")

    def header(self) -> dict[str, str]:
        if isinstance(self._source, Path):
            try:
                self._renew(self._source)
            except OSError as error:
                raise Unavailable(
                    f"Trow's own token cannot be read from {self._source} ({error.strerror}); mount a ServiceAccount's"
                    " token there"
                ) from None
        return self._header

    def _renew(self, path: Path) -> None:
        found = path.stat()
        seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        if seen != self._seen:
            with path.open("rb") as file:
                text = file.read(_LONGEST_TOKEN).decode("ascii", "replace")
            self._header = self._checked(text, str(path))
            self._seen = seen

    @staticmethod
    def _checked(text: str, where: str) -> dict[str, str]:
        token = text.strip()
        if not _TOKEN.fullmatch(token):
            raise Unavailable(f"{where} is no bearer token; have Kubernetes write it anew")
        return {"Authorization": f"Bearer {token}"}
