"""Files and streams get every record once, in order, whatever happens to them meanwhile."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from support.trails import KEY, KEYS, content_of, full, sql, texts
from support.waiting import until
from trow.audit.sinks import FileSink, StreamSink
from trow.audit.trail import AuditTrail
from trow.audit.verify import in_order, verify_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prompt")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@contextlib.contextmanager
def followed(path: Path, database: Path | None = None, **options: Any) -> Iterator[AuditTrail]:
    with contextlib.closing(AuditTrail(database or path.parent.parent / "audit.db", KEY)) as trail:
        trail.add_sink(FileSink(path, **options))
        yield trail


def sequences(*paths: Path) -> list[int]:
    lines = [msgspec.json.decode(line) for path in paths for line in path.read_bytes().splitlines()]
    return [line["sequence"] for line in lines if "checkpoint" not in line]


def record(trail: AuditTrail, path: Path, *numbers: int) -> None:
    """Record these, and wait until the last of them is in the file."""
    for number in numbers:
        trail.record(full(number, detail=f"number {number}"))
    until(lambda: holds(content_of(path), f"number {numbers[-1]}"))


def holds(content: bytes, text: str) -> bool:
    return content.endswith(b"\n") and f'"{text}"'.encode() in content


def intact(path: Path, *more: Path) -> None:
    report = verify_files([path, *more], KEYS)
    assert (report.problem, report.unchecked) == (None, [])


def test_lines_are_the_records_as_they_were_hashed_and_checkpoints(path: Path, tmp_path: Path) -> None:
    with followed(path) as trail:
        record(trail, path, 1, 2, 3)
    lines = path.read_bytes().splitlines()
    assert [line.decode() for line in lines if b'{"checkpoint"' not in line] == texts(tmp_path / "audit.db")
    assert lines[-1].startswith(b'{"checkpoint":{"hash":"')
    assert path.stat().st_mode & 0o777 == 0o600
    intact(path)


def test_file_goes_on_after_a_restart(path: Path) -> None:
    for number in range(3):
        with followed(path) as trail:
            record(trail, path, number)
    assert sequences(path) == [1, 2, 3]
    intact(path)


def test_what_a_crash_kept_from_the_file_follows(path: Path) -> None:
    with followed(path) as trail:
        record(trail, path, *range(10))
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 1500, 0):
        path.write_bytes(content[:size])
        with followed(path):
            pass
        if size:
            assert path.read_bytes() == content
    assert sequences(path) == []  # an empty file begins with what comes next


def test_file_is_rotated_by_size_and_the_oldest_go(path: Path) -> None:
    with followed(path, most_bytes=3_000, keep=2) as trail:
        for number in range(8):
            record(trail, path, number)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    files = in_order([path.with_name(name) for name in names])
    assert all(file.stat().st_size < 3_500 for file in files)
    found = sequences(*files)
    assert found == list(range(found[0], 9))
    assert found[0] > 1
    intact(*files)


def test_no_old_file_stays_when_none_is_wanted(path: Path) -> None:
    with followed(path, most_bytes=3_000, keep=0) as trail:
        for number in range(4):
            record(trail, path, number)
    assert [file.name for file in path.parent.iterdir()] == ["audit.jsonl"]
    intact(path)


def test_file_that_somebody_moves_away_is_begun_anew(path: Path) -> None:
    with followed(path) as trail:
        record(trail, path, 1, 2)
        path.rename(path.with_name("audit.jsonl.1"))
        record(trail, path, 3)
        path.unlink()
        record(trail, path, 4)
    assert sequences(path) == [4]
    assert sequences(path.with_name("audit.jsonl.1")) == [1, 2]
    intact(path)


def test_file_that_somebody_empties_is_begun_anew(path: Path) -> None:
    with followed(path) as trail:
        record(trail, path, 1)
        os.truncate(path, 0)
        record(trail, path, 2)
    assert sequences(path) == [2]
    intact(path)


def test_records_of_another_database_are_kept_apart(path: Path, tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        with followed(path, tmp_path / name) as trail:
            record(trail, path, 1)
    intact(path)
    intact(path.with_name("audit.jsonl.1"), path)


def test_full_disk_delays_the_file_and_nothing_else(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The system refuses to let files grow, as on a full volume; the database has room in what it has already."""
    with followed(path) as trail:
        for number in range(300):
            trail.record(full(number))
        record(trail, path, 300)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = path.stat().st_size
        # Busy while the trail reads or writes; until then the log would have to grow for what comes next.
        until(lambda: sql(path.parent.parent / "audit.db", "PRAGMA wal_checkpoint(RESTART)")[0][0] == 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            trail.record(full(301, detail="number 301"))
            until(lambda: "cannot be written to file" in caplog.text)
            assert path.stat().st_size <= size + 100
            assert trail.counts().recorded == 302
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        record(trail, path, 302)
    assert sequences(path) == list(range(1, 304))
    intact(path)


def test_folder_that_cannot_be_made_keeps_nothing_from_being_recorded(path: Path, tmp_path: Path) -> None:
    path.parent.write_bytes(b"a file, no folder")
    with followed(path) as trail:
        trail.record(full(1))
        until(lambda: trail.counts().recorded == 1)
        path.parent.unlink()
        until(path.exists)
    assert sequences(path) == [1]


def test_stream_gets_every_record_once(tmp_path: Path) -> None:
    found = []
    for number in range(3):
        with (
            (tmp_path / "stream").open("wb") as stream,
            contextlib.closing(AuditTrail(tmp_path / "audit.db", KEY)) as trail,
        ):
            trail.add_sink(StreamSink(stream.fileno()))
            trail.record(full(number))
        lines = (tmp_path / "stream").read_bytes().splitlines()
        found += [line for line in lines if b'{"checkpoint"' not in line]
    assert [line.decode() for line in found] == texts(tmp_path / "audit.db")


def test_reader_that_is_slow_delays_nobody(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as pipe, open(reading, "rb") as reader:  # noqa: PTH123 - descriptors
        trail = AuditTrail(tmp_path / "audit.db", KEY)
        trail.add_sink(StreamSink(writing))
        for number in range(2000):
            trail.record(full(number))
        until(lambda: trail.counts().recorded == 2000)
        lines: list[bytes] = []

        def read() -> None:
            lines.extend(line for line in iter(reader.readline, b"") if b'{"checkpoint"' not in line)

        thread = threading.Thread(target=read)
        thread.start()
        trail.close()
        pipe.close()
        thread.join()
    assert [line.decode().removesuffix("\n") for line in lines] == texts(tmp_path / "audit.db")
