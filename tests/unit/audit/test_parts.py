"""Nobody pushes out what others did: parts of the record have budgets, and who holds most of one gives up most."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.clock import Clock
from support.trails import KEY, KEYS, NOW, OTHER_KEY, content_of, full, name_of, sql, write
from support.waiting import until
from trow.access.identity import Identity, Method
from trow.audit import database
from trow.audit import record as records
from trow.audit.chain import Head
from trow.audit.retention import HOLDERS, SHARES, Retention
from trow.audit.sinks import FileSink
from trow.audit.trail import AuditTrail
from trow.audit.verify import verify_database, verify_files
from trow.registry.events import Action, Event, Origin, Outcome, Part
from trow.sql import migrations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trow.audit.checks import Chain, VerificationReport

pytestmark = pytest.mark.usefixtures("prompt")

MIB: Final = 2**20
ALICE: Final = Identity("alice", Method.PASSWORD)
MALLORY: Final = Identity("mallory", Method.PASSWORD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def deed(number: int, who: Identity = ALICE, **members: Any) -> Event:
    """Something that was done by somebody who may."""
    return Event(
        Action.PUSH,
        Outcome.OK,
        actor=who,
        origin=Origin("10.0.0.1"),
        status=201,
        repository=f"team-a/app-{number}",
        **members,
    )


def refusal(number: int) -> Event:
    """A login of a stranger."""
    origin = Origin(f"10.{number >> 8}.{number & 255}.1", agent="x" * 200)
    return Event(Action.LOGIN, Outcome.DENIED, origin=origin, reason=f"wrong credentials {number}")


def review(number: int) -> Event:
    """What anybody may send who reaches the webhooks."""
    said = Identity(f"system:admin-{number}", Method.REVIEW, groups=tuple(f"g{n}{'x' * 200}" for n in range(100)))
    return Event(
        Action.ADMISSION,
        Outcome.DENIED,
        actor=said,
        origin=Origin("10.9.9.9"),
        status=200,
        reason="x" * 5000,
        detail="y" * 5000,
    )


def question(number: int) -> Event:
    """A token request that nothing is granted to."""
    origin = Origin("10.0.0.2")
    return Event(
        Action.TOKEN_ISSUE,
        Outcome.DENIED,
        actor=MALLORY,
        origin=origin,
        status=200,
        reason=f"may not {number}",
        detail="-" * 900,
    )


def report(path: Path, **options: Any) -> VerificationReport:
    """What verification says of a trail that is as it was written."""
    found = verify_database(path, KEYS, **options)
    assert (found.problem, found.unchecked) == (None, []), found
    return found


def chain_of(found: VerificationReport, part: Part) -> Chain:
    suffix = "" if part is Part.EFFECTS else f".{part.value}"
    (chain,) = [each for each in found.chains if each.writer[8:] == suffix]
    return chain


def repositories(path: Path, user: str = "alice") -> list[str]:
    rows = sql(path, "SELECT repository FROM record WHERE subject = ? AND action = 'push' ORDER BY sequence", user)
    return [name for (name,) in rows]


def bytes_of(path: Path, part: Part) -> int:
    writer = name_of(path) + ("" if part is Part.EFFECTS else f".{part.value}")
    return int(sql(path, "SELECT coalesce(sum(bytes), 0) FROM holding WHERE writer = ?", writer)[0][0])


@contextlib.contextmanager
def opened(path: Path, most: int = 8 * MIB, **options: Any) -> Iterator[AuditTrail]:
    with contextlib.closing(AuditTrail(path, KEY, retention=Retention(most_bytes=most), **options)) as trail:
        yield trail


def send(trail: AuditTrail, events: Iterable[Event]) -> None:
    """VerificationReport them, no faster than they are written."""
    for number, event in enumerate(events):
        trail.record(event)
        if number % 500 == 0:
            until(lambda: trail.counts().waiting < 1000)
    until(lambda: trail.counts().waiting == 0)


def settled(trail: AuditTrail, path: Path, part: Part, most: int = 8 * MIB) -> None:
    """The part takes no more than it may."""
    until(lambda: bytes_of(path, part) <= most * SHARES[part])


# What a part may take


def test_parts_have_the_whole_size_together() -> None:
    assert sum(SHARES.values()) == 1
    assert set(SHARES) == set(Part)


@pytest.mark.slow
def test_strangers_push_out_nothing_that_users_did(path: Path) -> None:
    with opened(path) as trail:
        send(trail, [deed(number) for number in range(50)])
        for _ in range(4):
            send(trail, map(review, range(300)))
            send(trail, map(refusal, range(5000)))
        for part in Part:
            settled(trail, path, part)
    assert repositories(path) == [f"team-a/app-{number}" for number in range(50)]
    found = report(path)
    users = chain_of(found, Part.EFFECTS)
    assert (users.first, users.retained, users.removed) == (1, 1, 0)
    for part in (Part.REVIEWS, Part.ANONYMOUS):
        chain = chain_of(found, part)
        assert chain.removed + chain.retained - 1 > 0
        assert chain.covered == chain.last.sequence


@pytest.mark.slow
def test_trims_are_on_record_in_the_part_that_was_trimmed(path: Path) -> None:
    with opened(path) as trail:
        send(trail, map(review, range(2000)))
        settled(trail, path, Part.REVIEWS)
    trims = [records.read(text) for (text,) in sql(path, "SELECT content FROM record WHERE action = 'audit.trim'")]
    assert {trim.writer for trim in trims} == {f"{name_of(path)}.reviews"}
    assert trims[-1].detail.endswith("of whoever has most removed: 10.9.9.9")


@pytest.mark.slow
def test_users_who_may_do_nothing_push_out_nothing_that_was_done(path: Path) -> None:
    with opened(path) as trail:
        send(trail, [deed(1)])
        send(trail, map(question, range(3000)))
        settled(trail, path, Part.ACCESS)
    assert repositories(path) == ["team-a/app-1"]
    assert chain_of(report(path), Part.ACCESS).removed > 0


@pytest.mark.slow
def test_what_waits_to_be_written_is_bounded_apart(path: Path) -> None:
    with opened(path, most_waiting=50) as trail:
        with contextlib.closing(database.open_writer(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            trail.record(deed(0))
            until(lambda: trail.counts().waiting == 0)  # the writer has it, and waits for the database
            for number in range(100):
                trail.record(review(number))
            for number in range(1, 40):
                trail.record(deed(number))
            other.execute("ROLLBACK")
        until(lambda: trail.counts().waiting == 0)
        until(lambda: sql(path, "SELECT count(*) FROM record WHERE action = 'audit.loss'") == [(1,)])
    assert len(repositories(path)) == 40
    (loss,) = [records.read(text) for (text,) in sql(path, "SELECT content FROM record WHERE action = 'audit.loss'")]
    assert loss.writer.endswith(".reviews")


# Shares within a part


@pytest.mark.slow
def test_one_user_pushes_out_nothing_that_others_did(path: Path) -> None:
    others = [Identity(f"user-{number}", Method.PASSWORD) for number in range(10)]
    with opened(path, 2 * MIB) as trail:
        send(trail, [deed(number, who) for number in range(5) for who in others])
        send(trail, (deed(number, MALLORY, detail="-" * 500) for number in range(2000)))
        send(trail, [deed(number, who) for number in range(5, 8) for who in others])
        send(trail, (deed(number, MALLORY, detail="-" * 500) for number in range(2000, 4000)))
        settled(trail, path, Part.EFFECTS, 2 * MIB)
    for who in others:
        assert repositories(path, who.name) == [f"team-a/app-{number}" for number in range(8)]
    kept = repositories(path, "mallory")
    assert kept[-1] == "team-a/app-3999"
    assert kept == [f"team-a/app-{number}" for number in range(4000 - len(kept), 4000)]
    chain = chain_of(report(path), Part.EFFECTS)
    assert chain.retained == 1
    assert chain.removed == 4000 - len(kept)


@pytest.mark.slow
def test_a_lone_user_has_all_of_a_part(path: Path) -> None:
    with opened(path, 2 * MIB) as trail:
        send(trail, (deed(number, detail="-" * 500) for number in range(4000)))
        settled(trail, path, Part.EFFECTS, 2 * MIB)
        assert bytes_of(path, Part.EFFECTS) > 0.8 * MIB
    assert report(path).records > 0


@pytest.mark.slow
def test_where_nobody_has_much_more_than_others_the_oldest_leave(path: Path) -> None:
    with opened(path, 2 * MIB) as trail:
        crowd = (Identity(f"user-{number % 200}", Method.PASSWORD) for number in range(4000))
        send(trail, (deed(number, who, detail="-" * 500) for number, who in enumerate(crowd)))
        settled(trail, path, Part.EFFECTS, 2 * MIB)
    chain = chain_of(report(path), Part.EFFECTS)
    assert (chain.removed, chain.first) == (0, chain.retained)
    assert HOLDERS < 200


@pytest.mark.slow
def test_thinned_trail_is_trimmed_by_age_as_every_other(path: Path) -> None:
    clock = Clock(NOW)
    with opened(path, 2 * MIB, clock=clock) as trail:
        send(trail, [deed(1)])
        send(trail, (deed(number, MALLORY, detail="-" * 500) for number in range(3000)))
        settled(trail, path, Part.EFFECTS, 2 * MIB)
    assert sql(path, "SELECT count(*) FROM gap") != [(0,)]
    clock.now += 1000
    retention = Retention(seconds=100)
    with contextlib.closing(AuditTrail(path, KEY, retention=retention, clock=clock)) as trail:
        until(lambda: sql(path, "SELECT count(*) FROM record") == [(1,)])
    assert sql(path, "SELECT count(*) FROM gap") == [(0,)]
    assert report(path).records == 1


# What verification finds


@pytest.fixture(scope="module")
def thinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trail out of which records have left between others."""
    path = tmp_path_factory.mktemp("thinned") / "audit.db"
    with opened(path, 2 * MIB) as trail:
        for start in range(0, 3000, 100):
            send(trail, [deed(start), *(deed(number, MALLORY, detail="-" * 500) for number in range(99))])
        settled(trail, path, Part.EFFECTS, 2 * MIB)
    assert repositories(path) == [f"team-a/app-{number}" for number in range(0, 3000, 100)]
    assert sql(path, "SELECT count(*) FROM gap")[0][0] > 10
    return path


def damaged(thinned: Path, folder: Path, *statements: str) -> Path:
    path = folder / "copy.db"
    path.write_bytes(thinned.read_bytes())
    for statement in statements:
        sql(path, statement)
    return path


SECOND: Final = "(SELECT sequence FROM gap ORDER BY sequence LIMIT 1 OFFSET 1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (f"DELETE FROM gap WHERE sequence = {SECOND}", "is missing; "),
        ("DELETE FROM gap", "is missing; "),
        (f"DELETE FROM record WHERE sequence = {SECOND} + 1", "is missing; records are removed from"),
        ("DELETE FROM record WHERE sequence > 2995", "is missing"),
        (f"UPDATE gap SET first = first - 1 WHERE sequence = {SECOND}", "was altered: its signature does not match"),
        (f"UPDATE gap SET hash = '{'0' * 64}' WHERE sequence = {SECOND}", "was altered: its signature does not match"),
        (f"UPDATE gap SET sequence = sequence + 1 WHERE sequence = {SECOND}", "is missing; "),
        (f"UPDATE gap SET key_id = '{OTHER_KEY.id}' WHERE sequence = {SECOND}", "signed by an unknown key"),
        (f"UPDATE gap SET at = 'then' WHERE sequence = {SECOND}", "cannot be read"),
    ],
)
def test_what_was_removed_without_a_signed_mark_is_found(
    thinned: Path, tmp_path: Path, statement: str, what: str
) -> None:
    problem = verify_database(damaged(thinned, tmp_path, statement), KEYS).problem
    assert problem is not None
    assert what in str(problem)


def test_anchor_of_a_removed_record_cannot_be_checked(thinned: Path) -> None:
    gone = Head(name_of(thinned), 2, "0" * 64)
    found = verify_database(thinned, KEYS, [gone])
    assert (found.problem, found.unchecked) == (None, ["the anchor names record 2, which is not kept any more"])


def test_anchor_of_the_last_removed_record_is_compared(thinned: Path) -> None:
    ((sequence, hash_),) = sql(thinned, "SELECT sequence, hash FROM gap ORDER BY sequence LIMIT 1")
    name = name_of(thinned)
    assert report(thinned, anchors=[Head(name, sequence, hash_)]).records > 0
    problem = verify_database(thinned, KEYS, [Head(name, sequence, "0" * 64)]).problem
    assert problem is not None
    assert problem.sequence == sequence


# Databases of before


def older(path: Path, events: Sequence[Event]) -> None:
    """A database of the first schema, which had one chain for everything."""
    write(path, events)
    for statement in ("DROP TABLE gap", "DROP TABLE holding", "PRAGMA user_version = 1"):
        sql(path, statement)
    assert migrations.load(database.SCHEMA, migrations.SQLITE)[1:]


def test_older_database_is_verified_as_it_is(path: Path) -> None:
    older(path, [full(number) for number in range(1500)])
    assert report(path).records == 1500


@pytest.mark.slow
def test_older_database_is_taken_over_and_verified(path: Path) -> None:
    older(path, [full(number) for number in range(1500)])
    with opened(path, 16 * MIB) as trail:
        send(trail, [deed(1), review(1), refusal(1)])
    found = report(path)
    assert found.records == 1503
    assert chain_of(found, Part.EFFECTS).last.sequence == 1501
    held = sql(path, "SELECT bytes FROM holding WHERE holder = 'system:serviceaccount:team-a:builder'")
    with contextlib.closing(AuditTrail(path.with_name("new.db"), KEY)) as trail:
        send(trail, [full(number) for number in range(1500)])
    assert held == sql(path.with_name("new.db"), "SELECT bytes FROM holding")


# Files


@pytest.mark.slow
def test_file_has_all_parts_and_goes_on_after_rotations_and_restarts(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    files = [file, *(file.with_name(f"audit.jsonl.{number}") for number in range(1, 5))]
    for start in range(0, 60, 20):
        with contextlib.closing(AuditTrail(path, KEY)) as trail:
            trail.add_sink(FileSink(file, most_bytes=8_000, keep=4))
            for number in range(start, start + 20):
                trail.record(deed(number))
                trail.record(refusal(number))
                if number > 45:
                    trail.record(question(number))
                trail.record(deed(number, detail=f"number {number}"))
                until(lambda: any(f'"number {number}"'.encode() in content_of(each) for each in files[:2]))  # noqa: B023
    found = verify_files(files, KEYS)
    assert (found.problem, found.unchecked) == (None, [])
    assert {chain.last.sequence for chain in found.chains} == {120, 60, 14}


def test_a_line_of_another_part_in_the_middle_of_a_file_is_found(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with contextlib.closing(AuditTrail(path, KEY)) as trail:
        trail.add_sink(FileSink(file))
        for number in range(5):
            trail.record(deed(number))
        until(lambda: trail.counts().recorded == 5)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(name_of(path).encode(), name_of(path).encode() + b".access")
    file.write_bytes(b"".join(lines))
    assert verify_files([file], KEYS).problem is not None
