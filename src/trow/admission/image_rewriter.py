"""The names that the images of Pods get, where policies change them."""

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
    """Rewrites the names of images: pull-through names, and digests.

    Args:
        lookup: finds the digests of tags.
        pull_through: prefixes of names, by upstream registry.
    """

    def __init__(self, lookup: BoundedLookup, pull_through: Mapping[str, str]) -> None:
        self._lookup = lookup
        self._prefixes = prefixes_of(pull_through)

    def renamed(self, texts: Iterable[str]) -> list[str]:
        """The names, with the pull-through names of those images that this registry pulls through."""
        return [renamed(text, self._prefixes) for text in texts]

    async def digests(self, texts: Iterable[str]) -> dict[ImageReference, Digest]:
        """The digests of the names without a digest, as far as the images are in this registry."""
        images = frozenset(image for image in map(reference_of, texts) if image is not None and image.digest is None)
        facts = await self._lookup.facts(dict.fromkeys(images, (Need.DIGEST,))) if images else {}
        return {image: found.digest for image, found in facts.items() if found and found.digest}

    async def rewritten(self, rules: Rules, request: ImageRequest) -> ImageRequest:
        """The request, with the names that the images of its Pods would get now.

        Objects with a Pod template are not changed, but they are evaluated by the names that their Pods would get.
        """
        mutations = rules.mutations(request.namespace)
        texts = [use.text for use in request.uses]
        if mutations.pull_through:
            texts = self.renamed(texts)
        if mutations.pin_digests:
            texts = with_digests(texts, await self.digests(texts))
        return replace(request, uses=tuple(replace(u, text=text) for u, text in zip(request.uses, texts, strict=True)))


def with_digests(texts: Sequence[str], digests: Mapping[ImageReference, Digest]) -> list[str]:
    """The names, pinned to the digests of their images where these are known."""
    pairs = ((text, reference_of(text)) for text in texts)
    return [pinned(text, image, digests[image]) if image and image in digests else text for text, image in pairs]
