"""Metadata in a database that several replicas share: nothing but the database says what a name stands for."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Final

from trow.lib.datadir import IDENTITY, DataDirectoryError, was_used
from trow.lib.files import BrokenFile, create_file, make_folder, read_bounded
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.store import SqlMetadata
from trow.metadata.transactions import blobs, facts, logins, manifests, pulls, repositories

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.access.ports import LoginFailures
    from trow.oci.digest import Digest
    from trow.oci.names import Reference, Repository, Tag
    from trow.registry.location import BlobLocation
    from trow.registry.ports import ManifestRecord, RepositoryRecord
    from trow.sql.engine import Engine
    from trow.sql.transaction import Factory

# The package of the steps of the tables by which replicas agree.
SHARED_SCHEMA: Final = "trow.metadata.shared_migrations"
_LONGEST_IDENTITY: Final = 256
_DATA_DIRECTORY: Final = "data_directory"


class SharedMetadata(SqlMetadata):
    """`SqlMetadata` beside other replicas, and the `FailedLogins` and `AllowedPulls` of all of them.

    Each look-up asks the database which digest a name stands for. Only the content comes from memory, when it is that
    of the digest which was found: it cannot have changed.
    """

    def __init__(self, engine: Engine, history: int, clock: Callable[[], float]) -> None:
        super().__init__(engine, ManifestCache(), history, clock)

    async def repository(self, repository: Repository) -> RepositoryRecord | None:
        return await self._engine.read(partial(repositories.repository, repository))

    async def manifest(self, repository: Repository, digest: Digest) -> ManifestRecord | None:
        known = self._cache.get(repository, digest)
        return await self._remembered(repository, digest, partial(manifests.manifest, repository, digest, known))

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        known = self._cache.get(repository, tag)
        return await self._remembered(repository, tag, partial(manifests.tagged_manifest, repository, tag, known))

    async def _remembered(
        self, repository: Repository, reference: Reference, make: Factory[ManifestRecord | None]
    ) -> ManifestRecord | None:
        record = await self._engine.read(make)
        if record is not None and record is not self._cache.get(repository, reference):
            self._cache.put(repository, reference, record)
        return record

    async def knows_location(self, digest: Digest | None, location: BlobLocation) -> bool:
        # As a write, because it waits for those of the digest; it changes nothing, so a full volume takes it.
        return await self._engine.write(partial(blobs.knows_location_finally, digest, location), frees=True)

    # ---- failed logins

    async def failed_logins(self, source: str, user: str) -> LoginFailures | None:
        return await self._engine.read(partial(logins.failed_logins, source, user))

    async def add_failed_login(self, source: str, user: str, at: float, window: float) -> None:
        await self._engine.write(partial(logins.add_failed_login, source, user, at, window))

    async def forget_failed_logins(self, source: str, user: str) -> None:
        await self._engine.write(partial(logins.forget_failed_logins, source, user))

    async def drop_failed_logins(self, before: float, most: int) -> None:
        await self._engine.write(partial(logins.drop_failed_logins, before, most))

    # ---- pulls that another replica has allowed

    async def allowed_pull(self, user: str, repository: Repository, digest: Digest) -> tuple[Tag, float] | None:
        return await self._engine.read(partial(pulls.allowed_pull, user, repository, digest))

    async def add_allowed_pulls(
        self, user: str, repository: Repository, digests: Sequence[Digest], tag: Tag, at: float
    ) -> None:
        await self._engine.write(partial(pulls.add_allowed_pulls, user, repository, digests, tag, at))

    async def drop_allowed_pulls(self, before: float, most: int) -> None:
        await self._engine.write(partial(pulls.drop_allowed_pulls, before, most))


async def require_same_directory(engine: Engine, directory: Path, *, new: bool) -> None:
    """See that the data directory is the one that belongs to the database, so that all replicas have the same blobs.

    The first start notes in both what they belong to.

    Args:
        engine: of the database.
        directory: the data directory, held.
        new: whether an empty database is wanted in place of one that is lost.

    Raises:
        DataDirectoryError: it is another one.
        Unavailable: the database does not work.
    """
    of_database = await engine.read(partial(facts.fact, _DATA_DIRECTORY))
    of_directory = await asyncio.to_thread(_identity, directory)
    if of_database is None:
        if not new and await asyncio.to_thread(was_used, directory):
            raise DataDirectoryError(
                f"the database in PostgreSQL holds nothing, although a registry was in {directory}: give the right "
                "postgres.url, put the database back from a backup, or begin with an empty one (trow serve "
                "--new-database)"
            )
        if of_directory is None:
            of_directory = await asyncio.to_thread(_make_identity, directory)
        of_database = await engine.write(partial(facts.agree, _DATA_DIRECTORY, of_directory))
    if of_database != of_directory:
        raise DataDirectoryError(
            f"{directory} is not the data directory that the database in PostgreSQL belongs to: all replicas need the "
            "same one, so mount a volume that they share (ReadWriteMany), or give the right --data-dir"
        )


def _identity(directory: Path) -> str | None:
    """The name that the directory has; None where it has none yet."""
    path = directory / IDENTITY
    if not path.exists():
        return None
    return _read_identity(path)


def _read_identity(path: Path) -> str:
    try:
        return read_bounded(path, _LONGEST_IDENTITY).decode("utf-8", "replace").strip()
    except BrokenFile as error:
        raise DataDirectoryError(str(error)) from None


def _make_identity(directory: Path) -> str:
    """A name for the directory; that of another replica, where one was faster."""
    make_folder(directory)
    try:
        create_file(directory / IDENTITY, f"{secrets.token_hex(16)}\n".encode())
    except FileExistsError:
        pass
    except OSError as error:
        raise DataDirectoryError(f"cannot write to {directory}: {error.strerror}; give another --data-dir") from None
    return _read_identity(directory / IDENTITY)
