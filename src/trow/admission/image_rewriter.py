"""The names that Pods get for their images, where policies change these."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trow.policy.changes import pinned, prefixes_of, reference_of, renamed
from trow.policy.facts import Need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trow.admission.judge import BoundedLookup
    from trow.oci.digest import Digest
    from trow.policy.images import ImageReference
    from trow.policy.verdict import ImageRequest, Rules


class ImageRewriter:
    """Tells what is written into Pods in place of the names of images.

    Args:
        pull_through: prefixes of names by registry, under which this registry fetches from others.
    """

    def __init__(self, lookup: BoundedLookup, pull_through: Mapping[str, str]) -> None:
        self._lookup = lookup
        self._prefixes = prefixes_of(pull_through)

    def renamed(self, texts: Iterable[str]) -> list[str]:
        """The names by which images of other registries are pulled through this one."""
        return [renamed(text, self._prefixes) for text in texts]

    async def digests(self, texts: Iterable[str]) -> dict[ImageReference, Digest]:
        """What the names without a digest stand for, of the images that are here."""
        images = frozenset(image for image in map(reference_of, texts) if image is not None and image.digest is None)
        facts = await self._lookup.facts(dict.fromkeys(images, (Need.DIGEST,))) if images else {}
        return {image: found.digest for image, found in facts.items() if found and found.digest}

    async def rewritten(self, rules: Rules, request: ImageRequest) -> ImageRequest:
        """The same with the names that Pods would get for these images if they were made now.

        What makes Pods is not changed itself, so it is only in these that its images can be judged as theirs will be.
        """
        wanted = rules.mutations(request.namespace)
        texts = [use.text for use in request.uses]
        if wanted.pull_through:
            texts = self.renamed(texts)
        if wanted.pin_digests:
            texts = with_digests(texts, await self.digests(texts))
        return replace(request, uses=tuple(replace(u, text=text) for u, text in zip(request.uses, texts, strict=True)))


def with_digests(texts: Sequence[str], digests: Mapping[ImageReference, Digest]) -> list[str]:
    """The names, with the digests of those images that have one among them."""
    return [_with_digest(text, digests) for text in texts]


def _with_digest(text: str, digests: Mapping[ImageReference, Digest]) -> str:
    image = reference_of(text)
    return pinned(text, image, digests[image]) if image is not None and image in digests else text
