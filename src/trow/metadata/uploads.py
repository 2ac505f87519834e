"""Upload sessions: of a single process, or of replicas that share a database.

Those of a single process are in memory while it runs, and in the database while it does not. Such a session need not
survive a crash, only a restart. Keeping it out of the write-ahead log saves the first request of every upload from
waiting for the flush of another commit. Those of replicas are rows from the beginning.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from trow.metadata.transactions import uploads as transactions
from trow.oci.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trow.oci.names import Repository, UploadId
    from trow.registry.ports import Upload, UploadBounds
    from trow.sql.engine import Engine

Key = TypeVar("Key")

_RETRY_SECONDS: Final = 5


class OpenUploads:
    """Sessions that are open, each group of them in the order in which they were opened.

    Args:
        uploads: those that are open, in any order.
    """

    def __init__(self, uploads: Iterable[Upload] = ()) -> None:
        self.all: dict[UploadId, Upload] = {}
        self._of_owner: dict[str, dict[UploadId, None]] = {}
        self._in_repository: dict[Repository, dict[UploadId, None]] = {}
        for upload in sorted(uploads, key=lambda each: each.used_at):
            self.add(upload)

    def victim(self, upload: Upload, bounds: UploadBounds) -> Upload | None:
        """The session that has to end for another one; None while there is room.

        Raises:
            TooManyRequests: none may end.
        """
        own = self._of_owner.get(upload.owner, {})
        here = self._in_repository.get(upload.repository, {})
        crowded = len(here) >= bounds.in_repository
        if len(own) >= bounds.of_owner:
            found = self._first_empty(each for each in own if not crowded or each in here)
            what = f"{len(own)} uploads of yours are open (limits.max_uploads_per_user)"
        elif crowded:
            found = self._first_empty(each for each in here if each in own) or self._greediest(here, upload.owner)
            what = f"{len(here)} uploads are open in this repository (limits.max_uploads_per_repository)"
        elif len(self.all) >= bounds.total:
            found = self._greediest(self.all, upload.owner)
            what = f"{len(self.all)} uploads are open (limits.max_uploads)"
        else:
            return None
        if found is None:
            raise TooManyRequests(f"{what}; finish or cancel some", retry_after=_RETRY_SECONDS)
        return found

    def _first_empty(self, uploads: Iterable[UploadId]) -> Upload | None:
        return next((self.all[each] for each in uploads if self.all[each].empty), None)

    def _greediest(self, uploads: Mapping[UploadId, object], owner: str) -> Upload | None:
        """The oldest empty session of the owner who has the most of these, if that is more than ``owner`` has."""
        if uploads is self.all:
            counts = Counter({each: len(theirs) for each, theirs in self._of_owner.items()})
        else:
            counts = Counter(self.all[each].owner for each in uploads)
        [(greediest, most)] = counts.most_common(1)
        if most <= counts[owner]:
            return None
        return self._first_empty(each for each in self._of_owner[greediest] if each in uploads)

    def add(self, upload: Upload) -> None:
        self.all[upload.id] = upload
        self._of_owner.setdefault(upload.owner, {})[upload.id] = None
        self._in_repository.setdefault(upload.repository, {})[upload.id] = None

    def remove(self, upload: Upload) -> None:
        del self.all[upload.id]
        _leave(self._of_owner, upload.owner, upload.id)
        _leave(self._in_repository, upload.repository, upload.id)


class LocalUploads:
    """The `Uploads` of a single process.

    Args:
        engine: where they are kept while the process does not run.
        uploads: those that are open.
    """

    def __init__(self, engine: Engine, uploads: Iterable[Upload] = ()) -> None:
        self._engine = engine
        self._open = OpenUploads(uploads)

    @classmethod
    async def opened(cls, engine: Engine) -> Self:
        """Take the sessions out of the database. Raises Unavailable."""
        return cls(engine, await engine.write(transactions.take))

    async def close(self) -> None:
        """Put them back. Raises Unavailable, StorageFull: they are lost, as after a crash."""
        await self._engine.write(partial(transactions.put, list(self._open.all.values())))

    def __len__(self) -> int:
        return len(self._open.all)

    async def begin(self, upload: Upload, bounds: UploadBounds) -> Upload | None:
        ended = self._open.victim(upload, bounds)
        if ended is not None:
            self._open.remove(ended)
        self._open.add(upload)
        return ended

    async def get(self, upload: UploadId) -> Upload | None:
        return self._open.all.get(upload)

    async def touch(self, upload: UploadId, at: float, *, empty: bool) -> None:
        session = self._open.all.get(upload)
        if session is not None:
            self._open.all[upload] = replace(session, used_at=at, empty=empty)

    async def save(self, upload: Upload, state: str) -> Upload | None:
        """Another process has none of them."""
        session = self._open.all.get(upload.id)
        if session is None or session.version != upload.version:
            return None
        saved = self._open.all[upload.id] = replace(session, state=state, version=session.version + 1)
        return saved

    async def end(self, upload: UploadId) -> bool:
        session = self._open.all.get(upload)
        if session is not None:
            self._open.remove(session)
        return session is not None

    async def expire(self, before: float, empty_before: float) -> Sequence[Upload]:
        expired = [each for each in self._open.all.values() if each.used_at < (empty_before if each.empty else before)]
        for upload in expired:
            self._open.remove(upload)
        return expired


class SharedUploads:
    """The `Uploads` of all replicas that share a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def begin(self, upload: Upload, bounds: UploadBounds) -> Upload | None:
        def victim(uploads: Iterable[Upload]) -> Upload | None:
            return OpenUploads(uploads).victim(upload, bounds)

        return await self._engine.write(partial(transactions.begin, upload, bounds, victim))

    async def get(self, upload: UploadId) -> Upload | None:
        return await self._engine.read(partial(transactions.get, upload))

    async def touch(self, upload: UploadId, at: float, *, empty: bool) -> None:
        await self._engine.write(partial(transactions.touch, upload, at, empty=empty))

    async def save(self, upload: Upload, state: str) -> Upload | None:
        if not await self._engine.write(partial(transactions.save, upload.id, upload.version, state)):
            return None
        return replace(upload, state=state, version=upload.version + 1)

    async def end(self, upload: UploadId) -> bool:
        return await self._engine.write(partial(transactions.end, upload), frees=True)

    async def expire(self, before: float, empty_before: float) -> Sequence[Upload]:
        return await self._engine.write(partial(transactions.expire, before, empty_before), frees=True)


def _leave(groups: dict[Key, dict[UploadId, None]], key: Key, upload: UploadId) -> None:
    """Take a session out of its group; an empty group takes no memory."""
    del groups[key][upload]
    if not groups[key]:
        del groups[key]
