"""The trail as the rest of Trow uses it: what is reported gets on record, whatever happens to the database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import threading
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from support.clock import Clock
from support.trails import KEY, KEYS, full, name_of, read, sql, texts, write
from support.waiting import until
from trow.access.identity import ANONYMOUS, Identity, Method
from trow.audit import chain, retention, writer
from trow.audit.errors import AuditError
from trow.audit.retention import Retention
from trow.audit.store import AuditStore, WriteBatch
from trow.audit.trail import AuditTrail
from trow.audit.verify import verify_database
from trow.oci.errors import Unavailable
from trow.registry.events import Action, Event, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trow.audit.record import Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@contextlib.contextmanager
def opened(path: Path, **options: Any) -> Iterator[AuditTrail]:
    with contextlib.closing(AuditTrail(path, KEY, **options)) as trail:
        yield trail


def intact(path: Path) -> int:
    """How many records there are; none of them altered."""
    report = verify_database(path, KEYS)
    assert report.problem is None, report.problem
    assert report.unchecked == []
    return report.records


# Recording


def test_what_is_recorded_is_there_after_closing(path: Path) -> None:
    write(path, [full(number) for number in range(10)])
    assert [(record.sequence, record.repository) for record in read(path)] == [
        (number + 1, f"team-a/app-{number}") for number in range(10)
    ]
    assert intact(path) == 10


@pytest.mark.slow
def test_records_are_written_soon_without_being_asked_for(path: Path) -> None:
    with opened(path) as trail:
        trail.record(full(1))
        until(lambda: trail.counts().recorded == 1)
        assert len(texts(path)) == 1
        assert trail.counts().waiting == 0


def test_any_thread_may_record(path: Path) -> None:
    with opened(path) as trail:

        def work() -> None:
            for number in range(500):
                trail.record(full(number))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert intact(path) == 2000


@pytest.mark.slow
def test_database_is_nobody_elses(path: Path) -> None:
    with opened(path) as trail:
        trail.record(full(1))
        until(lambda: trail.counts().recorded == 1)
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


async def test_what_is_recorded_now_is_there_when_the_call_returns(path: Path) -> None:
    with opened(path, fail_closed=True) as trail:
        assert trail.fail_closed
        trail.record(full(1))
        await trail.record_now(full(2))
        assert [record.repository for record in read(path)] == ["team-a/app-1", "team-a/app-2"]


async def test_those_who_wait_share_a_commit(path: Path) -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    with opened(path) as trail:
        trail.writer.on_stored(count)
        await asyncio.gather(*(trail.record_now(full(number)) for number in range(200)))
        assert commits < 20
    assert intact(path) == 200


async def test_record_goes_on_when_the_one_who_waits_has_gone(path: Path) -> None:
    with opened(path) as trail:
        waiting = asyncio.ensure_future(trail.record_now(full(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await trail.record_now(full(2))
    assert intact(path) == 2


async def test_event_that_makes_no_sense_stops_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as trail:
        trail.record(Event(Action.PULL, status="200"))  # type: ignore[arg-type]
        await trail.record_now(full(1))
    assert "an event could not be recorded" in caplog.text
    assert trail.counts().lost == 1
    assert [record.action for record in read(path)] == ["pull", "audit.loss"]


# Starting and stopping


def test_chain_goes_on_after_a_restart(path: Path) -> None:
    write(path, [full(1), full(2)])
    write(path, [full(3)])
    first, second, third = read(path)
    assert {first.writer, second.writer, third.writer} == {first.writer}
    assert (second.prev, third.prev) == (first.hash, second.hash)
    assert intact(path) == 3


def test_each_database_has_a_writer_of_its_own(tmp_path: Path) -> None:
    (first,) = read(write(tmp_path / "one.db", [full(1)]))
    (second,) = read(write(tmp_path / "two.db", [full(1)]))
    assert first.writer != second.writer
    assert len(first.writer) == 8


def test_closing_signs_what_there_is(path: Path) -> None:
    write(path, [full(number) for number in range(5)])
    assert sql(path, "SELECT max(sequence) FROM checkpoint") == [(5,)]
    write(path, [])
    assert sql(path, "SELECT max(sequence) FROM checkpoint") == [(5,)]


def test_checkpoint_comes_with_every_thousand_records_and_at_once_after_a_crash(path: Path) -> None:
    write(path, [full(number) for number in range(4500)])
    points = [point for (point,) in sql(path, "SELECT sequence FROM checkpoint ORDER BY sequence")]
    assert all(later - earlier <= 3000 for earlier, later in zip([0, *points], points, strict=False))
    sql(path, "DELETE FROM checkpoint WHERE sequence > 4400")
    with opened(path) as trail:
        until(lambda: trail.counts().recorded == 0 and sql(path, "SELECT max(sequence) FROM checkpoint") == [(4500,)])


async def test_nothing_is_taken_after_closing(path: Path) -> None:
    with opened(path) as trail:
        pass
    trail.record(full(1))
    with pytest.raises(Unavailable):
        await trail.record_now(full(1))
    assert trail.counts().lost == 1


@pytest.mark.parametrize("content", [b"no database at all, and longer than a header is" * 10])
def test_file_that_is_no_database_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(AuditError, match=r"audit\.db"):
        AuditTrail(path, KEY)


@pytest.mark.parametrize("damage", ["UPDATE record SET content = '{}'", "DROP TABLE record", "DELETE FROM setting"])
def test_database_that_no_record_can_be_added_to_is_refused(path: Path, damage: str) -> None:
    write(path, [full(1)])
    sql(path, damage)
    with pytest.raises(AuditError, match="move it away to begin a new one"):
        AuditTrail(path, KEY)


def test_database_of_a_newer_version_is_refused(path: Path) -> None:
    write(path, [])
    sql(path, "PRAGMA user_version = 99")
    with pytest.raises(AuditError, match="newer version"):
        AuditTrail(path, KEY)
    with pytest.raises(AuditError, match="schema 99"):
        verify_database(path, KEYS)


# A database that does not take records


@contextlib.contextmanager
def no_space(path: Path) -> Iterator[None]:
    """No file may grow beyond what the log has: the system refuses to write, as on a full volume."""
    size = path.with_name("audit.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 1), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_records_outlast_a_full_disk(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with opened(path) as trail:
        await trail.record_now(full(0))
        with no_space(path):
            trail.record(full(1))
            with pytest.raises(Unavailable):
                await asyncio.gather(*(trail.record_now(full(n, detail="d" * 1000)) for n in range(2, 100)))
            with pytest.raises(Unavailable):
                await trail.record_now(full(200))
            trail.record(full(201))
        until(lambda: trail.counts().waiting == 0)
        await trail.record_now(full(202))
    repositories = [record.repository for record in read(path)]
    assert repositories[:2] == ["team-a/app-0", "team-a/app-1"]
    assert repositories[-2:] == ["team-a/app-201", "team-a/app-202"]
    assert "team-a/app-200" not in repositories
    assert intact(path) == len(repositories)
    assert trail.counts().lost == 0
    assert "the audit database does not take records" in caplog.text
    assert "the audit database takes records again" in caplog.text


@pytest.mark.slow
async def test_what_is_lost_is_on_record(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path, most_waiting=10) as trail:
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            trail.record(full(0))
            until(lambda: trail.counts().waiting == 0)  # the writer has it, and waits for the database
            for number in range(1, 26):
                trail.record(full(number))
            with pytest.raises(Unavailable):
                await trail.record_now(full(26))
            assert trail.counts().lost == 15
            other.execute("ROLLBACK")
        until(lambda: trail.counts().recorded == 12)
    *kept, loss = read(path)
    assert [record.repository for record in kept] == [f"team-a/app-{number}" for number in range(11)]
    assert (loss.action, loss.outcome, loss.count) == ("audit.loss", "failed", 15)
    assert loss.detail == "15 events before this one are not on record"
    assert [record.levelno for record in caplog.records if "being lost" in record.message] == [logging.ERROR]
    assert intact(path) == 12


# Retention


def trims(path: Path) -> list[Record]:
    return [record for record in read(path) if record.action == Action.AUDIT_TRIM.value]


def test_old_records_leave_from_checkpoint_to_checkpoint_and_on_record(path: Path) -> None:
    write(path, [full(number) for number in range(100)], now=1_000_000)
    write(path, [full(number) for number in range(50)], now=1_100_000)
    with opened(path, retention=Retention(seconds=50_000), clock=Clock(1_101_000)):
        until(lambda: sql(path, "SELECT min(sequence) FROM record") == [(101,)])
    (trim,) = trims(path)
    assert (trim.sequence, trim.count) == (151, 100)
    assert trim.detail == "records 1 to 100 removed"
    assert sql(path, "SELECT sequence FROM trim") == [(101,)]
    assert sql(path, "SELECT min(sequence) FROM record_digest") == [(101,)]
    assert sql(path, "SELECT min(sequence) FROM checkpoint") == [(150,)]
    assert intact(path) == 51


@pytest.mark.slow
def test_nothing_leaves_because_a_clock_is_set_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that thinks for a minute that it is ten years later would have an empty record after it."""
    monkeypatch.setattr(retention, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(retention, "_SIZE_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_LATE_SECONDS", 0.01)
    write(path, [full(number) for number in range(10)], now=999_900)
    clock = Clock(1_000_000)
    with opened(path, retention=Retention(seconds=1_000), clock=clock) as trail:
        for hours in (0, 1, 24 * 365 * 10, -1):
            clock.now = 1_000_000 + hours * 3600
            for number in range(5):
                trail.record(full(number))
                until(lambda: trail.counts().waiting == 0)
    assert trims(path) == []
    assert intact(path) == 30


def test_nothing_leaves_that_is_young_enough(path: Path) -> None:
    write(path, [full(number) for number in range(10)], now=1_000_000)
    write(path, [full(1)], now=1_000_100, retention=Retention(seconds=1_000, most_bytes=10**9))
    assert intact(path) == 11


def used(path: Path) -> int:
    """How many bytes the pages of the database take that have something in them."""
    pages, free, size = (sql(path, f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def several(number: int) -> Event:
    """By one user of a hundred."""
    return full(number, actor=Identity(f"user-{number % 100}", Method.PASSWORD))


@pytest.mark.slow
def test_trail_is_kept_to_its_size(path: Path) -> None:
    write(path, (several(number) for number in range(6000)))
    most = used(path) * 4 // 3  # of which a half is for what users did
    with opened(path, retention=Retention(most_bytes=most)) as trail:
        until(lambda: sql(path, "SELECT count(*) FROM trim") == [(1,)])
        (retained,) = sql(path, "SELECT sequence FROM trim")[0]
        until(lambda: sql(path, "SELECT min(sequence) FROM record") == [(retained,)])
        assert trail.counts().recorded == 1
    assert used(path) <= most * 0.6
    assert retained < 5000
    assert intact(path) == 6001 - retained + 1


@pytest.mark.slow
def test_trim_that_was_interrupted_is_no_attack_and_goes_on(path: Path) -> None:
    write(path, [full(number) for number in range(2500)])
    with contextlib.closing(AuditStore(path)) as store:
        last = store.checkpoint_up_to(store.name, 2499)
        assert last is not None
        store.commit(WriteBatch(trims=[chain.trim(last, "2026-01-31T08:00:00.000000Z", KEY)]))
        assert intact(path) == 2500
        store.drop_before(store.name, [], 700)
        assert intact(path) == 1801
    with opened(path):
        until(lambda: sql(path, "SELECT min(sequence) FROM record") == [(last.sequence + 1,)])
    assert intact(path) == 2500 - last.sequence


@pytest.mark.slow
def test_what_the_webhook_has_not_had_stays_until_the_size_forbids_it(path: Path) -> None:
    with opened(path, webhook=True, clock=Clock(1_000_000)) as trail:
        for number in range(3000):
            trail.record(several(number))
    with opened(path, webhook=True, retention=Retention(seconds=100), clock=Clock(1_101_000)) as trail:
        trail.record(full(1))
        until(lambda: trail.counts().recorded == 1)
        assert trail.counts().unsent == 3001
    assert trims(path) == []
    name = name_of(path)
    with opened(path, webhook=True, retention=Retention(most_bytes=2_000_000)) as trail:
        until(lambda: sql(path, "SELECT count(*) FROM trim") == [(1,)])
        until(lambda: trail.writer.positions.get("webhook", name) != 0)
        retained = sql(path, "SELECT sequence FROM trim")[0][0]
        assert trail.writer.positions.get("webhook", name) == retained - 1
    (trim,) = trims(path)
    assert (
        trim.detail == f"records 1 to {retained - 1} removed; {retained - 1} of them had not been sent to the webhook"
    )
    assert intact(path)


def test_anonymous_event_is_recorded_without_an_actor(path: Path) -> None:
    (record,) = read(write(path, [Event(Action.PULL, Outcome.DENIED, actor=ANONYMOUS, status=401)]))
    assert (record.actor, record.workload, record.client) == (None, None, None)
    assert (record.outcome, record.status) == ("denied", 401)
