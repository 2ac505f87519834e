"""Names a client may write: repositories, tags, references and upload sessions, each with one strict parser."""

from __future__ import annotations

import re
import secrets
from typing import Final, Self, TypeAlias

from trow.oci.digest import Digest
from trow.oci.errors import NameInvalid, TagInvalid, UploadUnknown

# distribution-spec, "Pull": the grammar of <name>, and its advice to keep host/name within 255 characters.
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_LONGEST_REPOSITORY: Final = 255
# distribution-spec, "Pull": the grammar of a tag. Written without \w, which matches more than ASCII.
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_LONGEST_TAG: Final = 128
_UPLOAD: Final = re.compile(r"[0-9a-f]{32}")


class Repository(str):
    """A repository name, any depth, at most 255 characters. `parse` is its only constructor."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a repository name as a client wrote it.

        Raises:
            NameInvalid: it is outside the grammar of the specification.
        """
        if len(text) <= _LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text):
            return cls(text)
        raise NameInvalid(
            "the repository name is invalid; use lower-case letters, digits, '.', '_' and '-' between them, "
            f"parts separated by '/', at most {_LONGEST_REPOSITORY} characters"
        )


class Tag(str):
    """A tag, at most 128 characters. `parse` is its only constructor."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a tag as a client wrote it.

        Raises:
            TagInvalid: it is outside the grammar of the specification.
        """
        if len(text) <= _LONGEST_TAG and _TAG.fullmatch(text):
            return cls(text)
        raise TagInvalid(
            "the tag is invalid; use letters, digits, '_', '.' and '-', not starting with '.' or '-', "
            f"at most {_LONGEST_TAG} characters"
        )


Reference: TypeAlias = Tag | Digest


def parse_reference(text: str) -> Reference:
    """Read what follows ``/manifests/``: with a colon it is a digest, because no tag has one.

    Raises:
        DigestInvalid: it has a colon and is not a digest.
        TagInvalid: it has none and is not a tag.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


class UploadId(str):
    """The name of an upload session: 128 random bits, so that no client can guess another one's."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Draw the name of a new session."""
        return cls(secrets.token_hex(16))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a session's name as a client wrote it.

        Raises:
            UploadUnknown: it cannot be one of ours.
        """
        if len(text) == 32 and _UPLOAD.fullmatch(text):  # noqa: PLR2004 - the length that the expression demands
            return cls(text)
        raise UploadUnknown("there is no such upload session; begin another")
