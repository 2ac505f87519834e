"""Finding what was altered: the first record, column, checkpoint or mark that is not as it was written, by name.

Without the public key that is every change that was not followed by computing all later hashes again. With it that is
found too, as far as the checkpoints reach. Only an anchor kept elsewhere tells that the newest records were cut off
together with their checkpoints: what is left then is a trail that really was.
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import TYPE_CHECKING, Final

import apsw

from trow.audit import database, sql
from trow.audit import record as records
from trow.audit.chain import CHECKPOINT_RECORDS, AnyMark, Checkpoint, Gap, Head, Trim
from trow.audit.checks import BESIDE, Altered, ChainCheck, VerificationReport, sealed, verified
from trow.audit.errors import AuditError
from trow.audit.record import Record
from trow.audit.sinks import read_line
from trow.audit.store import checkpoint_line, columns, mark_of
from trow.lib import times
from trow.lib.terminal import escaped_bytes
from trow.sql.connections import snapshot, version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.audit.checks import Keys
    from trow.audit.database import Row

_ROWS_AT_ONCE: Final = 1000
_END: Final = 2**62
_LONGEST_LINE: Final = 2**20
# In a file the lines of one commit may still be on their way, and its checkpoint is the last of them.
_UNCOVERED_IN_A_FILE: Final = 4 * CHECKPOINT_RECORDS
_ROTATED: Final = re.compile(r"(.+)\.([1-9][0-9]{0,5})", re.ASCII)
_COLUMNS: Final = ("writer", "sequence", "at", "action", "outcome", "subject", "namespace", "repository", "digest")


# ---- in a database


def verify_database(path: Path, keys: Keys, anchors: Sequence[Head] = ()) -> VerificationReport:
    """Check everything in a database, which may be in use.

    Args:
        path: the database.
        keys: public keys by their id.
        anchors: hashes that were kept elsewhere.

    Raises:
        AuditError: it cannot be read.
    """
    report = VerificationReport()
    with (
        database.translate_errors(path),
        contextlib.closing(database.open_reader(path)) as connection,
        snapshot(connection),
    ):

        def check() -> None:
            writers, damage = _writers(connection)
            for writer in writers:
                _DatabaseCheck(connection, ChainCheck(writer, keys, anchors, report), writer).run()
            if damage is not None:
                raise damage
            with _readable("?", BESIDE, "the database"):
                for writer, sequence in database.rows(connection, sql.STRAY_DIGEST):
                    raise Altered(str(writer), sequence, "is not there, but its digest is", "table record_digest")

        return verified(report, keys, anchors, str(path), check)


def _writers(connection: apsw.Connection) -> tuple[Sequence[str], Altered | None]:
    """Whose records there are; where that cannot be read, the database's own writer, and what is wrong."""
    try:
        with _readable("?", BESIDE, "the database"):
            return [str(writer) for (writer,) in database.rows(connection, sql.WRITERS)], None
    except Altered as damage:
        with _readable("?", BESIDE, "the database"):
            return [database.database_name(connection)], damage


@contextlib.contextmanager
def _readable(writer: str, sequence: int, where: str) -> Iterator[None]:
    """What is read inside has to be what SQLite writes, and its texts UTF-8; else it is said of this record."""
    try:
        yield
    except UnicodeDecodeError:
        raise Altered(writer, sequence, "was altered: it is not UTF-8", where) from None
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, IndexError) as error:
        raise Altered(writer, sequence, f"cannot be read: the database is damaged ({error})", where) from None


class _DatabaseCheck:
    """One writer's records in a database."""

    def __init__(self, connection: apsw.Connection, check: ChainCheck, writer: str) -> None:
        self._connection = connection
        self._check = check
        self._writer = writer
        self._has_gaps = version(connection) >= database.SINCE_GAPS

    def run(self) -> None:
        self._begin()
        found = self._check.found
        after, checked = found.last.sequence, -_END
        while rows := self._next(after):
            until = rows[-1][1]
            digests: dict[int, set[tuple[object, object]]] = {}
            for sequence, digest, at in self._rows(sql.DIGESTS_BETWEEN, after, until):
                digests.setdefault(sequence, set()).add((digest, at))
            self._batch(rows, digests, self._marks(after, checked, until))
            after = checked = until
        for mark in self._marks(after, checked, _END):
            self._mark(mark)
        if not found.first and not found.removed:
            raise self._check.altered(found.retained, "is missing, and so is all after it", "table record")
        self._check.end("table record")

    def _next(self, after: int) -> Sequence[Row]:
        """The records that come next; where some of them cannot be read, one by one up to the first such one."""
        try:
            rows = self._records(after, _ROWS_AT_ONCE)
        except (UnicodeDecodeError, apsw.CorruptError, apsw.SQLError):
            with _readable(self._writer, after + 1, "table record"):
                rows = self._records(after, 1)
        if any(type(row[1]) is not int for row in rows):
            what = "has a sequence that is not a number, or one after it does"
            raise self._check.altered(after + 1, what, "table record")
        return rows

    def _records(self, after: int, most: int) -> Sequence[Row]:
        return database.rows(self._connection, sql.FULL_RECORDS_AFTER, self._writer, after, most)

    def _rows(self, statement: str, *values: str | int) -> Sequence[Row]:
        """Rows that belong to what comes next."""
        with _readable(self._writer, self._check.found.last.sequence + 1, "the database"):
            return database.rows(self._connection, statement, self._writer, *values)

    def _begin(self) -> None:
        """Before the first record: what the trim mark says, or what a trim has not come round to remove."""
        if not (row := next(iter(self._rows(sql.TRIM)), ())):
            return
        mark = self._read(Trim, row, "table trim")
        self._check.mark(mark, "table trim")
        self._check.found.retained = mark.sequence
        last = Head(self._writer, mark.sequence - 1, mark.prev)
        ((first,),) = self._rows(sql.FIRST_SEQUENCE)
        if first is None or first > last.sequence:
            self._check.begin(last)
        else:
            self._check.expect(last, "the trim mark")
            ((text,),) = self._rows(sql.RECORD, first)
            record = sealed(text, self._check, first, "table record")
            self._check.begin(Head(self._writer, first - 1, record.prev))

    def _batch(
        self,
        rows: Sequence[Row],
        digests: Mapping[int, set[tuple[object, object]]],
        marks: Sequence[Checkpoint | Gap],
    ) -> None:
        waiting = list(reversed(marks))
        for row in rows:
            sequence = row[1]
            while waiting and waiting[-1].sequence < sequence:
                self._mark(waiting.pop())
            self._row(row, digests.get(sequence, set()))
        while waiting:
            self._mark(waiting.pop())

    def _mark(self, mark: Checkpoint | Gap) -> None:
        if isinstance(mark, Gap):
            self._check.gap(mark, "table gap")
        else:
            self._check.checkpoint(mark, "table checkpoint")

    def _row(self, row: Row, digests: set[tuple[object, object]]) -> None:
        *given, text = row
        sequence = given[1]
        record = sealed(text, self._check, sequence, "table record")
        if record.writer == self._writer and record.sequence != sequence:
            what = f"is not in its place; record {record.sequence} is there"
            raise self._check.altered(sequence, what, "table record")
        at = times.parse(record.time)
        for name, value, wanted in zip(_COLUMNS, given, columns(record, at), strict=True):
            if value != wanted or type(value) is not type(wanted):
                raise self._check.altered(sequence, f"has another {name} in its column", "table record")
        self._check.record(record, "table record")
        if digests != {(digest, at) for digest in records.digests(record)}:
            raise self._check.altered(sequence, "is listed under other digests", "table record_digest")

    def _marks(self, after: int, checked: int, until: int) -> list[Checkpoint | Gap]:
        """Gaps after one record and checkpoints after another, up to a third, in order."""
        gaps = self._rows(sql.GAPS_BETWEEN, after, until) if self._has_gaps else ()
        checkpoints = self._rows(sql.CHECKPOINTS_BETWEEN, checked, until)
        marks: list[Checkpoint | Gap] = [self._read(Gap, row, "table gap") for row in gaps]
        marks += [self._read(Checkpoint, row, "table checkpoint") for row in checkpoints]
        return sorted(marks, key=lambda mark: mark.sequence)  # stable: a gap before the checkpoint over it

    def _read(self, kind: type[AnyMark], row: Row, where: str) -> AnyMark:
        try:
            return mark_of(kind, row)
        except (ValueError, OverflowError, TypeError):
            raise self._check.altered(row[1], "has a checkpoint or trim mark that cannot be read", where) from None


# ---- in files


def in_order(paths: Sequence[Path]) -> list[Path]:
    """The oldest first, where the names are those of a rotated set; else as they are."""
    rotated = {path: match for path in paths if (match := _ROTATED.fullmatch(path.name)) is not None}
    ages = {path: int(match[2]) for path, match in rotated.items()}
    bases = {path.with_name(rotated[path][1]) if path in rotated else path for path in paths}
    return sorted(paths, key=lambda path: -ages.get(path, 0)) if len(bases) == 1 else list(paths)


def verify_files(paths: Sequence[Path], keys: Keys, anchors: Sequence[Head] = ()) -> VerificationReport:
    """Check files of JSON lines that follow each other, the oldest first.

    Args:
        paths: the files; a set of rotated ones is put in order.
        keys: public keys by their id.
        anchors: hashes that were kept elsewhere.

    Raises:
        AuditError: one cannot be read.
    """
    report = VerificationReport()
    files = in_order(paths)
    _require_records(files)

    return verified(report, keys, anchors, files[-1].name, _FileCheck(files, keys, anchors, report).run)


def _require_records(files: Sequence[Path]) -> None:
    """A file in which nothing is a record was not altered: it is another file.

    Raises:
        AuditError: no line of them is a record or a checkpoint.
    """
    empty = True  # nothing was written yet
    for _, line in _lines(files):
        empty = False
        with contextlib.suppress(ValueError):
            read_line(line)
            return
    if not empty:
        names = ", ".join(map(str, files))
        fix = "give the file that audit.file names and those beside it, or check the database with --data-dir"
        raise AuditError(f"{names} is not an audit record; {fix}")


class _FileCheck:
    """The records in files."""

    def __init__(self, files: Sequence[Path], keys: Keys, anchors: Sequence[Head], report: VerificationReport) -> None:
        self._files = files
        self._keys = keys
        self._anchors = anchors
        self._report = report
        self._checks: dict[str, ChainCheck] = {}
        self._current: ChainCheck | None = None
        self._heading = False

    def run(self) -> None:
        lines = _lines(self._files)
        for where, line in lines:
            read = self._read(line, where)
            self._heading = self._heading or where.endswith(" line 1")
            check = self._current = self._of(read, where)
            self._heading = self._heading and isinstance(read, Checkpoint)
            if isinstance(read, Checkpoint):
                check.checkpoint(read, where)
                continue
            # Files have what is not printable escaped, in the one way that Trow writes it.
            hashed = records.encode(read)
            content = hashed if escaped_bytes(hashed) == line else line
            record = sealed(content, check, check.found.last.sequence + 1, where)
            self._look_ahead(check, record, lines, where)
            check.record(record, where)
        for check in self._checks.values():
            check.end(self._files[-1].name)

    def _read(self, line: bytes, where: str) -> Record | Checkpoint:
        try:
            read = read_line(line)
        except ValueError as error:
            raise self._unreadable(str(error), where) from None
        if isinstance(read, Checkpoint) and checkpoint_line(read).content != line:
            raise self._unreadable("it is not in canonical form", where)
        return read

    def _unreadable(self, why: str, where: str) -> Altered:
        if (check := self._current) is None:
            return Altered("?", 1, f"was altered: {why}", where)
        return check.altered(check.found.last.sequence + 1, f"was altered: {why}", where)

    def _of(self, read: Record | Checkpoint, where: str) -> ChainCheck:
        """The check of this line's writer; a file that begins in the middle has a checkpoint over what is before."""
        if (check := self._checks.get(read.writer)) is None:
            # At its first record, or at the checkpoints that a file begins with: there is one for each writer.
            may_begin = self._heading or (isinstance(read, Record) and read.sequence == 1)
            if self._current is not None and not may_begin:
                # A line among those of another writer: its name was altered.
                return self._current
            check = self._checks[read.writer] = ChainCheck(
                read.writer, self._keys, self._anchors, self._report, _UNCOVERED_IN_A_FILE
            )
            if isinstance(read, Checkpoint):
                check.found.retained = read.sequence + 1
                check.mark(read, where)
                check.begin(Head(read.writer, read.sequence, read.hash))
        return check

    @staticmethod
    def _look_ahead(check: ChainCheck, record: Record, lines: Iterator[tuple[str, bytes]], where: str) -> None:
        """Whether the record that should be here comes later, or came before."""
        wanted = check.found.last.sequence + 1
        if record.sequence < wanted:
            raise check.altered(wanted, f"is not here; record {record.sequence} stands here once more", where)
        for later, line in lines if record.sequence > wanted else ():
            with contextlib.suppress(ValueError):
                found = read_line(line)
                if isinstance(found, Record) and (found.writer, found.sequence) == (record.writer, wanted):
                    raise check.altered(wanted, f"was moved: it stands in {later}", where)


def _lines(files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Each line, without its end, and where it stands."""
    for path in files:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(iter(functools.partial(file.readline, _LONGEST_LINE), b""), 1):
                    # A line without an end was cut off; with one of its own it is not in canonical form.
                    yield f"{path.name} line {number}", line[:-1] if line.endswith(b"\n") else line + b"\n"
        except OSError as error:
            raise AuditError(f"cannot read {path}: {error.strerror}; give the path of a readable file") from None
