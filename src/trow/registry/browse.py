"""Lists: repositories, tags, referrers and the history of a tag, page by page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from trow.oci.errors import ManifestUnknown, NameUnknown, Unavailable
from trow.oci.names import Repository
from trow.oci.page import NameRange, Page, PageRequest
from trow.registry.ports import ScanPage

if TYPE_CHECKING:
    from trow.oci.digest import Digest
    from trow.oci.names import Tag
    from trow.registry.actor import Actor
    from trow.registry.ports import Metadata, Referrer, TagEvent

# distribution-spec, "Listing Referrers": the answer is an index, and 4 MiB is what a manifest may have.
_MOST_REFERRER_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024

# How much of the list of repositories one request may read to find those that it shows.
_LEAST_READ: Final = 1000
_MOST_READS: Final = 1000
# A cluster is asked about each namespace. What it has said is remembered for a while, so the next try gets further.
_LONGEST_SECONDS: Final = 10.0


class Browse:
    """Answers what the registry holds."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def repositories(self, page: PageRequest, actor: Actor, text: str = "") -> Page[str]:
        """Repositories that have a manifest, are visible to the actor and have ``text`` in their names.

        What is not visible is skipped, also between pages: not even its name may show up in a link.

        Raises:
            Unavailable: too many were read in vain, or it took too long.
        """
        within = [NameRange.beginning_with(each) for each in actor.prefixes()]
        found: list[str] = []
        at, size = page.last, max(page.limit + 1, _LEAST_READ)
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                for _ in range(_MOST_READS):
                    if text:
                        scan = await self._metadata.search_repositories(text, PageRequest(size, at), within)
                    else:
                        read = await self._metadata.repositories(PageRequest(size, at), within)
                        scan = ScanPage(read.items, read.items[-1] if read.more else None)
                    names = [Repository(name) for name in scan.names]
                    found += [name for name, shown in zip(names, await actor.visible(names), strict=True) if shown]
                    if len(found) > page.limit or scan.cursor is None:
                        return Page(found[: page.limit], more=page.limit > 0 and len(found) > page.limit)
                    at = scan.cursor
                    await asyncio.sleep(0)  # others get their turn
        except TimeoutError:
            raise Unavailable(
                "finding out which repositories you may see takes too long; try again, or ask for the"
                " right to list and pull all of them"
            ) from None
        raise Unavailable(
            "too many repositories were read that you may not see; ask for the right to list and pull all of them"
        )

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str]:
        """A repository's tags.

        Raises:
            NameUnknown: there is no such repository.
        """
        tags = await self._metadata.tags(repository, page)
        if tags is None:
            raise NameUnknown(f"there is no repository {repository}; push to it first", {"name": repository})
        return tags

    async def history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent]:
        """What a tag pointed at, newest first.

        Raises:
            ManifestUnknown: there never was such a tag.
        """
        events = await self._metadata.tag_history(repository, tag, page)
        if events is None:
            what = f"{repository} never had the tag {tag}"
            raise ManifestUnknown(f"{what}; check the name and the tag", {"name": repository, "tag": tag})
        return events

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest
    ) -> Page[Referrer]:
        """Manifests whose subject this is, whether or not it exists itself."""
        return await self._metadata.referrers(repository, subject, artifact_type, page, _MOST_REFERRER_BYTES)
