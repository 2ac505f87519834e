"""Whatever is altered in a trail is found, and named."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pytest

from support.trails import KEY, KEYS, OTHER_KEY, content_of, copy, full, read, sql, texts, write
from support.waiting import until
from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import UNSEALED, Head
from trow.audit.errors import AuditError
from trow.audit.record import Record
from trow.audit.sinks import FileSink, read_line
from trow.audit.trail import AuditTrail
from trow.audit.verify import in_order, verify_database, verify_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trow.audit.checks import Altered

pytestmark = pytest.mark.usefixtures("prompt")

COUNT = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail of five records, every member set, with a checkpoint over the second and the last."""
    path = tmp_path_factory.mktemp("whole") / "audit.db"
    write(path, [full(1), full(2)])
    return write(path, [full(number) for number in range(3, COUNT + 1)])


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail of enough records that there has to be a checkpoint."""
    return write(tmp_path_factory.mktemp("long") / "audit.db", (full(number) for number in range(2500)))


@pytest.fixture
def altered(whole: Path, tmp_path: Path) -> Path:
    return copy(whole, tmp_path)


def problem(path: Path, **options: Any) -> Altered:
    found = verify_database(path, **{"keys": KEYS} | options).problem
    assert found is not None
    return found


def at(path: Path, **options: Any) -> int:
    return problem(path, **options).sequence


def test_what_nobody_has_altered_is_intact(whole: Path, long: Path) -> None:
    for path, count in ((whole, COUNT), (long, 2500)):
        report = verify_database(path, KEYS)
        assert (report.problem, report.unchecked, report.records) == (None, [], count)
        assert [(found.first, found.last.sequence, found.covered) for found in report.chains] == [(1, count, count)]


def test_trail_without_records_is_intact(tmp_path: Path) -> None:
    report = verify_database(write(tmp_path / "audit.db", []), KEYS)
    assert (report.problem, report.records, report.chains) == (None, 0, [])


# Members of a record


def members(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each text and number of a document."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from members(member, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from members(item, (*path, number))
    else:
        yield path


def change(document: Any, path: Sequence[str | int], value: Callable[[Any], Any]) -> None:
    parent = functools.reduce(lambda found, name: found[name], path[:-1], document)
    parent[path[-1]] = value(parent[path[-1]])


def other(value: Any) -> Any:
    return value + 1 if isinstance(value, int) else ("1" if value[0] == "0" else "0") + value[1:]


def encode(document: Any) -> str:
    return msgspec.json.encode(document, order="sorted").decode()


def flips(text: str) -> Iterator[tuple[str, str]]:
    """The record with each of its members changed, and with each taken away."""
    for path in members(msgspec.json.decode(text)):
        document = msgspec.json.decode(text)
        change(document, path, other)
        yield f"{path}", encode(document)
    for name in msgspec.json.decode(text):
        document = msgspec.json.decode(text)
        del document[name]
        yield f"without {name}", encode(document)


@pytest.mark.slow
def test_every_member_of_every_record_is_guarded(whole: Path, tmp_path: Path) -> None:
    path, seen = copy(whole, tmp_path), 0
    for sequence, text in enumerate(texts(whole), 1):
        for name, changed in flips(text):
            sql(path, "UPDATE record SET content = ? WHERE sequence = ?", changed, sequence)
            assert at(path, keys=KEYS if seen % 4 else {}) == sequence, name
            seen += 1
        sql(path, "UPDATE record SET content = ? WHERE sequence = ?", text, sequence)
    assert seen > 300
    assert verify_database(path, KEYS).problem is None


@pytest.mark.parametrize("content", [None, 5, b"\xff", "", "{}", "null", " "])
def test_record_that_is_none_any_more_is_named(altered: Path, content: object) -> None:
    sql(altered, "PRAGMA ignore_check_constraints = 1")
    sql(altered, "UPDATE record SET content = coalesce(?, '') WHERE sequence = 3", content)
    assert at(altered) == 3


@pytest.mark.parametrize("sequence", range(1, COUNT + 1))
@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("record", "content", "sequence = {}"),
        ("record", "subject", "sequence = {}"),
        ("record", "digest", "sequence = {}"),
        ("record_digest", "digest", "digest = (SELECT max(digest) FROM record_digest WHERE sequence = {})"),
    ],
)
def test_bytes_that_are_no_text_are_named_by_their_record(
    altered: Path, table: str, column: str, where: str, sequence: int
) -> None:
    sql(altered, f"UPDATE {table} SET {column} = CAST(x'6162ff' AS TEXT) WHERE {where.format(sequence)}")
    found = problem(altered)
    assert "it is not UTF-8" in found.what
    # Digests are read for many records at once.
    assert found.sequence == (sequence if table == "record" else 1)


@pytest.mark.parametrize("value", ["'x'", "1.5", "x'00'"])
def test_sequence_that_is_not_a_number_is_found(altered: Path, value: str) -> None:
    sql(altered, f"UPDATE record SET sequence = {value} WHERE sequence = 3")
    assert "not a number" in problem(altered).what


@pytest.mark.parametrize("table", ["checkpoint", "trim"])
def test_mark_that_is_no_text_is_found(altered: Path, table: str) -> None:
    if table == "trim":
        sql(altered, "INSERT INTO trim SELECT writer, 2, at, hash, key_id, signature FROM checkpoint LIMIT 1")
    sql(altered, f"UPDATE {table} SET signature = CAST(x'6162ff' AS TEXT)")
    assert "it is not UTF-8" in problem(altered).what


@pytest.mark.slow
def test_no_damage_to_the_file_ends_in_anything_but_a_sentence(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    content, path, found = whole.read_bytes(), tmp_path / "damaged.db", 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 4, 40))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(AuditError):
            found += verify_database(path, KEYS).problem is not None
    assert found > 50


def test_another_way_to_write_the_same_record_is_found(altered: Path) -> None:
    sql(altered, "UPDATE record SET content = content || ' ' WHERE sequence = 2")
    assert str(problem(altered)).startswith("record 2 of writer ")
    assert "not in canonical form" in problem(altered).what


# Rows


@pytest.mark.parametrize(
    "column", ["at", "action", "outcome", "subject", "namespace", "repository", "digest", "sequence", "writer"]
)
@pytest.mark.parametrize("sequence", range(1, COUNT + 1))
def test_every_column_of_every_record_is_guarded(altered: Path, column: str, sequence: int) -> None:
    number = column in ("at", "sequence")
    sql(altered, f"UPDATE record SET {column} = {column} {'+ 1000' if number else '|| 0'} WHERE sequence = {sequence}")
    assert at(altered) == at(altered, keys={}) == sequence


@pytest.mark.parametrize("column", ["digest", "at", "writer", "sequence"])
@pytest.mark.parametrize("sequence", range(1, COUNT + 1))
def test_every_column_of_every_digest_is_guarded(altered: Path, column: str, sequence: int) -> None:
    change = f"{column} {'+ 1000' if column in ('at', 'sequence') else '|| 0'}"
    sql(
        altered,
        f"UPDATE record_digest SET {column} = {change} WHERE sequence = {sequence} AND digest LIKE '%{sequence}'",
    )
    assert at(altered) == at(altered, keys={}) == sequence


def test_digest_of_a_record_that_is_not_there_is_found(altered: Path) -> None:
    sql(altered, "INSERT INTO record_digest VALUES ('sha256:0', 1, 'ffffffff', 9)")
    assert (problem(altered).writer, at(altered)) == ("ffffffff", 9)


@pytest.mark.parametrize("sequence", range(1, COUNT + 1))
def test_every_removed_record_is_missed(altered: Path, sequence: int) -> None:
    for table in ("record", "record_digest"):
        sql(altered, f"DELETE FROM {table} WHERE sequence = {sequence}")
    assert at(altered) == at(altered, keys={}) == sequence
    assert "is missing" in problem(altered).what


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(range(1, COUNT + 1), 2)])
def test_every_swap_is_found(altered: Path, first: int, second: int) -> None:
    kept = texts(altered)
    sql(altered, "UPDATE record SET content = ? WHERE sequence = ?", kept[first - 1], second)
    sql(altered, "UPDATE record SET content = ? WHERE sequence = ?", kept[second - 1], first)
    assert at(altered) == at(altered, keys={}) == first
    assert f"record {second} is there" in problem(altered).what


@pytest.mark.parametrize("kept", range(COUNT))
def test_cut_off_end_is_missed(altered: Path, kept: int) -> None:
    for table in ("record", "record_digest"):
        sql(altered, f"DELETE FROM {table} WHERE sequence > {kept}")
    assert at(altered) == kept + 1


# Whoever can compute hashes


def reseal(path: Path, start: int, end: int, **changes: Any) -> None:
    """Change a record, and compute the hashes up to another again."""
    prev, rows = "", []
    for record in read(path)[start - 1 : end]:
        new = msgspec.structs.replace(record, hash=UNSEALED, prev=prev if record.sequence > start else record.prev)
        text, prev = chain.seal(msgspec.structs.replace(new, **changes) if record.sequence == start else new)
        rows.append((text.decode(), record.writer, record.sequence))
    with contextlib.closing(apsw.Connection(str(path))) as connection, connection:
        connection.executemany("UPDATE record SET content = ? WHERE writer = ? AND sequence = ?", rows)


@pytest.mark.parametrize("sequence", range(1, COUNT + 1))
def test_record_with_a_new_hash_is_named(altered: Path, sequence: int) -> None:
    reseal(altered, sequence, sequence, detail="harmless")
    assert at(altered) == sequence


@pytest.mark.parametrize("sequence", range(2, COUNT))
def test_record_that_follows_another_one_is_named(altered: Path, sequence: int) -> None:
    reseal(altered, sequence, sequence, prev="ab" * 32)
    assert at(altered) == at(altered, keys={}) == sequence


def test_chain_computed_anew_is_found_by_its_checkpoint(altered: Path) -> None:
    reseal(altered, 1, COUNT, detail="harmless")
    assert at(altered) == 2
    assert "its checkpoint names" in problem(altered).what


def test_chain_computed_anew_without_its_checkpoints_is_found(long: Path, tmp_path: Path) -> None:
    path = copy(long, tmp_path)
    reseal(path, 10, 2500, detail="harmless")
    sql(path, "DELETE FROM checkpoint")
    assert at(path) == 1
    assert "checkpoints were removed" in problem(path).what


def test_chain_signed_by_somebody_else_is_found(long: Path, tmp_path: Path) -> None:
    path = copy(long, tmp_path)
    reseal(path, 10, 2500, detail="harmless")
    last = read(path)[-1]
    mark = chain.checkpoint(Head(last.writer, 2500, last.hash), last.time, OTHER_KEY)
    sql(path, "DELETE FROM checkpoint")
    values = (last.writer, 2500, 0, mark.hash, mark.key, mark.signature)
    sql(path, "INSERT INTO checkpoint VALUES (?, ?, ?, ?, ?, ?)", *values)
    assert "signed by an unknown key" in problem(path).what
    sql(path, "UPDATE checkpoint SET key_id = ?", KEY.id)
    assert "signature does not match" in problem(path).what


def test_cut_off_end_with_its_checkpoints_is_found_by_an_anchor_alone(altered: Path) -> None:
    anchor = Head(read(altered)[-1].writer, COUNT, read(altered)[-1].hash)
    assert verify_database(altered, KEYS, [anchor]).problem is None
    for table in ("record", "record_digest", "checkpoint"):
        sql(altered, f"DELETE FROM {table} WHERE sequence > 2")
    assert verify_database(altered, KEYS).problem is None
    assert at(altered, anchors=[anchor]) == 3


def test_anchor_is_compared(whole: Path) -> None:
    writer = read(whole)[0].writer
    assert at(whole, anchors=[Head(writer, 3, "ab" * 32)]) == 3
    assert problem(whole, anchors=[Head("00000000", 3, "ab" * 32)]).writer == "00000000"


def test_without_a_key_that_is_said(whole: Path) -> None:
    report = verify_database(whole, {})
    assert report.problem is None
    assert len(report.unchecked) == 1
    assert "--public-key" in report.unchecked[0]


# Checkpoints and trim marks


@pytest.mark.parametrize("column", ["writer", "sequence", "at", "hash", "key_id", "signature"])
@pytest.mark.parametrize("sequence", [2, COUNT])
def test_every_column_of_a_checkpoint_is_guarded(altered: Path, column: str, sequence: int) -> None:
    value = sql(altered, f"SELECT {column} FROM checkpoint WHERE sequence = {sequence}")[0][0]
    for new in (
        [value + 1, value - 1, 10**17] if isinstance(value, int) else [other(value), value.upper(), "", value + "0"]
    ):
        if new == value:
            continue
        sql(altered, f"UPDATE checkpoint SET {column} = ? WHERE sequence = {sequence}", new)
        assert at(altered) in {sequence, new}
        key = new if column == "sequence" else sequence
        sql(altered, f"UPDATE checkpoint SET {column} = ? WHERE sequence = {key}", value)
    assert verify_database(altered, KEYS).problem is None


@pytest.fixture
def trimmed(altered: Path) -> Path:
    """The first two records have been removed by rule."""
    second = read(altered)[1]
    mark = chain.trim(Head(second.writer, 2, second.hash), "2026-01-31T08:00:00.000000Z", KEY)
    values = (mark.writer, mark.sequence, 1_769_846_400_000_000, mark.prev, mark.key, mark.signature)
    sql(altered, "INSERT INTO trim VALUES (?, ?, ?, ?, ?, ?)", *values)
    for table in ("record", "record_digest", "checkpoint"):
        sql(altered, f"DELETE FROM {table} WHERE sequence <= 2")
    report = verify_database(altered, KEYS)
    assert (report.problem, report.records, report.chains[0].retained) == (None, 3, 3)
    return altered


@pytest.mark.parametrize("column", ["writer", "sequence", "at", "prev", "key_id", "signature"])
def test_every_column_of_a_trim_mark_is_guarded(trimmed: Path, column: str) -> None:
    value = sql(trimmed, f"SELECT {column} FROM trim")[0][0]
    for new in [value + 1, value - 1, 10**17] if isinstance(value, int) else [other(value), "", value + "0"]:
        sql(trimmed, f"UPDATE trim SET {column} = ?", new)
        assert at(trimmed)
    sql(trimmed, f"UPDATE trim SET {column} = ?", value)
    assert verify_database(trimmed, KEYS).problem is None


def test_cut_off_beginning_is_missed(trimmed: Path) -> None:
    sql(trimmed, "DELETE FROM record WHERE sequence = 3")
    sql(trimmed, "DELETE FROM record_digest WHERE sequence = 3")
    assert at(trimmed) == 3
    sql(trimmed, "DELETE FROM trim")
    assert at(trimmed) == 1


def test_trail_of_which_nothing_is_left_but_its_mark_is_altered(trimmed: Path) -> None:
    for table in ("record", "record_digest", "checkpoint"):
        sql(trimmed, f"DELETE FROM {table}")
    assert at(trimmed) == 3


def test_anchor_before_what_is_kept_cannot_be_checked(trimmed: Path) -> None:
    writer = read(trimmed)[0].writer
    report = verify_database(trimmed, KEYS, [Head(writer, 1, "ab" * 32)])
    assert report.problem is None
    assert "not kept any more" in report.unchecked[0]
    assert at(trimmed, anchors=[Head(writer, 2, "ab" * 32)]) == 2


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="there is no"):
        verify_database(tmp_path / "audit.db", KEYS)
    with pytest.raises(AuditError, match="cannot read"):
        verify_files([tmp_path / "audit.jsonl"], KEYS)


# Files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """A trail in three files, the oldest first; those before them have gone already."""
    folder = tmp_path_factory.mktemp("files")
    current = folder / "audit.jsonl"
    trail = AuditTrail(folder / "audit.db", KEY)
    trail.add_sink(FileSink(current, most_bytes=9_000, keep=2))
    for number in range(1, 33):
        trail.record(full(number))
        if number % 4 == 0:
            until(lambda: f'"sequence":{number},'.encode() in content_of(current))  # noqa: B023
    trail.close()
    return in_order([folder / "audit.jsonl", folder / "audit.jsonl.1", folder / "audit.jsonl.2"])


@pytest.fixture
def lines(files: Sequence[Path], tmp_path: Path) -> Lines:
    return Lines(files, tmp_path)


class Lines:
    """All lines of the files, to be altered."""

    def __init__(self, files: Sequence[Path], folder: Path) -> None:
        self.files = [copy(path, folder) for path in files]
        self.of = [path.read_bytes().splitlines(keepends=True) for path in self.files]
        self.sequences = [self.sequence(line) for line in itertools.chain(*self.of)]

    @staticmethod
    def sequence(line: bytes) -> int:
        read = read_line(line)
        return read.sequence if isinstance(read, Record) else -read.sequence

    def problem(self, changed: Sequence[Sequence[bytes]], **options: Any) -> Altered | None:
        for path, lines in zip(self.files, changed, strict=True):
            path.write_bytes(b"".join(lines))
        return verify_files(self.files, **{"keys": KEYS} | options).problem

    def each(self) -> Iterator[tuple[int, int]]:
        for number, lines in enumerate(self.of):
            yield from ((number, index) for index in range(len(lines)))

    def copied(self) -> list[list[bytes]]:
        return [list(lines) for lines in self.of]


def test_files_that_nobody_has_altered_are_intact(files: Sequence[Path]) -> None:
    report = verify_files(list(reversed(files)), KEYS)
    assert (report.problem, report.unchecked) == (None, [])
    (found,) = report.chains
    assert found.first > 1
    assert found.last.sequence == found.covered == 32
    assert report.records == 33 - found.first


def test_files_of_a_set_are_read_the_oldest_first(tmp_path: Path) -> None:
    names = ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.10"]
    paths = [tmp_path / name for name in names]
    assert in_order(paths) == list(reversed(paths))
    others = [tmp_path / "b.jsonl.1", tmp_path / "a.jsonl"]
    assert in_order(others) == others


@pytest.mark.slow
def test_every_member_in_a_file_is_guarded(lines: Lines) -> None:
    for number, index in lines.each():
        line = lines.of[number][index]
        if (number == 1 and index in (0, 1, 3)) or (number == 0 and index in (0, 1)) or (number == 2 and index > 1):
            for name, text in flips(line.decode()):
                changed = lines.copied()
                changed[number][index] = text.encode() + b"\n"
                found = lines.problem(changed)
                assert found is not None, name
                assert found.where == f"{lines.files[number].name} line {index + 1}", name
                if not line.startswith(b'{"checkpoint"') and "writer" not in name and (number, index) != (0, 0):
                    assert found.sequence == lines.sequence(line), name


def test_every_line_that_is_removed_is_missed(lines: Lines) -> None:
    for number, index in lines.each():
        line = lines.of[number][index]
        if line.startswith(b'{"checkpoint"') and (number, index) != (0, 0):
            continue  # a checkpoint may go: later ones cover what it covered
        changed = lines.copied()
        del changed[number][index]
        found = lines.problem(changed)
        last = line == [each for each in itertools.chain(*lines.of) if not each.startswith(b'{"checkpoint"')][-1]
        assert found is not None
        if (number, index) != (0, 0):
            assert found.sequence == lines.sequence(line)
            assert "missing" in found.what or last


def test_every_swap_of_neighbours_is_found(lines: Lines) -> None:
    for number, index in lines.each():
        if index == 0 or index + 1 == len(lines.of[number]):
            continue
        first, second = lines.of[number][index : index + 2]
        if b'{"checkpoint"' in (first[:13], second[:13]):
            continue
        changed = lines.copied()
        changed[number][index : index + 2] = [second, first]
        found = lines.problem(changed)
        assert found is not None
        assert found.sequence == lines.sequence(first)
        assert "was moved: it stands in" in found.what


def test_line_that_is_there_twice_is_found(lines: Lines) -> None:
    changed = lines.copied()
    changed[1].insert(3, changed[1][2])
    found = lines.problem(changed)
    assert found is not None
    assert "once more" in found.what
    assert found.sequence == lines.sequence(lines.of[1][2]) + 1


def test_file_that_is_removed_is_missed(lines: Lines) -> None:
    last = next(-number for number in map(lines.sequence, lines.of[1]))
    found = lines.problem([lines.of[0], [], lines.of[2]])
    assert found is not None
    assert found.sequence == last + 1


@pytest.mark.parametrize("rest", [b"", b"{", b'{"checkpoint":{}}\n', b"\n", b"\xff\n", b"x" * 3_000_000])
def test_lines_that_are_none_are_named(lines: Lines, rest: bytes) -> None:
    changed = lines.copied()
    changed[2][-1] = changed[2][-1].removesuffix(b"\n") + rest
    if rest == b"\n":
        changed[2].append(rest)
    found = lines.problem(changed)
    assert found is not None
    assert found.where.startswith("audit.jsonl line ")


def test_cut_off_file_is_found_by_an_anchor(lines: Lines) -> None:
    last = [each for each in map(read_line, itertools.chain(*lines.of)) if isinstance(each, Record)][-1]
    anchor = Head(last.writer, last.sequence, last.hash)
    assert lines.problem(lines.of, anchors=[anchor]) is None
    found = lines.problem([*lines.of[:2], lines.of[2][:2]], anchors=[anchor])
    assert found is not None
    assert found.sequence == lines.sequence(lines.of[2][1]) + 1
    assert lines.problem([[], [], []], anchors=[anchor]) is not None


def test_trails_of_two_databases_in_one_set_are_told_apart(files: Sequence[Path], tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    trail = AuditTrail(tmp_path / "audit.db", KEY)
    trail.add_sink(FileSink(other))
    trail.record(full(1))
    trail.close()
    report = verify_files([*files, other], KEYS)
    assert report.problem is None
    assert len(report.chains) == 2
    assert msgspec.json.decode(records.encode(records.read(other.read_bytes().splitlines()[0])))["sequence"] == 1
