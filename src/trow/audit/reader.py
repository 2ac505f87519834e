"""The trail from one record on, for those who follow it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.audit import database, sql
from trow.audit import record as records
from trow.audit.store import checkpoint_of
from trow.sql.connections import snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from trow.audit.chain import Checkpoint, Head


@dataclass(frozen=True, slots=True)
class Line:
    """A record, or a checkpoint over the record before it.

    Attributes:
        sequence: of the record, or of the one that the checkpoint covers.
    """

    sequence: int
    content: bytes
    is_record: bool


def checkpoint_line(checkpoint: Checkpoint) -> Line:
    """A checkpoint as it stands between records."""
    return Line(checkpoint.sequence, b'{"checkpoint":' + records.encode(checkpoint) + b"}", is_record=False)


class TrailReader:
    """Reads the records of the database's writers. For one thread at a time.

    Raises:
        AuditError: the database cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._connection = database.open_reader(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def records_after(self, writer: str, sequence: int, most: int) -> list[Line]:
        """Some records of a writer that come next."""
        rows = database.rows(self._connection, sql.RECORDS_AFTER, writer, sequence, most)
        return [Line(row[0], row[1].encode(), is_record=True) for row in rows]

    def lines_after(self, head: Head, covered: int, most: int) -> list[Line]:
        """Some records that come next, with the checkpoints between them.

        Args:
            head: the last record that is known.
            covered: what the last known checkpoint covers.
            most: how many records.
        """
        with snapshot(self._connection):
            lines = self.records_after(head.writer, head.sequence, most)
            until = lines[-1].sequence if lines else head.sequence
            rows = database.rows(self._connection, sql.CHECKPOINTS_BETWEEN, head.writer, covered, until)
        lines += [checkpoint_line(checkpoint_of(row)) for row in rows]
        return sorted(lines, key=lambda line: (line.sequence, not line.is_record))

    def hash_at(self, writer: str, sequence: int) -> str:
        """The hash of a record, "" when it is not there (any more)."""
        row = database.one(self._connection, sql.RECORD, writer, sequence)
        with contextlib.suppress(ValueError):
            return records.read(row[0]).hash if row else ""
        return ""
