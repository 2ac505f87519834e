"""Lists: repositories, tags, referrers and the history of a tag, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.oci.errors import ManifestUnknown, NameUnknown

if TYPE_CHECKING:
    from trow.oci.digest import Digest
    from trow.oci.names import Repository, Tag
    from trow.oci.page import Page, PageRequest
    from trow.registry.ports import Metadata, Referrer, TagEvent

# distribution-spec, "Listing Referrers": the answer is an index, and 4 MiB is what a manifest may have.
_MOST_REFERRER_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024


class Browse:
    """Answers what is here."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    async def repositories(self, page: PageRequest) -> Page[str]:
        """Repositories that have a manifest."""
        return await self._metadata.repositories(page)

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str]:
        """A repository's tags.

        Raises:
            NameUnknown: there is no such repository.
        """
        tags = await self._metadata.tags(repository, page)
        if tags is None:
            raise NameUnknown("there is no such repository", {"name": repository})
        return tags

    async def history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent]:
        """What a tag pointed at, newest first.

        Raises:
            ManifestUnknown: there never was such a tag.
        """
        events = await self._metadata.tag_history(repository, tag, page)
        if events is None:
            raise ManifestUnknown("the repository never had this tag", {"name": repository, "tag": tag})
        return events

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest
    ) -> Page[Referrer]:
        """Manifests whose subject this is, whether or not it exists itself."""
        return await self._metadata.referrers(repository, subject, artifact_type, page, _MOST_REFERRER_BYTES)
