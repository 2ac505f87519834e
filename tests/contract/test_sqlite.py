"""What the database in SQLite does beyond its port: its schema, its commits, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from typing import TYPE_CHECKING, Final

import apsw
import pytest

import factories
from support.core import OWNER, REPO, digest, publication, tag
from support.metadata import EmbeddedMetadata
from trow.access.identity import Grant
from trow.access.permissions import Permission
from trow.access.ports import RobotToken
from trow.lib.errors import DatabaseError, SchemaError
from trow.lib.globs import RepositoryGlob
from trow.metadata import sql
from trow.metadata.store import SCHEMA
from trow.metadata.transactions import robots
from trow.metadata.uploads import LocalUploads
from trow.oci.errors import ManifestBlobUnknown, Unavailable
from trow.oci.names import UploadId
from trow.oci.page import Page, PageRequest
from trow.registry.ports import BlobRecord, RepositoryRecord, Upload, UploadBounds
from trow.sql import connections, migrations
from trow.sql.connections import migrate
from trow.sql.sqlite import run_offline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from trow.registry.ports import PublicationResult
    from trow.sql.transaction import Result, Transaction


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trow.db"


@pytest.fixture
def metadata(path: Path) -> Iterator[EmbeddedMetadata]:
    with contextlib.closing(EmbeddedMetadata(path)) as database:
        yield database


def schema(path: Path) -> tuple[int, set[str]]:
    """The number of the schema, and the names in it."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        names = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    assert isinstance(version, int)
    return version, {str(name) for (name,) in names}


def beside(path: Path, make: Callable[..., Transaction[Result]], *values: object) -> Result:
    return run_offline(path, SCHEMA, partial(make, *values))


# The schema


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    steps = migrations.load(SCHEMA, migrations.SQLITE)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.statements and step.name for step in steps)
    assert not any("{" in statement or "--" in statement for step in steps for statement in step.statements)


def test_types_of_the_engine_are_filled_in() -> None:
    (first, *_) = migrations.load(SCHEMA, {"bytes": "BYTEA", "text": 'TEXT COLLATE "C"'})
    table = next(statement for statement in first.statements if "TABLE manifest" in statement)
    assert "content       BYTEA NOT NULL" in table
    assert 'repository    TEXT COLLATE "C" NOT NULL' in table


def test_fresh_database_has_the_newest_schema(path: Path) -> None:
    EmbeddedMetadata(path).close()
    version, names = schema(path)
    assert version == len(migrations.load(SCHEMA, migrations.SQLITE))
    assert names >= {"repository", "manifest", "tag", "tag_event", "blob", "blob_link", "upload", "robot_token"}


def test_migration_that_has_been_done_is_not_done_again(path: Path) -> None:
    EmbeddedMetadata(path).close()
    before = schema(path)
    EmbeddedMetadata(path).close()
    assert schema(path) == before


def test_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    EmbeddedMetadata(path).close()
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 1000")
    for _ in range(2):
        with pytest.raises(
            SchemaError, match=r"schema 1000, this version of Trow knows up to .*start the newer version"
        ):
            EmbeddedMetadata(path)
    assert schema(path)[0] == 1000


def test_migration_that_fails_leaves_the_schema_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = migrations.load(SCHEMA, migrations.SQLITE)
    broken = migrations.Migration(
        len(steps) + 1, "broken", ("CREATE TABLE half (a TEXT)", "CREATE TABLE half (a TEXT)")
    )
    EmbeddedMetadata(path).close()
    before = schema(path)
    monkeypatch.setattr(migrations, "load", lambda *_: [*steps, broken])
    with pytest.raises(DatabaseError, match="half"):
        EmbeddedMetadata(path)
    assert schema(path) == before
    monkeypatch.undo()
    EmbeddedMetadata(path).close()


def test_migrations_go_on_from_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [migrations.Migration(n, f"step{n}", (f"CREATE TABLE t{n} (a TEXT)",)) for n in (1, 2, 3)]
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for known in (1, 1, 3):
            monkeypatch.setattr(migrations, "load", lambda *_, known=known: steps[:known])
            assert migrate(connection, SCHEMA) == known
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()]
    assert names == ["t1", "t2", "t3"]


async def test_database_of_the_first_version_keeps_its_content(path: Path) -> None:
    image, blob, upload = factories.image(), factories.blob(), UploadId.new()
    (first, *_) = migrations.load(SCHEMA, migrations.SQLITE)
    rows: dict[str, tuple[str | bytes | float | None, ...]] = {
        "repository": (REPO,),
        "manifest": (REPO, image.digest, image.media_type, image.size, None, None, None, 5.0, "alice", image.raw),
        "tag": (REPO, "v1", image.digest),
        "tag_event": (REPO, "v1", 1, image.digest, 5.0, "alice"),
        "blob": (blob.digest, blob.size, blob.content),
        "blob_link": (REPO, blob.digest),
        "upload": (upload, REPO, "alice", "sha256", 6.0),
    }
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for statement in first.statements:
            connection.execute(statement)
        for table, row in rows.items():
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.execute("PRAGMA user_version = 1")
    for _ in range(2):
        with contextlib.closing(EmbeddedMetadata(path)) as metadata:
            found = await metadata.tagged_manifest(REPO, tag("v1"))
            assert found is not None
            assert found.content == image.raw
            assert await metadata.blob(REPO, digest(blob.digest)) == BlobRecord(blob.size, blob.content)
            uploads = await LocalUploads.opened(metadata.engine)
            assert await uploads.get(upload) == Upload(upload, REPO, "alice", "sha256", 6.0, "", empty=False)
            assert await metadata.repositories(PageRequest(9)) == Page([REPO], more=False)
            events = await metadata.tag_history(REPO, tag("v1"), PageRequest(9))
            assert events is not None
            assert [event.subject for event in events.items] == ["alice"]
            # Nobody knows when it was made: it is as old as can be, so that no token is older.
            assert await metadata.repository(REPO) == RepositoryRecord(0, "")
            assert await metadata.engine.read(robots.robot_tokens) == []
            await uploads.close()


async def test_referrers_of_the_first_version_are_listed_as_others_are(path: Path) -> None:
    subject = factories.image()
    small = factories.artifact("a/b", subject=subject, annotations={"a": "é"})
    large = factories.artifact("a/" + "b" * 300, subject=subject, annotations={"a": "b" * 70_000})
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for step in migrations.load(SCHEMA, migrations.SQLITE)[:5]:
            for statement in step.statements:
                connection.execute(statement)
        for each in (small, large):
            document = each.document
            annotations = json.dumps(document["annotations"], ensure_ascii=False)
            row = (REPO, each.digest, each.media_type, each.size, subject.digest, document["artifactType"], annotations)
            connection.execute("INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?, ?, 5.0, 'alice', ?)", (*row, each.raw))
        connection.execute("PRAGMA user_version = 5")
    with contextlib.closing(EmbeddedMetadata(path)) as metadata:
        page = await metadata.referrers(REPO, digest(subject.digest), None, PageRequest(9), 1_000_000)
        found = {each.digest: (each.artifact_type, each.annotations, each.left_out) for each in page.items}
    kind = large.document["artifactType"][:255]
    assert found == {small.digest: ("a/b", '{"a": "é"}', False), large.digest: (kind, None, True)}


def test_what_is_no_database(path: Path) -> None:
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(DatabaseError):
        EmbeddedMetadata(path)


LOOKUPS: Final = (
    sql.MANIFEST, sql.TAGGED_MANIFEST, sql.MANIFEST_SIZES, sql.REFERRERS, sql.REFERRER_SIZES, sql.REPOSITORY,
    sql.REPOSITORIES, sql.TAGS, sql.TAG, sql.TAGS_OF, sql.TAG_EVENTS, sql.LAST_TAG_EVENT, sql.BLOB,
    sql.BLOB_SIZES, sql.BLOB_FILES, sql.LOCATION, sql.LOCATION_EVER, sql.DOOMED, sql.FORGET_DOOMED, sql.TAKE_RESERVED,
    sql.HAS_BLOB, sql.REPOSITORIES_WITH, sql.UNLINK_BLOB, sql.DROP_UNLINKED_CONTENT, sql.ROBOT,
    sql.REVOKE_ROBOT,
)  # fmt: skip


@pytest.mark.parametrize("statement", LOOKUPS, ids=lambda statement: " ".join(statement.split())[:60])
async def test_table_is_reached_by_its_key(metadata: EmbeddedMetadata, path: Path, statement: str) -> None:
    """Nothing reads or sorts a whole table: a page stays as fast as it is when there are a million entries."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        values = ("x",) * statement.count("?")
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step]


async def test_some_tags_of_a_digest_are_found_without_looking_at_all(metadata: EmbeddedMetadata, path: Path) -> None:
    found: list[Sequence[object]] = []
    steps: list[int] = []
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for many in (1_000, 20_000):
            _add_tags(connection, range(many))
            steps.append(0)
            connection.set_progress_handler(lambda: _count(steps), 100)
            found.append(connection.execute(sql.TAGGED_AS, ("x", "y", 256, "x", "y", 256, 256)).fetchall())
            connection.set_progress_handler(None)
    assert list(map(len, found)) == [256, 256]
    assert steps[1] <= steps[0] + 1


def _add_tags(connection: apsw.Connection, numbers: Iterable[int]) -> None:
    with connection:
        tags = [("x", f"v{number}", "y") for number in numbers]
        connection.executemany("INSERT INTO tag VALUES (?, ?, ?) ON CONFLICT DO NOTHING", tags)
        connection.executemany("INSERT INTO tag_event VALUES (?, ?, 1, ?, 0, '') ON CONFLICT DO NOTHING", tags)


def _count(steps: list[int]) -> bool:
    steps[-1] += 1
    return False  # go on


# Robot tokens, and what other processes write


def token(name: str = "aaaaaaaaaaaa", at: float = 1.0, expires_at: float | None = None) -> RobotToken:
    grants = (
        Grant(RepositoryGlob.parse("team-a/**"), frozenset({Permission.PULL, Permission.PUSH})),
        Grant(RepositoryGlob.parse("**"), frozenset({Permission.LIST})),
    )
    return RobotToken(name, "ci", "f" * 64, grants, at, "alice", expires_at)


@pytest.mark.parametrize("expires_at", [None, 2_000_000_000.5])
async def test_robot_token_is_kept_as_it_was_made(
    metadata: EmbeddedMetadata, path: Path, expires_at: float | None
) -> None:
    made = token(expires_at=expires_at)
    beside(path, robots.add_robot_token, made)
    assert await metadata.robot_token(made.id) == made
    assert await metadata.robot_token("bbbbbbbbbbbb") is None


def test_robot_tokens_are_listed_from_the_oldest(path: Path) -> None:
    tokens = [token("cccccccccccc", 1.0), token("aaaaaaaaaaaa", 2.0), token("bbbbbbbbbbbb", 2.0)]
    assert beside(path, robots.robot_tokens) == []
    for each in reversed(tokens):
        beside(path, robots.add_robot_token, each)
    assert beside(path, robots.robot_tokens) == tokens


def test_robot_token_of_the_same_id_is_refused_and_the_first_stays(path: Path) -> None:
    beside(path, robots.add_robot_token, token())
    with pytest.raises(DatabaseError):
        beside(path, robots.add_robot_token, token(at=5.0))
    assert beside(path, robots.robot_tokens) == [token()]


async def test_robot_token_is_revoked_once_and_a_running_server_sees_it_at_once(
    metadata: EmbeddedMetadata, path: Path
) -> None:
    beside(path, robots.add_robot_token, token())
    beside(path, robots.add_robot_token, token("bbbbbbbbbbbb"))
    assert await metadata.robot_token(token().id) == token()
    assert beside(path, robots.revoke_robot_token, token().id, 7.5, "bob")
    found = await metadata.robot_token(token().id)
    assert found is not None
    assert found.revoked_at == 7.5
    assert not beside(path, robots.revoke_robot_token, token().id, 9.0, "bob")
    assert not beside(path, robots.revoke_robot_token, "cccccccccccc", 9.0, "bob")
    assert await metadata.robot_token(token().id) == found
    assert await metadata.robot_token("bbbbbbbbbbbb") == token("bbbbbbbbbbbb")


async def test_what_commands_did_waits_for_the_record_until_it_is_there(metadata: EmbeddedMetadata, path: Path) -> None:
    assert await metadata.pending_events() == []
    beside(path, robots.add_robot_token, token(at=1.0))
    beside(path, robots.revoke_robot_token, token().id, 2.0, "bob")
    beside(path, robots.revoke_robot_token, token().id, 3.0, "bob")  # changes nothing
    made, revoked = await metadata.pending_events()
    assert (made.at, made.actor, revoked.at, revoked.actor) == (1.0, "alice", 2.0, "bob")
    assert made.detail == "robot token aaaaaaaaaaaa (ci) made: pull,push on team-a/**; list on **"
    assert revoked.detail == "robot token aaaaaaaaaaaa revoked"
    assert "f" * 64 not in made.detail
    await metadata.drop_pending_events([made])
    assert await metadata.pending_events() == [revoked]
    await metadata.drop_pending_events([made, revoked])
    assert await metadata.pending_events() == []


async def test_other_process_and_the_server_write_in_turn(metadata: EmbeddedMetadata, path: Path) -> None:
    images = [factories.image() for _ in range(30)]
    writes = [asyncio.create_task(metadata.publish(publication(REPO, image))) for image in images]
    names = [f"{number:a>12}" for number in range(10)]
    await asyncio.gather(*(asyncio.to_thread(beside, path, robots.add_robot_token, token(name)) for name in names))
    await asyncio.gather(*writes)
    assert {each.id for each in await metadata.engine.read(robots.robot_tokens)} == set(names)
    for image in images:
        assert await metadata.manifest(REPO, digest(image.digest)) is not None


async def test_write_without_a_server_makes_the_database(path: Path) -> None:
    beside(path, robots.add_robot_token, token())
    with contextlib.closing(EmbeddedMetadata(path)) as metadata:
        assert await metadata.engine.read(robots.robot_tokens) == [token()]


def test_write_beside_a_newer_version_is_refused(path: Path) -> None:
    EmbeddedMetadata(path).close()
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(SchemaError, match="start the newer version"):
        beside(path, robots.robot_tokens)


def test_write_that_fails_leaves_nothing_and_no_lock(path: Path) -> None:
    def half() -> Transaction[None]:
        yield from robots.add_robot_token(token())
        yield "SELECT 1 FROM there_is_no_such_table", ()

    with pytest.raises(DatabaseError):
        beside(path, half)
    assert beside(path, robots.robot_tokens) == []
    assert beside(path, robots.pending_events) == []


# Commits


async def test_writes_that_wait_share_a_commit(path: Path) -> None:
    commits: list[float] = []
    metadata = EmbeddedMetadata(path, observe=commits.append)
    images = [factories.image() for _ in range(100)]
    await asyncio.gather(*(metadata.publish(publication(REPO, image)) for image in images))
    metadata.close()
    assert 1 <= len(commits) < 50
    assert all(seconds > 0 for seconds in commits)


async def test_one_write_of_a_shared_commit_fails_alone(metadata: EmbeddedMetadata) -> None:
    images = [factories.image() for _ in range(50)]
    answers: list[PublicationResult | BaseException] = await asyncio.gather(
        *(
            metadata.publish(publication(REPO, image, f"v{number}", require_blobs=number == 25))
            for number, image in enumerate(images)
        ),
        return_exceptions=True,
    )
    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [25]
    assert isinstance(answers[25], ManifestBlobUnknown)
    for number in range(50):
        assert (await metadata.tagged_manifest(REPO, tag(f"v{number}")) is None) == (number == 25)


async def test_what_was_asked_for_before_the_end_is_done(path: Path) -> None:
    metadata = EmbeddedMetadata(path)
    images = [factories.image() for _ in range(50)]
    writes = [asyncio.create_task(metadata.publish(publication(REPO, image))) for image in images]
    await asyncio.sleep(0)
    metadata.close()
    await asyncio.gather(*writes)
    with contextlib.closing(EmbeddedMetadata(path)) as after:
        for image in images:
            assert await after.manifest(REPO, digest(image.digest)) is not None


async def test_sessions_in_use_are_not_in_the_database(metadata: EmbeddedMetadata, path: Path) -> None:
    await metadata.uploads.begin(Upload(UploadId.new(), REPO, "", "sha256", 1.0, OWNER), UploadBounds(9, 9, 9))
    assert len(metadata.uploads) == 1
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("SELECT count(*) FROM upload").fetchall() == [(0,)]


# Errors


async def test_locked_database_is_unavailable_and_works_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_MILLISECONDS", 20)
    image, blob = factories.image(), factories.blob()
    with (
        contextlib.closing(EmbeddedMetadata(path)) as metadata,
        contextlib.closing(apsw.Connection(str(path))) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            await metadata.publish(publication(REPO, image, "v1"))
        assert str(path) not in caught.value.message
        with pytest.raises(Unavailable):
            await metadata.engine.check()
        assert await metadata.tagged_manifest(REPO, tag("v1")) is None  # reads go on
        other.execute("ROLLBACK")
        await metadata.engine.check()
        await metadata.publish(publication(REPO, image, "v1"))
        await metadata.link_blob(REPO, digest(blob.digest), BlobRecord(blob.size, blob.content))
        assert await metadata.tagged_manifest(REPO, tag("v1")) is not None


async def test_database_that_has_lost_a_table(metadata: EmbeddedMetadata, path: Path) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as other:
        other.execute("DROP TABLE tag")
    for attempt in (
        metadata.tagged_manifest(REPO, tag("v1")),
        metadata.publish(publication(REPO, factories.image(), "v1")),
    ):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert "tag" not in caught.value.message
