"""Manifests that are read again and again, kept beside the database.

A roll-out reads one tag a thousand times, and each look-up in the database releases the interpreter lock several times.
Only one process writes to an embedded database, so what is kept here can be exact: a change to a repository's manifests
or tags empties its part before it is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trow.oci.names import Reference, Repository
    from trow.registry.ports import ManifestRecord, RepositoryRecord

_MOST_BYTES: Final = 16 * 1024 * 1024
_LARGEST: Final = 64 * 1024
# What an entry takes beside its content, roughly.
_OVERHEAD: Final = 1024
_MOST_REPOSITORIES: Final = 10_000


class ManifestCache:
    """Found manifests by repository and reference, within a budget of bytes.

    Attributes:
        changes: how often anything was invalidated. What was read before the last time may be old.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.changes = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._found: dict[Repository, dict[Reference, ManifestRecord]] = {}
        self._repositories: dict[Repository, RepositoryRecord] = {}

    def get(self, repository: Repository, reference: Reference) -> ManifestRecord | None:
        """What was found last time, if nothing has changed since."""
        found = self._found.get(repository)
        return None if found is None else found.get(reference)

    def put(self, repository: Repository, reference: Reference, record: ManifestRecord) -> None:
        """Remember what was found just now. A spent budget empties everything: what is hot comes back at once."""
        size = len(record.content) + _OVERHEAD
        if len(record.content) > _LARGEST:
            return
        if (former := self.get(repository, reference)) is not None:
            size -= len(former.content) + _OVERHEAD
        if self._bytes + size > self._most_bytes:
            self._found.clear()
            self._bytes, size = 0, len(record.content) + _OVERHEAD
        self._found.setdefault(repository, {})[reference] = record
        self._bytes += size

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """What was found about the repository itself last time, if nothing has changed since."""
        return self._repositories.get(repository)

    def put_repository(self, repository: Repository, record: RepositoryRecord) -> None:
        """Remember what was found about the repository just now."""
        if len(self._repositories) >= _MOST_REPOSITORIES:
            self._repositories.clear()
        self._repositories[repository] = record

    def invalidate(self, repository: Repository) -> None:
        """Something in the repository has changed."""
        self.changes += 1
        self._repositories.pop(repository, None)
        found = self._found.pop(repository, None)
        if found is not None:
            self._bytes -= sum(len(record.content) + _OVERHEAD for record in found.values())
