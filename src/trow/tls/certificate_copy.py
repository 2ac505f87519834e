"""A copy of a certificate that the cluster keeps, so that a start does not have to wait for the API server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trow.lib.files import make_folder, replace_file
from trow.tls.authority import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class CertificateCopy:
    """Certificate and key in one file, taken up at once if they are still good.

    Args:
        path: the file.
        names: what the certificate has to cover.
        load: has the listener take up the file.

    Attributes:
        expires: when the certificate ends, in seconds since 1970; 0 without one.
    """

    def __init__(self, path: Path, names: Sequence[str], load: Callable[[], None]) -> None:
        self.expires = 0.0
        self._path = path
        self._load = load
        self._loaded = self._left_over(names)

    def take(self, leaf: Leaf) -> None:
        """Have the listener show this certificate from now on.

        Raises:
            OSError: it cannot be written.
        """
        if leaf.pem != self._loaded:
            make_folder(self._path.parent)
            replace_file(self._path, leaf.pem)
            self._load()
            self._loaded, self.expires = leaf.pem, leaf.end

    def _left_over(self, names: Sequence[str]) -> bytes:
        """What the last run has left, and the listener has taken up, if it is still good; else b""."""
        try:
            found = self._path.read_bytes()
            leaf = Leaf.read(found, found)
            if leaf.end <= time.time() or not leaf.covers(names):
                return b""
            self._load()
        except (OSError, ValueError):
            return b""
        self.expires = leaf.end
        return leaf.pem
