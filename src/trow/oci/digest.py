"""Digests: content identifiers that are safe to use as keys and file names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, Self

from trow.oci.errors import DigestInvalid, DigestUnsupported

if TYPE_CHECKING:
    from hashlib import _Hash


# image-spec, descriptor.md, "Digests": the registered algorithms with their exact lengths, lower case only.
_SUPPORTED: Final = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_GRAMMAR: Final = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_LONGEST: Final = 7 + 128

ALGORITHMS: Final = ("sha256", "sha512")
CANONICAL: Final = "sha256"


class Digest(str):
    """A digest of a supported algorithm, such as ``sha256:…``. `parse` and `of` are its only constructors."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a digest as a client wrote it.

        Raises:
            DigestInvalid: it is not a digest.
            DigestUnsupported: it is one, of an algorithm other than `ALGORITHMS`.
        """
        if len(text) <= _LONGEST and _SUPPORTED.fullmatch(text):
            return cls(text)
        if len(text) <= 2 * _LONGEST and _GRAMMAR.fullmatch(text) and not text.startswith(ALGORITHMS):
            raise DigestUnsupported(f"the digest algorithm is not supported; use one of {', '.join(ALGORITHMS)}")
        raise DigestInvalid("not a digest; write sha256:<64 hexadecimal digits> or sha512:<128>")

    @classmethod
    def of(cls, content: bytes | bytearray, algorithm: str = CANONICAL) -> Self:
        """Compute the digest of content that is at hand."""
        return cls.from_hash(hashlib.new(algorithm, content, usedforsecurity=True))

    @classmethod
    def from_hash(cls, hasher: _Hash) -> Self:
        """Close a hash that was fed while bytes streamed by."""
        return cls(f"{hasher.name}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        """The part before the colon, one of `ALGORITHMS`."""
        return self[:6]

    @property
    def encoded(self) -> str:
        """The hexadecimal part: file-name safe by construction."""
        return self[7:]


def parse_algorithm(text: str) -> str:
    """Read the ``digest-algorithm`` parameter of an upload (end-4c).

    Raises:
        DigestUnsupported: it names no supported algorithm.
    """
    if text not in ALGORITHMS:
        raise DigestUnsupported(f"digest-algorithm is not supported; use one of {', '.join(ALGORITHMS)}")
    return text
