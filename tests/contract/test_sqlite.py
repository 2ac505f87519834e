"""What the database in SQLite does beyond its port: its schema, its commits, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import apsw
import pytest

import factories
from support.core import REPO, digest, publication, tag
from trow.metadata import migrations, sql, sqlite
from trow.metadata.sqlite import SchemaError, SqliteMetadata, migrate
from trow.oci.errors import ManifestBlobUnknown, Unavailable
from trow.oci.names import UploadId
from trow.registry.ports import BlobRecord, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trow.registry.ports import Missing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trow.db"


@pytest.fixture
def metadata(path: Path) -> Iterator[SqliteMetadata]:
    with contextlib.closing(SqliteMetadata(path)) as database:
        yield database


def schema(path: Path) -> tuple[int, set[str]]:
    """The number of the schema, and the names in it."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        names = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    assert isinstance(version, int)
    return version, {str(name) for (name,) in names}


# The schema


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    steps = migrations.load(bytes_type="BLOB", text_type="TEXT")
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.statements and step.name for step in steps)
    assert not any("{" in statement or "--" in statement for step in steps for statement in step.statements)


def test_types_of_the_engine_are_filled_in() -> None:
    (first, *_) = migrations.load(bytes_type="BYTEA", text_type='TEXT COLLATE "C"')
    table = next(statement for statement in first.statements if "TABLE manifest" in statement)
    assert "content       BYTEA NOT NULL" in table
    assert 'repository    TEXT COLLATE "C" NOT NULL' in table


def test_fresh_database_has_the_newest_schema(path: Path) -> None:
    SqliteMetadata(path).close()
    version, names = schema(path)
    assert version == len(migrations.load(bytes_type="", text_type=""))
    assert names >= {"repository", "manifest", "tag", "tag_event", "blob", "blob_link", "upload"}


def test_migration_that_has_been_done_is_not_done_again(path: Path) -> None:
    SqliteMetadata(path).close()
    before = schema(path)
    SqliteMetadata(path).close()
    assert schema(path) == before


def test_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    SqliteMetadata(path).close()
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA user_version = 1000")
    for _ in range(2):
        with pytest.raises(
            SchemaError, match=r"schema 1000, this version of Trow knows up to .*start the newer version"
        ):
            SqliteMetadata(path)
    assert schema(path)[0] == 1000


def test_migration_that_fails_leaves_the_schema_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = migrations.load(bytes_type="BLOB", text_type="TEXT")
    broken = migrations.Migration(
        len(steps) + 1, "broken", ("CREATE TABLE half (a TEXT)", "CREATE TABLE half (a TEXT)")
    )
    SqliteMetadata(path).close()
    before = schema(path)
    monkeypatch.setattr(migrations, "load", lambda **_: [*steps, broken])
    with pytest.raises(apsw.SQLError, match="half"):
        SqliteMetadata(path)
    assert schema(path) == before
    monkeypatch.undo()
    SqliteMetadata(path).close()


def test_migrations_go_on_from_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [migrations.Migration(n, f"step{n}", (f"CREATE TABLE t{n} (a TEXT)",)) for n in (1, 2, 3)]
    with contextlib.closing(apsw.Connection(":memory:")) as connection:
        for known in (1, 1, 3):
            monkeypatch.setattr(migrations, "load", lambda known=known, **_: steps[:known])
            assert migrate(connection) == known
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()]
    assert names == ["t1", "t2", "t3"]


def test_what_is_no_database(path: Path) -> None:
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(apsw.NotADBError):
        SqliteMetadata(path)


LOOKUPS: Final = (
    sql.MANIFEST, sql.TAGGED_MANIFEST, sql.HAS_MANIFEST, sql.REFERRERS, sql.REFERRER_SIZES, sql.HAS_REPOSITORY,
    sql.REPOSITORIES, sql.TAGS, sql.TAG, sql.TAGS_OF, sql.TAG_EVENTS, sql.LAST_TAG_EVENT, sql.BLOB, sql.BLOB_SIZE,
    sql.HAS_BLOB, sql.KNOWN_BLOB, sql.REPOSITORIES_WITH, sql.UNLINK_BLOB, sql.DROP_UNLINKED_CONTENT,
)  # fmt: skip


@pytest.mark.parametrize("statement", LOOKUPS, ids=lambda statement: " ".join(statement.split())[:60])
async def test_table_is_reached_by_its_key(metadata: SqliteMetadata, path: Path, statement: str) -> None:
    """Nothing reads or sorts a whole table: a page stays as fast as it is when there are a million entries."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        values = ("x",) * statement.count("?")
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step]


# Commits


async def test_writes_that_wait_share_a_commit(path: Path) -> None:
    commits: list[tuple[str, float]] = []
    metadata = SqliteMetadata(path, observe=lambda kind, seconds: commits.append((kind, seconds)))
    images = [factories.image() for _ in range(100)]
    await asyncio.gather(*(metadata.publish(publication(REPO, image)) for image in images))
    metadata.close()
    assert 1 <= len(commits) < 50
    assert {kind for kind, _ in commits} == {"commit"}
    assert all(seconds > 0 for _, seconds in commits)


async def test_one_write_of_a_shared_commit_fails_alone(metadata: SqliteMetadata) -> None:
    images = [factories.image() for _ in range(50)]
    answers: list[Missing | BaseException] = await asyncio.gather(
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
    metadata = SqliteMetadata(path)
    images = [factories.image() for _ in range(50)]
    writes = [asyncio.create_task(metadata.publish(publication(REPO, image))) for image in images]
    await asyncio.sleep(0)
    metadata.close()
    await asyncio.gather(*writes)
    with contextlib.closing(SqliteMetadata(path)) as after:
        for image in images:
            assert await after.manifest(REPO, digest(image.digest)) is not None


async def test_sessions_in_use_are_not_in_the_database(metadata: SqliteMetadata, path: Path) -> None:
    await metadata.begin_upload(Upload(UploadId.new(), REPO, "", "sha256", 1.0), 10)
    assert metadata.open_uploads() == 1
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("SELECT count(*) FROM upload").fetchall() == [(0,)]


# Errors


async def test_locked_database_is_unavailable_and_works_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MILLISECONDS", 20)
    image, blob = factories.image(), factories.blob()
    with contextlib.closing(SqliteMetadata(path)) as metadata, contextlib.closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            await metadata.publish(publication(REPO, image, "v1"))
        assert str(path) not in caught.value.message
        with pytest.raises(Unavailable):
            await metadata.check()
        assert await metadata.tagged_manifest(REPO, tag("v1")) is None  # reads go on
        other.execute("ROLLBACK")
        await metadata.check()
        await metadata.publish(publication(REPO, image, "v1"))
        await metadata.link_blob(REPO, digest(blob.digest), BlobRecord(blob.size, blob.content), UploadId.new())
        assert await metadata.tagged_manifest(REPO, tag("v1")) is not None


async def test_database_that_has_lost_a_table(metadata: SqliteMetadata, path: Path) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as other:
        other.execute("DROP TABLE tag")
    for attempt in (
        metadata.tagged_manifest(REPO, tag("v1")),
        metadata.publish(publication(REPO, factories.image(), "v1")),
    ):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert "tag" not in caught.value.message
