"""Byte ranges: of a download (RFC 9110, section 14) and of an upload's chunk (distribution-spec)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trow.oci.errors import ChunkOutOfOrder, RangeNotSatisfiable, SizeInvalid, UploadInvalid

# Nineteen digits are more than any file has; longer numbers are refused rather than converted.
_ONE_RANGE: Final = re.compile(
    r"bytes=[ \t]*(?:(\d{1,19})[ \t]*)?-(?:[ \t]*(\d{1,19}))?[ \t]*", re.IGNORECASE | re.ASCII
)
_CHUNK: Final = re.compile(r"(?:bytes[ =])?(\d{1,19})-(\d{1,19})(?:/(?:\d{1,19}|\*))?", re.IGNORECASE | re.ASCII)
# Two numbers, their unit and some space; no client writes more.
_LONGEST: Final = 128


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` to ``end`` of some content, ``end`` not included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.end - self.start


def parse_range(header: str, size: int) -> ByteRange | None:
    """Read a ``Range`` header against content of ``size`` bytes.

    Returns:
        The range, clamped to the content; None where the header may be ignored: several ranges at once, another
        unit, or no range at all (RFC 9110, section 14.2).

    Raises:
        RangeNotSatisfiable: the range lies outside the content or ends before it starts.
    """
    match = _ONE_RANGE.fullmatch(header) if len(header) <= _LONGEST else None
    if match is None or match[1] is match[2] is None:
        return None
    if match[1] is None:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if start >= end:
        raise RangeNotSatisfiable(
            f"the range lies outside the content, which has {size} bytes; ask for a part of these", size=size
        )
    return ByteRange(start, end)


def parse_chunk(header: str) -> ByteRange:
    """Read the ``Content-Range`` of an upload's chunk: ``<first>-<last>``, both included.

    Raises:
        UploadInvalid: it is not such a range.
    """
    match = _CHUNK.fullmatch(header.strip()) if len(header) <= _LONGEST else None
    if match is None or int(match[2]) < int(match[1]):
        raise UploadInvalid("the Content-Range is invalid; write <first byte>-<last byte>, both included")
    return ByteRange(int(match[1]), int(match[2]) + 1)


def check_chunk(chunk: ByteRange, offset: int, length: int | None) -> None:
    """Hold a chunk's range against what the session has and what the request announces.

    Raises:
        ChunkOutOfOrder: the chunk does not start at ``offset``.
        SizeInvalid: it is not as long as the ``Content-Length`` says.
    """
    if chunk.start != offset:
        raise ChunkOutOfOrder(
            f"the chunk starts at {chunk.start}, and the upload has {offset} bytes; continue there", offset=offset
        )
    if length is not None and length != chunk.length:
        raise SizeInvalid(f"Content-Range spans {chunk.length} bytes and Content-Length is {length}; make them equal")
