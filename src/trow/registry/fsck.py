"""``trow fsck``: is everything here what its name says?

Reads every blob and manifest, and looks for names that point at nothing. What is damaged can be moved to
``quarantine/``, where nothing serves it; the client's next push then puts a good copy in its place.

Damage never ends the check: what a damaged database can still tell is read around the damage, and where it tells
nothing the blobs are compared with their own names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

from trow.oci.digest import Digest
from trow.oci.errors import BlobUnknown, DigestInvalid, Unavailable
from trow.oci.page import PageRequest
from trow.registry.location import BlobLocation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trow.registry.ports import Blobs, Inventory, StoredName

_NAMES: Final = 1000
_PROGRESS_EVERY: Final = 1000


@dataclass
class FsckReport:
    """What was found.

    Attributes:
        checked: how many blobs and manifests were read.
        problems: what is wrong, a sentence each.
        quarantined: how many damaged things were moved away.
        removed: how many names that pointed at nothing were removed.
        unreferenced: blobs that no repository knows; they do no harm but take space.
    """

    checked: int = 0
    problems: list[str] = field(default_factory=list)
    quarantined: int = 0
    removed: int = 0
    unreferenced: int = 0


class Fsck:
    """One check of everything that is stored.

    Args:
        progress: told now and then how far the check has come.
        quarantine: whether damaged content is moved away, and names that point at nothing are removed.
    """

    def __init__(
        self, blobs: Blobs, inventory: Inventory, progress: Callable[[str], None], *, quarantine: bool = False
    ) -> None:
        self._blobs = blobs
        self._inventory = inventory
        self._progress = progress
        self._quarantine = quarantine
        self._report = FsckReport()
        self._unread: set[Digest] = set()

    async def run(self) -> FsckReport:
        """Check everything."""
        await self._inventory.inspect()
        async for name in self._inventory.blobs():
            if digest := self._digest("blob", name):
                await self._check_blob(digest)
        async for repository, name in self._inventory.manifests():
            if digest := self._digest("manifest", name):
                await self._check_manifest(repository, digest)
        await self._check_names()
        last, more = "", True
        while more:
            page = await self._blobs.names(PageRequest(_NAMES, last))
            for stored in page.items:
                await self._check_stored(stored)
                last = stored.name
            more = page.more
        self._report.problems[:0] = [f"the database is damaged: {each}" for each in self._inventory.damage]
        return self._report

    def _digest(self, what: str, name: str) -> Digest | None:
        """A digest as the database has it: damage makes anything of it, also the path of another file."""
        try:
            return Digest.parse(name)
        except DigestInvalid:
            self._problem(f"the database is damaged: it has a {what} {name!r}, which is not a digest")
            return None

    async def _check_blob(self, digest: Digest) -> None:
        self._count()
        try:
            row = await self._inventory.blob(digest)
        except Unavailable as error:
            self._problem(f"blob {digest}: the database cannot tell what it is ({error}); push it again")
            self._unread.add(digest)
            return
        if row is None:  # it was deleted meanwhile
            return
        size, content, place = row
        if content is None:
            missing = f"blob {digest}: its file is missing; push it again"
            try:
                location = BlobLocation.parse(place)
            except ValueError:
                self._problem(f"{missing} ({place!r} in the database is not where a file can be)")
            else:
                await self._check_bytes(digest, location, size, missing=missing)
        elif not _is(content, digest) or len(content) != size:
            self._problem(f"blob {digest}: its content in the database is damaged")
            await self._move(digest, content, lambda: self._inventory.drop_blob(digest))

    async def _check_bytes(self, digest: Digest, location: BlobLocation, size: object = None, *, missing: str) -> None:
        """Read a blob; ``missing`` is the problem when it is not here, if that is one."""
        hasher, length = hashlib.new(digest.algorithm), 0
        try:
            async for piece in self._blobs.read(location):
                hasher.update(piece)
                length += len(piece)
        except BlobUnknown:
            if missing:
                self._problem(missing)
        except Unavailable as error:
            self._problem(f"blob {digest}: its file cannot be read: {error}")
        else:
            if Digest.from_hash(hasher) != digest or size not in (None, length):
                self._problem(f"blob {digest}: its file is damaged")
                await self._move(digest, location)

    async def _check_manifest(self, repository: str, digest: Digest) -> None:
        self._count()
        try:
            content = await self._inventory.manifest(repository, digest)
        except Unavailable as error:
            self._problem(f"manifest {repository}@{digest}: it cannot be read ({error}); push it again")
            return
        if content is not None and not _is(content, digest):
            self._problem(f"manifest {repository}@{digest}: it is damaged")
            await self._move(digest, content, lambda: self._inventory.drop_manifest(repository, digest))

    async def _check_names(self) -> None:
        """Look for links and tags that lead nowhere."""
        for repository, digest in await self._inventory.dangling_links():
            self._problem(f"repository {repository}: links blob {digest}, which is not here")
            if self._quarantine and await self._inventory.unlink_blob(repository, digest):
                self._report.removed += 1
        for repository, tag, digest in await self._inventory.dangling_tags():
            self._problem(f"repository {repository}: tag {tag} points at {digest}, which is not here")
            if self._quarantine and await self._inventory.delete_tag(repository, tag):
                self._report.removed += 1

    async def _check_stored(self, stored: StoredName) -> None:
        """Check what no row has led to."""
        if stored.location is None:
            wrong = f"it cannot be read ({stored.error})" if stored.error else "no blob has such a name"
            self._problem(f"blobs/{stored.name}: {wrong}")
            return
        known, digest = await self._inventory.knows_location(stored.location), stored.location.digest
        if known is False:
            self._report.unreferenced += 1
        if known is None or (self._inventory.damage and not known) or digest in self._unread:
            self._count()
            if digest is not None:
                await self._check_bytes(digest, stored.location, missing="")

    def _count(self) -> None:
        self._report.checked += 1
        if self._report.checked % _PROGRESS_EVERY == 0:
            self._progress(f"{self._report.checked} checked, {len(self._report.problems)} problems")

    def _problem(self, text: str) -> None:
        self._report.problems.append(text)

    async def _move(self, digest: Digest, damaged: object, remove: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Move something damaged away: what is at a location, or content that is removed from the database then."""
        if not self._quarantine:
            return
        try:
            bare = damaged if isinstance(damaged, (BlobLocation, bytes)) else str(damaged).encode()
            await self._blobs.quarantine(digest, bare)
        except Unavailable as error:
            self._problem(f"{digest}: it cannot be moved to the folder quarantine: {error}")
            return
        if remove is None or await remove():
            self._report.quarantined += 1
        else:
            self._problem(f"{digest}: it cannot be removed from the database; recover that first (trow recover)")


def _is(content: object, digest: Digest) -> TypeGuard[bytes]:
    """Whether this is what the digest names: damage makes other kinds of values of what were bytes."""
    return isinstance(content, bytes) and Digest.of(content, digest.algorithm) == digest
