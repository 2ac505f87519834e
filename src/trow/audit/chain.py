"""The chain: each record carries the hash of the one before, and checkpoints sign where the chain has got to.

    hash = SHA-256(hash of the record before ‖ canonical JSON of the record without ``hash``)

There is one chain for each writer. A database's life has a writer for each part of the record (`Part`), so that what is
removed from one part leaves the others whole. Whoever alters a record has to compute every later hash again and would
still need the key for the checkpoints over them. Signatures are Ed25519 (RFC 8032) over a prefix that says what is
signed, and the canonical JSON of the rest. No I/O and no clock in here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from trow.audit import record as records
from trow.registry.events import Part

if TYPE_CHECKING:
    from trow.audit.keys import PublicKey, SigningKey
    from trow.audit.record import Record

# No more records than these follow the last checkpoint: it is stored together with the record that makes it due. What
# verifies a chain relies on it, for otherwise removing the checkpoints would hide that the chain was computed again.
CHECKPOINT_RECORDS: Final = 1000
CHECKPOINT_SECONDS: Final = 60.0

# Stands where a record's hash will be while that is computed.
UNSEALED: Final = "0" * 64

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}", re.ASCII)
_WRITER: Final = re.compile(r"[0-9a-f]{8}(\.[a-z]{1,16})?", re.ASCII)
_MOST_DIGITS: Final = 16


def writer_of(database: str, part: Part) -> str:
    """Who writes a part of a database's record: ``0a1b2c3d`` the effects, ``0a1b2c3d.reviews`` the reviews."""
    return database if part is Part.EFFECTS else f"{database}.{part.value}"


def part_name(writer: str) -> str:
    """The part that a writer writes."""
    return writer.partition(".")[2] or Part.EFFECTS.value


@dataclass(frozen=True, slots=True)
class Head:
    """Where a writer's chain has got to; sequence 0 is before its first record."""

    writer: str
    sequence: int = 0
    hash: str = ""

    def __str__(self) -> str:
        """As an anchor is written down: ``WRITER:SEQUENCE:HASH``."""
        return f"{self.writer}:{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read an anchor.

        Raises:
            ValueError: it is not one; the message is for people.
        """
        writer, _, rest = text.partition(":")
        sequence, _, hash_ = rest.partition(":")
        number = int(sequence) if sequence.isdecimal() and sequence.isascii() and len(sequence) <= _MOST_DIGITS else 0
        if not _WRITER.fullmatch(writer) or not number or not _HASH.fullmatch(hash_):
            raise ValueError(f"{text!r} is not an anchor; give WRITER:SEQUENCE:HASH as trow audit anchor printed it")
        return cls(writer, number, hash_)


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Says, signed, that the writer's chain had this hash at this record."""

    writer: str
    sequence: int
    hash: str
    time: str
    key: str
    signature: str = ""


class Trim(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Says, signed, that everything before this record was removed by rule.

    Attributes:
        sequence: the first record that is retained.
        prev: the hash of the last one that is not.
    """

    writer: str
    sequence: int
    prev: str
    time: str
    key: str
    signature: str = ""


class Gap(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Says, signed, that records between others were removed by rule.

    Attributes:
        first: the first of them.
        sequence: the last of them.
        hash: of the last of them, which the next record follows.
    """

    writer: str
    first: int
    sequence: int
    hash: str
    time: str
    key: str
    signature: str = ""


Mark: TypeAlias = Checkpoint | Trim | Gap
AnyMark = TypeVar("AnyMark", Checkpoint, Trim, Gap)
_DOMAINS: Final[dict[type[Mark], bytes]] = {
    Checkpoint: b"trow audit checkpoint v1\n",
    Trim: b"trow audit trim v1\n",
    Gap: b"trow audit gap v1\n",
}


def seal(record: Record) -> tuple[bytes, str]:
    """The record's JSON with its hash, and the hash; ``record.hash`` has to be `UNSEALED`."""
    # A quote inside a text is escaped, so that these bytes can only be the member itself. It is never the last one.
    before, _, after = records.encode(record).partition(b'"hash":"' + UNSEALED.encode() + b'",')
    digest = _hash(record.prev, before + after)
    return b"".join((before, b'"hash":"', digest.encode(), b'",', after)), digest


def is_sealed(record: Record) -> bool:
    """Whether the record has the hash that follows from its content."""
    return (
        bool(_HASH.fullmatch(record.hash))
        and (not record.prev or bool(_HASH.fullmatch(record.prev)))
        and (_hash(record.prev, records.encode(msgspec.structs.replace(record, hash=""))) == record.hash)
    )


def _hash(prev: str, content: bytes) -> str:
    return hashlib.sha256(bytes.fromhex(prev) + content).hexdigest()


def checkpoint(head: Head, time: str, key: SigningKey) -> Checkpoint:
    """Sign where the chain has got to."""
    return _signed(Checkpoint(head.writer, head.sequence, head.hash, time, key.id), key)


def trim(last: Head, time: str, key: SigningKey) -> Trim:
    """Sign that everything up to and with ``last`` is removed."""
    return _signed(Trim(last.writer, last.sequence + 1, last.hash, time, key.id), key)


def gap(first: int, last: Head, time: str, key: SigningKey) -> Gap:
    """Sign that what stands from ``first`` up to and with ``last`` is removed."""
    return _signed(Gap(last.writer, first, last.sequence, last.hash, time, key.id), key)


def _signed(mark: AnyMark, key: SigningKey) -> AnyMark:
    return msgspec.structs.replace(mark, signature=key.sign(_message(mark)).hex())


def is_signed(mark: Mark, key: PublicKey) -> bool:
    """Whether the key's holder made this mark."""
    return (
        mark.key == key.id
        and bool(_SIGNATURE.fullmatch(mark.signature))
        and key.verifies(bytes.fromhex(mark.signature), _message(mark))
    )


def _message(mark: Mark) -> bytes:
    return _DOMAINS[type(mark)] + records.encode(msgspec.structs.replace(mark, signature=""))
