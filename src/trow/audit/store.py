"""What the trail's writer and those who read it do in the database.

A record's JSON is kept exactly as it was hashed; the columns beside it are for searching, and are held against it when
the trail is verified.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

import apsw
import msgspec

from trow.audit import database, sql
from trow.audit import record as records
from trow.audit.chain import Checkpoint, Gap, Head, Trim, part_name
from trow.audit.errors import AuditError
from trow.lib import times
from trow.lib.anchor import Anchor, anchors_of_database
from trow.lib.source import source_of
from trow.registry.events import Part
from trow.sql.connections import snapshot, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.audit.chain import AnyMark, Mark
    from trow.audit.database import Row
    from trow.audit.record import Record

# Each statement gives the interpreter's lock away and has to get it back from a busy event loop, up to 5 ms each time:
# many rows go into one. SQLite takes 32 766 parameters, PostgreSQL 65 535.
_ROWS_IN_A_STATEMENT: Final = 500


# What a record takes beside its content, and for each digest it can be found by, with all indexes (measured).
_RECORD_BYTES: Final = 400
_DIGEST_BYTES: Final = 450
# Rows of one part of the record lie together, each part in a range of its own.
_PLACES: Final = {part.value: number << 48 for number, part in enumerate(Part)}
# In these parts the user is proven; in the others only the source is known.
_PROVEN: Final = frozenset({Part.EFFECTS.value, Part.ACCESS.value})

Holdings: TypeAlias = "Counter[tuple[str, str]]"
SinkPosition: TypeAlias = tuple[str, str]


def holder_of(record: Record) -> str:
    """Whose share of its part a record counts for: the user's, or that of the source that it came from."""
    if part_name(record.writer) in _PROVEN:
        return record.actor.user if record.actor is not None else ""
    return source_of(record.client.address) if record.client is not None else ""


def cost(record: Record, content: str) -> int:
    """Roughly how many bytes a record takes in the database."""
    return len(content) + _RECORD_BYTES + _DIGEST_BYTES * len(records.digests(record))


@dataclass(slots=True)
class WriteBatch:
    """What one commit writes.

    Attributes:
        holdings: how many bytes are added for each writer and holder.
        positions: the positions of sinks, by sink and writer.
    """

    rows: list[Row] = field(default_factory=list)
    digests: list[Row] = field(default_factory=list)
    holdings: Holdings = field(default_factory=Counter)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    trims: list[Trim] = field(default_factory=list)
    positions: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def add(self, record: Record, at: int, content: bytes) -> None:
        """One record, with the JSON that was hashed."""
        text = content.decode()
        place = _PLACES[part_name(record.writer)] + record.sequence
        self.rows.append((place, *columns(record, at), text))
        for digest in records.digests(record):
            self.digests.append((digest, at, record.writer, record.sequence))
        self.holdings[record.writer, holder_of(record)] += cost(record, text)


class HeldRecord(NamedTuple):
    """A record that could be removed.

    Attributes:
        bytes: what it takes in the database.
    """

    sequence: int
    hash: str
    holder: str
    bytes: int

    @classmethod
    def of(cls, sequence: int, content: str) -> Self:
        """Of a row; one that was damaged is nobody's."""
        try:
            record = records.read(content)
        except (ValueError, TypeError):
            return cls(sequence, "", "", _RECORD_BYTES)
        return cls(sequence, record.hash, holder_of(record), cost(record, content))


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


def mark_of(kind: type[AnyMark], row: Row) -> AnyMark:
    """A row of a table of marks as it was signed."""
    *given, at, key, signature = row
    return kind(*(*given, times.precise(at), key, signature))


def _row_of(mark: Mark) -> Row:
    *given, time, key, signature = msgspec.structs.astuple(mark)
    return (*given, times.parse(time), key, signature)


class AuditStore:
    """The writer's side, for one thread at a time.

    Raises:
        AuditError: the database cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._connection = database.open_writer(path)
        self._anchors: list[Anchor] = []
        # What each writer's records take; a sum over all holders would be long.
        self._used: dict[str, int] = {}
        try:
            self.name = database.database_name(self._connection)
            self.head(self.name)
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

    def head(self, writer: str) -> Head:
        """Where a chain has got to."""
        row = self._one(sql.LAST_RECORD, writer)
        return Head(writer, row[0], records.read(row[1]).hash) if row else Head(writer)

    def covered(self, writer: str) -> int:
        """The last record that a checkpoint covers."""
        row = self._one(sql.LAST_CHECKPOINT, writer)
        return int(row[1]) if row else 0

    def positions(self) -> dict[tuple[str, str], int]:
        """The last record of each writer that each sink has had."""
        return {(sink, writer): sequence for sink, writer, sequence in database.rows(self._connection, sql.POSITIONS)}

    def commit(self, batch: WriteBatch) -> None:
        """Write all of it or nothing.

        Raises:
            apsw.Error: nothing was written, as far as the engine knows.
            OSError: what would be written would be gone after the next start.
        """
        if moved := self.displaced():
            raise OSError(errno.ESTALE, "it was moved or replaced while it is in use; put it back", str(moved[0]))
        with transaction(self._connection):
            self._add(sql.add_records, batch.rows)
            self._add(sql.add_digests, batch.digests)
            self._add(sql.add_holdings, [(*who, held) for who, held in batch.holdings.items()])
            for point in batch.checkpoints:
                self._connection.execute(sql.ADD_CHECKPOINT, _row_of(point))
            for mark in batch.trims:
                self._connection.execute(sql.SET_TRIM, _row_of(mark))
            for (sink, writer), sequence in batch.positions.items():
                self._connection.execute(sql.SET_POSITION, (sink, writer, sequence))
        self._count(batch.holdings)

    def _add(self, statement: Callable[[int], str], rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), _ROWS_IN_A_STATEMENT):
            some = rows[start : start + _ROWS_IN_A_STATEMENT]
            self._connection.execute(statement(len(some)), [value for row in some for value in row])

    # ---- retention

    def first(self, writer: str) -> int | None:
        """The first record that is there."""
        row = self._one(sql.FIRST_SEQUENCE, writer)
        return row[0] if row else None

    def retained(self, writer: str) -> int:
        """The first record that the trim mark leaves; what is before it may still be there."""
        row = self._one(sql.TRIM, writer)
        return int(row[1]) if row else 1

    def checkpoint_before(self, writer: str, at: int) -> Head | None:
        """The last checkpoint made before a time: what it covers is older still."""
        return self._head(sql.CHECKPOINT_BEFORE, writer, at)

    def checkpoint_up_to(self, writer: str, sequence: int) -> Head | None:
        """The last checkpoint that covers nothing after a record."""
        return self._head(sql.CHECKPOINT_UP_TO, writer, sequence)

    def _head(self, statement: str, writer: str, value: int) -> Head | None:
        row = self._one(statement, writer, value)
        return Head(writer, *row) if row else None

    def count_up_to(self, writer: str, sequence: int) -> int:
        """How many records there are up to one."""
        return int(self._one(sql.COUNT_UP_TO, writer, sequence)[0])

    def used_bytes(self, writer: str) -> int:
        """About how many bytes a part of the record takes."""
        if writer not in self._used:
            self._used[writer] = int(self._one(sql.HOLDINGS, writer)[0] or 0)
        return self._used[writer]

    def _count(self, held: Mapping[tuple[str, str], int]) -> None:
        """Add these sizes to what is held, or subtract them."""
        for (writer, _), more in held.items():
            if writer in self._used:
                self._used[writer] = max(0, self._used[writer] + more)

    def largest(self, writer: str, most: int) -> dict[str, int]:
        """Who holds most of a part, and how many bytes."""
        return dict(database.rows(self._connection, sql.LARGEST_HOLDINGS, writer, most))

    def between(self, writer: str, after: int, until: int, most: int) -> list[HeldRecord]:
        """Some records after one and up to another."""
        rows = database.rows(self._connection, sql.RECORDS_BETWEEN, writer, after, until, most)
        return [HeldRecord.of(sequence, content) for sequence, content in rows]

    def drop_before(self, writer: str, held: Sequence[HeldRecord], sequence: int) -> None:
        """Remove what is before a record; ``held`` is all that is."""
        with self._giving_up(writer, held):
            for statement in (sql.DELETE_RECORDS, sql.DELETE_DIGESTS, sql.DELETE_GAPS, sql.DELETE_CHECKPOINTS):
                self._connection.execute(statement, (writer, 0, sequence))

    def drop_between(self, writer: str, held: Sequence[HeldRecord], gaps: Sequence[Gap]) -> None:
        """Remove records between others; ``held`` are all that are in the gaps. Gaps inside of these end with them."""
        with self._giving_up(writer, held):
            for gap in gaps:
                for statement in (sql.DELETE_RECORDS, sql.DELETE_DIGESTS, sql.DELETE_GAPS):
                    self._connection.execute(statement, (writer, gap.first, gap.sequence + 1))
                # The checkpoint over the last of them stays: what comes before the next one is under it.
                self._connection.execute(sql.DELETE_CHECKPOINTS, (writer, gap.first, gap.sequence))
                self._connection.execute(sql.ADD_GAP, _row_of(gap))

    @contextlib.contextmanager
    def _giving_up(self, writer: str, held: Sequence[HeldRecord]) -> Iterator[None]:
        """These records are removed inside, and their holders have so much less."""
        less: Holdings = Counter()
        for each in held:
            less[writer, each.holder] -= each.bytes
        with transaction(self._connection):
            yield
            self._add(sql.add_holdings, [(*who, count) for who, count in less.items()])
            self._connection.execute(sql.DELETE_EMPTY_HOLDINGS, (writer,))
        self._count(less)

    def _one(self, statement: str, *values: str | int) -> Row:
        return database.one(self._connection, statement, *values)


class Positions:
    """The last record of each writer that each sink has had. For any thread."""

    def __init__(self, stored: Mapping[SinkPosition, int]) -> None:
        self._lock = threading.Lock()
        self._current = dict(stored)
        self._changed: set[SinkPosition] = set()

    def get(self, sink: str, writer: str) -> int | None:
        """The position; None when the sink has never had a record."""
        with self._lock:
            return self._current.get((sink, writer))

    def advance(self, sink: str, writer: str, sequence: int) -> None:
        """Move a sink's position forward; it never moves back."""
        place = sink, writer
        with self._lock:
            if sequence > self._current.get(place, -1):
                self._current[place] = sequence
                self._changed.add(place)

    def take(self) -> dict[SinkPosition, int]:
        """The positions that have changed since the last call."""
        with self._lock:
            changed = {place: self._current[place] for place in self._changed}
            self._changed.clear()
            return changed


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
        lines += [checkpoint_line(mark_of(Checkpoint, row)) for row in rows]
        return sorted(lines, key=lambda line: (line.sequence, not line.is_record))

    def hash_at(self, writer: str, sequence: int) -> str:
        """The hash of a record, "" when it is not there (any more)."""
        row = database.one(self._connection, sql.RECORD, writer, sequence)
        with contextlib.suppress(ValueError):
            return records.read(row[0]).hash if row else ""
        return ""
