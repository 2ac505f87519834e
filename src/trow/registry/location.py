"""Where a blob's bytes are in its store."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final, Self

from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid

if TYPE_CHECKING:
    from trow.oci.names import UploadId

_FORM: Final = re.compile(
    r"(?:sha256/(?P<a>[0-9a-f]{2})/(?P=a)[0-9a-f]{62}|sha512/(?P<b>[0-9a-f]{2})/(?P=b)[0-9a-f]{126})(?:\.[0-9a-f]{32})?"
    r"|[0-9a-f]{32}"
)


class BlobLocation(str):
    """The name that a store has for the bytes of a blob.

    No two uploads ever get the same one. So bytes that are to be removed are never those that somebody has linked
    meanwhile: whoever pushes the blob again brings them to another location.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read what was stored.

        Raises:
            ValueError: it is none of ours: it may be damaged, and lead anywhere.
        """
        if not isinstance(text, str) or _FORM.fullmatch(text) is None:
            raise ValueError(f"{text!r} is not a location of a blob")
        return cls(text)

    @classmethod
    def of(cls, digest: Digest, upload: UploadId) -> Self:
        """Where a store that learns the digest first keeps what an upload has brought."""
        return cls(f"{cls.former(digest)}.{upload}")

    @classmethod
    def former(cls, digest: Digest) -> Self:
        """Where blobs were kept that are older than locations, and were named by their content alone."""
        return cls(f"{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}")

    @classmethod
    def of_upload(cls, upload: UploadId) -> Self:
        """Where a store puts what an upload brings that has to know the place before the digest."""
        return cls(upload)

    @property
    def early(self) -> bool:
        """Whether bytes came there before their digest was known, so that it has to be reserved."""
        return "/" not in self

    @property
    def digest(self) -> Digest | None:
        """The blob that the name tells; None where it tells none."""
        with contextlib.suppress(DigestInvalid):
            algorithm, _, name = self.partition("/")
            return Digest.parse(f"{algorithm}:{name[3:].partition('.')[0]}")
        return None
