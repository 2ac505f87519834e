"""``trow fsck``: is everything here what its name says?

Reads every blob and manifest, and looks for names that point at nothing. What is damaged can be moved to
``quarantine/``, where nothing serves it; the client's next push then puts a good copy in its place.

Damage never ends the check: what a database with damaged pages can still tell is read around them, and where it tells
nothing the files are held against their own names.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import apsw

from trow.lib import private
from trow.metadata import sql
from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_ROWS: Final = 500
_PROGRESS_EVERY: Final = 1000
# Of one database; it is damaged anyhow.
_MOST_COMPLAINTS: Final = 100
# What a row raises that cannot be read: the second where a text is damaged that is none any more.
_UNREADABLE: Final = (apsw.Error, UnicodeDecodeError)


@dataclass
class FsckReport:
    """What was found.

    Attributes:
        checked: how many blobs and manifests were read.
        problems: what is wrong, a sentence each.
        quarantined: how many damaged things were moved away.
        removed: how many names that pointed at nothing were removed.
        unreferenced: files that no repository knows; they do no harm but take space.
    """

    checked: int = 0
    problems: list[str] = field(default_factory=list)
    quarantined: int = 0
    removed: int = 0
    unreferenced: int = 0


class Records:
    """The rows of a database that may be damaged, or not be there at all.

    Args:
        path: the database.
        problem: told what cannot be read.
    """

    def __init__(self, path: Path, problem: Callable[[str], None]) -> None:
        self._problem = problem
        self._connection: apsw.Connection | None = None
        self.damaged = False
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            self._connection.set_busy_timeout(5_000)
        except apsw.Error as error:
            self._complain(f"it cannot be opened ({error})")

    def close(self) -> None:
        """Close the database."""
        if self._connection is not None:
            self._connection.close()

    def inspect(self) -> None:
        """Have SQLite look at every page."""
        for (line,) in self.rows(f"PRAGMA integrity_check({_MOST_COMPLAINTS})", "structure"):
            if line != "ok":
                self._complain(str(line))

    def keys(self, walk: sql.Walk) -> Iterator[tuple[str, ...]]:
        """The keys of a table, each once; where a page cannot be read, all that other ways lead to."""
        last = walk.first
        while True:
            some, error = self._read(walk.up, (*last, _ROWS))
            yield from some
            if error is not None:
                self._complain(f"its {walk.table} cannot be read in order ({error})")
                yield from self._other_ways(walk, some[-1] if some else last)
            if error is not None or not some:
                return
            last = some[-1]

    def _other_ways(self, walk: sql.Walk, last: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """Down from the end, and through the table without its index."""
        seen: set[tuple[str, ...]] = set()
        for statement in (walk.down, walk.scan):
            for row in self._read(statement)[0]:
                key = row[: len(walk.first)]
                if all(isinstance(part, str) for part in key) and key > last and key not in seen:
                    seen.add(key)
                    yield key

    def row(self, statement: str, key: Sequence[str]) -> tuple[Any, ...] | None:
        """One row. None when there is none.

        Raises:
            apsw.Error, UnicodeDecodeError: it cannot be read.
        """
        assert self._connection is not None  # noqa: S101 - whoever has a key had it from there
        return next(iter(self._connection.execute(statement, tuple(key)).fetchall()), None)

    def rows(self, statement: str, what: str) -> Sequence[tuple[Any, ...]]:
        """All rows that can be read."""
        found, error = self._read(statement)
        if error is not None:
            self._complain(f"its {what} cannot be read to the end ({error})")
        return found

    def knows(self, digest: Digest) -> bool | None:
        """Whether a blob is known; None when that cannot be read."""
        if self._connection is None:
            return None
        try:
            return self.row(sql.KNOWN_BLOB, (digest,)) is not None
        except apsw.Error:
            return None

    def change(self, *statements: tuple[str, tuple[str, ...]]) -> bool:
        """Change something; whether that was possible."""
        assert self._connection is not None  # noqa: S101 - as above
        try:
            with self._connection:
                for statement, values in statements:
                    self._connection.execute(statement, values).fetchall()
        except apsw.Error:
            return False
        return True

    def _read(
        self, statement: str, values: tuple[str | int, ...] = ()
    ) -> tuple[Sequence[tuple[Any, ...]], Exception | None]:
        """The rows up to the end, or to an error."""
        found: list[tuple[Any, ...]] = []
        try:
            for row in self._connection.execute(statement, values) if self._connection is not None else ():
                found.append(row)  # noqa: PERF402 - those before an error are wanted
        except _UNREADABLE as error:
            return found, error
        return found, None

    def _complain(self, text: str) -> None:
        self.damaged = True
        self._problem(f"the database is damaged: {text}")


class Check:
    """One run over a data directory."""

    def __init__(self, directory: Path, database: Path, progress: Callable[[str], None]) -> None:
        self._blobs = FilesystemBlobs(directory)
        self._quarantine_folder = directory / "quarantine"
        self._report = FsckReport()
        self._records = Records(database, self._problem)
        self._progress = progress
        self._quarantine = False

    def run(self, *, quarantine: bool) -> FsckReport:
        """Check everything."""
        self._quarantine = quarantine
        with contextlib.closing(self._records):
            self._records.inspect()
            for (name,) in self._records.keys(sql.BLOB_KEYS):
                if digest := self._digest("blob", name):
                    self._check_blob(digest)
            for repository, name in self._records.keys(sql.MANIFEST_KEYS):
                if digest := self._digest("manifest", name):
                    self._check_manifest(repository, digest)
            self._check_names()
            self._check_files()
        return self._report

    def _digest(self, what: str, name: object) -> Digest | None:
        """A digest as the database has it: damage makes anything of it, also the path of another file."""
        try:
            return Digest.parse(str(name))
        except DigestInvalid:
            self._problem(f"the database is damaged: it has a {what} {name!r}, which is no digest")
            return None

    def _check_blob(self, digest: Digest) -> None:
        self._count()
        try:
            row = self._records.row(sql.BLOB_BY_DIGEST, (digest,))
        except _UNREADABLE as error:
            self._problem(f"blob {digest}: the database cannot tell what it is ({error}); push it again")
            if self._blobs.path(digest).exists():
                self._check_file(digest)
            return
        if row is None:  # it was deleted meanwhile
            return
        size, content = row
        if content is None:
            self._check_file(digest, size)
        elif not _is(content, digest) or len(content) != size:
            self._problem(f"blob {digest}: its content in the database is damaged")
            self._move(digest, content, lambda: self._drop_blob(digest))

    def _check_file(self, digest: Digest, size: int | None = None) -> None:
        try:
            actual, length = self._blobs.rehash(digest)
        except FileNotFoundError:
            self._problem(f"blob {digest}: its file is missing; push it again")
        except OSError as error:
            self._problem(f"blob {digest}: its file cannot be read ({error.strerror})")
        else:
            if actual != digest or (size is not None and length != size):
                self._problem(f"blob {digest}: its file is damaged")
                self._move(digest, None, lambda: self._take_away(digest))

    def _check_manifest(self, repository: str, digest: Digest) -> None:
        self._count()
        try:
            row = self._records.row(sql.MANIFEST, (repository, digest))
        except _UNREADABLE as error:
            self._problem(f"manifest {repository}@{digest}: it cannot be read ({error}); push it again")
            return
        if row is not None and not _is(row[2], digest):
            self._problem(f"manifest {repository}@{digest}: it is damaged")
            self._move(digest, row[2], lambda: self._drop_manifest(repository, digest))

    def _check_names(self) -> None:
        for repository, digest in self._records.rows(sql.DANGLING_LINKS, "links"):
            self._problem(f"repository {repository}: links blob {digest}, which is not here")
            self._remove((sql.UNLINK_BLOB, (repository, digest)))
        for repository, tag, digest in self._records.rows(sql.DANGLING_TAGS, "tags"):
            self._problem(f"repository {repository}: tag {tag} points at {digest}, which is not here")
            self._remove((sql.DELETE_TAG, (repository, tag)))

    def _check_files(self) -> None:
        """Files that no row has led to."""
        for path, digest in self._blobs.files(self._unreadable):
            if digest is None:
                self._problem(f"blobs/{path}: no blob has such a name")
                continue
            known = self._records.knows(digest)
            if known is False:
                self._report.unreferenced += 1
            if known is None or (self._records.damaged and not known):
                self._count()
                self._check_file(digest)

    def _unreadable(self, error: OSError) -> None:
        self._problem(f"{error.filename}: it cannot be read ({error.strerror})")

    def _count(self) -> None:
        self._report.checked += 1
        if self._report.checked % _PROGRESS_EVERY == 0:
            self._progress(f"{self._report.checked} checked, {len(self._report.problems)} problems")

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)

    def _move(self, digest: Digest, content: object, remove: Callable[[], bool]) -> None:
        if not self._quarantine:
            return
        try:
            private.make_folder(self._quarantine_folder)
            if content is not None:
                private.make_file(self._quarantine_folder / digest)
                (self._quarantine_folder / digest).write_bytes(_bytes(content))
            removed = remove()
        except OSError as error:
            self._problem(f"{digest}: it cannot be moved to {self._quarantine_folder} ({error.strerror})")
            return
        if removed:
            self._report.quarantined += 1
        else:
            self._problem(f"{digest}: it cannot be removed from the database, which has to be recovered first")

    def _take_away(self, digest: Digest) -> bool:
        self._blobs.quarantine(digest)
        return True

    def _drop_blob(self, digest: Digest) -> bool:
        return self._records.change((sql.DROP_BLOB, (digest,)), (sql.DROP_BLOB_LINKS, (digest,)))

    def _drop_manifest(self, repository: str, digest: Digest) -> bool:
        return self._records.change(
            (sql.DELETE_MANIFEST, (repository, digest)),
            (sql.DROP_TAGS_OF, (repository, digest)),
            (sql.DROP_EMPTY_REPOSITORY, (repository,)),
        )

    def _remove(self, *statements: tuple[str, tuple[str, ...]]) -> None:
        if self._quarantine and self._records.change(*statements):
            self._report.removed += 1


def _is(content: object, digest: Digest) -> bool:
    """Whether this is what the digest names: damage makes other kinds of values of what were bytes."""
    return isinstance(content, bytes) and Digest.of(content, digest.algorithm) == digest


def _bytes(content: object) -> bytes:
    return content if isinstance(content, bytes) else str(content).encode()
