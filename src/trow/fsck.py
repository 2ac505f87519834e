"""``trow fsck``: is everything here what its name says?

Reads every blob and manifest, and looks for names that point at nothing. What is damaged can be moved to
``quarantine/``, where nothing serves it; the client's next push then puts a good copy in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import apsw

from trow.lib import private
from trow.metadata import sql
from trow.oci.digest import Digest
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_ROWS: Final = 500
_PROGRESS_EVERY: Final = 1000


@dataclass
class FsckReport:
    """What was found.

    Attributes:
        checked: how many blobs and manifests were read.
        problems: what is wrong, a sentence each.
        quarantined: how many damaged things were moved away.
        unreferenced: files that no repository knows; they do no harm but take space.
    """

    checked: int = 0
    problems: list[str] = field(default_factory=list)
    quarantined: int = 0
    unreferenced: int = 0


class Check:
    """One run over a data directory."""

    def __init__(self, directory: Path, database: Path, progress: Callable[[str], None]) -> None:
        self._blobs = FilesystemBlobs(directory)
        self._quarantine_folder = directory / "quarantine"
        self._database = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
        self._progress = progress
        self._report = FsckReport()
        self._quarantine = False

    def run(self, *, quarantine: bool) -> FsckReport:
        """Check everything."""
        self._quarantine = quarantine
        for digest, size, content in self._stored_blobs():
            self._check_blob(Digest(digest), size, content)
        for repository, digest, content in self._manifests():
            self._check_manifest(repository, Digest(digest), content)
        self._check_names()
        self._count_unreferenced()
        self._database.close()
        return self._report

    def _stored_blobs(self) -> Iterator[tuple[str, int, bytes | None]]:
        last = ""
        while rows := self._fetch(sql.ALL_BLOBS, (last, _ROWS)):
            yield from rows
            last = rows[-1][0]

    def _manifests(self) -> Iterator[tuple[str, str, bytes]]:
        repository = digest = ""
        while rows := self._fetch(sql.ALL_MANIFESTS, (repository, repository, digest, _ROWS)):
            yield from rows
            repository, digest, _ = rows[-1]

    def _fetch(self, statement: str, values: tuple[str | int, ...]) -> list[Any]:
        return self._database.execute(statement, values).fetchall()

    def _check_blob(self, digest: Digest, size: int, content: bytes | None) -> None:
        self._count()
        if content is not None:
            if Digest.of(content, digest.algorithm) != digest or len(content) != size:
                self._problem(f"blob {digest}: its content in the database is damaged")
                self._move(digest, content, lambda: self._drop_blob(digest))
            return
        try:
            actual, length = self._blobs.rehash(digest)
        except FileNotFoundError:
            self._problem(f"blob {digest}: its file is missing; push it again")
        except OSError as error:
            self._problem(f"blob {digest}: its file cannot be read ({error.strerror})")
        else:
            if actual != digest or length != size:
                self._problem(f"blob {digest}: its file is damaged")
                self._move(digest, None, lambda: self._blobs.quarantine(digest))

    def _check_manifest(self, repository: str, digest: Digest, content: bytes) -> None:
        self._count()
        if Digest.of(content, digest.algorithm) != digest:
            self._problem(f"manifest {repository}@{digest}: it is damaged")
            self._move(digest, content, lambda: self._drop_manifest(repository, digest))

    def _check_names(self) -> None:
        for repository, digest in self._database.execute(sql.DANGLING_LINKS):
            self._problem(f"repository {repository}: links blob {digest}, which is not here")
        for repository, tag, digest in self._database.execute(sql.DANGLING_TAGS):
            self._problem(f"repository {repository}: tag {tag} points at {digest}, which is not here")

    def _count_unreferenced(self) -> None:
        for digest in self._blobs.digests():
            if not self._database.execute(sql.KNOWN_BLOB, (digest,)).fetchall():
                self._report.unreferenced += 1

    def _count(self) -> None:
        self._report.checked += 1
        if self._report.checked % _PROGRESS_EVERY == 0:
            self._progress(f"{self._report.checked} checked, {len(self._report.problems)} problems")

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)

    def _move(self, digest: Digest, content: bytes | None, remove: Callable[[], object]) -> None:
        if not self._quarantine:
            return
        if content is not None:
            private.make_folder(self._quarantine_folder)
            private.make_file(self._quarantine_folder / digest)
            (self._quarantine_folder / digest).write_bytes(content)
        remove()
        self._report.quarantined += 1

    def _drop_blob(self, digest: Digest) -> None:
        with self._database:
            self._database.execute(sql.DROP_BLOB, (digest,))
            self._database.execute(sql.DROP_BLOB_LINKS, (digest,))

    def _drop_manifest(self, repository: str, digest: Digest) -> None:
        with self._database:
            self._database.execute(sql.DELETE_MANIFEST, (repository, digest)).fetchall()
            self._database.execute(sql.DROP_TAGS_OF, (repository, digest))
            self._database.execute(sql.DROP_EMPTY_REPOSITORY, (repository,))
