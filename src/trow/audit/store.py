"""What the trail's writer does in the database.

A record's JSON is kept exactly as it was hashed; the columns beside it are for searching, and are held against it when
the trail is verified.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import apsw

from trow.audit import database, sql, times
from trow.audit import record as records
from trow.audit.chain import Checkpoint, Head, Trim
from trow.audit.errors import AuditError
from trow.lib.anchor import Anchor, anchors_of_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.audit.database import Row
    from trow.audit.record import Record

# Each statement gives the interpreter's lock away and has to get it back from a busy event loop, up to 5 ms each time:
# many rows go into one. SQLite takes 32 766 parameters, PostgreSQL 65 535.
_ROWS_IN_A_STATEMENT: Final = 500


@dataclass(slots=True)
class Changes:
    """What one commit writes."""

    rows: list[Row] = field(default_factory=list)
    digests: list[Row] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    trim: Trim | None = None
    positions: dict[str, int] = field(default_factory=dict)

    def add(self, record: Record, at: int, content: bytes) -> None:
        """One record, with the JSON that was hashed."""
        self.rows.append((*columns(record, at), content.decode()))
        for digest in records.digests(record):
            self.digests.append((digest, at, record.writer, record.sequence))


def columns(record: Record, at: int) -> Row:
    """What a record is searched by, in the order of `sql.RECORD_COLUMNS`."""
    return (
        record.writer,
        record.sequence,
        at,
        record.action,
        record.outcome,
        record.actor.user if record.actor is not None else "",
        record.workload.namespace if record.workload is not None else "",
        record.repository,
        record.digest,
    )


def checkpoint_of(row: Row) -> Checkpoint:
    """A row of the table as it was signed."""
    writer, sequence, at, hash_, key, signature = row
    return Checkpoint(writer, sequence, hash_, times.written(at), key, signature)


def trim_of(row: Row) -> Trim:
    """A row of the table as it was signed."""
    writer, sequence, at, prev, key, signature = row
    return Trim(writer, sequence, prev, times.written(at), key, signature)


class AuditStore:
    """The writer's side, for one thread at a time.

    Raises:
        AuditError: the database cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._connection = database.open_writer(path)
        self._anchors: list[Anchor] = []
        try:
            self.writer = database.writer_of(self._connection)
            self.head()
            self._anchors += anchors_of_database(path)
        except (apsw.Error, ValueError, IndexError) as error:
            self._connection.close()
            what = "run trow audit verify, then move it away to begin a new one"
            raise AuditError(
                f"the audit database {path} has no end that a record can follow ({error}); {what}"
            ) from None

    def close(self) -> None:
        """Write the log back and close."""
        self._connection.close()
        for anchor in self._anchors:
            anchor.close()

    def displaced(self) -> Sequence[Path]:
        """The files that are in use and no longer where they belong."""
        return [anchor.path for anchor in self._anchors if not anchor.holds()]

    def head(self) -> Head:
        """Where the chain has got to."""
        row = self._one(sql.LAST_RECORD, self.writer)
        return Head(self.writer, row[0], records.read(row[1]).hash) if row else Head(self.writer)

    def covered(self) -> int:
        """The last record that a checkpoint covers."""
        row = self._one(sql.LAST_CHECKPOINT, self.writer)
        return int(row[1]) if row else 0

    def positions(self) -> dict[str, int]:
        """The last record that each sink has had."""
        return dict(database.rows(self._connection, sql.POSITIONS, self.writer))

    def commit(self, changes: Changes) -> None:
        """Write all of it or nothing.

        Raises:
            apsw.Error: nothing was written, as far as the engine knows.
            OSError: what would be written would be gone after the next start.
        """
        if moved := self.displaced():
            raise OSError(errno.ESTALE, "it was moved or replaced while it is in use; put it back", str(moved[0]))
        with database.transaction(self._connection):
            self._add(sql.add_records, changes.rows)
            self._add(sql.add_digests, changes.digests)
            if (point := changes.checkpoint) is not None:
                row = (point.writer, point.sequence, times.read(point.time), point.hash, point.key, point.signature)
                self._connection.execute(sql.ADD_CHECKPOINT, row)
            if (mark := changes.trim) is not None:
                row = (mark.writer, mark.sequence, times.read(mark.time), mark.prev, mark.key, mark.signature)
                self._connection.execute(sql.SET_TRIM, row)
            for sink, sequence in changes.positions.items():
                self._connection.execute(sql.SET_POSITION, (sink, self.writer, sequence))

    def _add(self, statement: Callable[[int], str], rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS_IN_A_STATEMENT):
            some = rows[start : start + _ROWS_IN_A_STATEMENT]
            self._connection.execute(statement(len(some)), [value for row in some for value in row])

    # ---- retention

    def first(self) -> int | None:
        """The first record that is there."""
        row = self._one(sql.FIRST_SEQUENCE, self.writer)
        return row[0] if row else None

    def retained(self) -> int:
        """The first record that the trim mark leaves; what is before it may still be there."""
        row = self._one(sql.TRIM, self.writer)
        return int(row[1]) if row else 1

    def checkpoint_before(self, at: int) -> Head | None:
        """The last checkpoint made before a time: what it covers is older still."""
        return self._head(sql.CHECKPOINT_BEFORE, at)

    def checkpoint_from(self, sequence: int) -> Head | None:
        """The first checkpoint that covers a record."""
        return self._head(sql.CHECKPOINT_FROM, sequence)

    def checkpoint_up_to(self, sequence: int) -> Head | None:
        """The last checkpoint that covers nothing after a record."""
        return self._head(sql.CHECKPOINT_UP_TO, sequence)

    def _head(self, statement: str, value: int) -> Head | None:
        row = self._one(statement, self.writer, value)
        return Head(self.writer, *row) if row else None

    def used_bytes(self) -> int:
        """The bytes that the database's pages take, without those that wait to be used again."""
        count, free, size = (
            int(self._one(f"PRAGMA {name}")[0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (count - free) * size

    def drop_before(self, sequence: int) -> None:
        """Remove what is before a record."""
        with database.transaction(self._connection):
            for statement in (sql.DELETE_RECORDS, sql.DELETE_DIGESTS, sql.DELETE_CHECKPOINTS):
                self._connection.execute(statement, (self.writer, sequence))

    def _one(self, statement: str, *values: str | int) -> Row:
        return database.one(self._connection, statement, *values)
