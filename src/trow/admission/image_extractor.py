"""The images that a review would start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from trow.policy.kinds import WELL_KNOWN, has_parameters
from trow.policy.paths import Shape
from trow.policy.pods import ImageUse, UnreadableObject, images_of
from trow.policy.verdict import ImageRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.admission.review import Review
    from trow.policy.paths import Path
    from trow.policy.pods import Json, Kind


class ImageExtractor:
    """Finds images in objects of built-in, well-known and configured kinds.

    Args:
        extra: the configured kinds, and the paths at which their objects name images.
    """

    def __init__(self, extra: Mapping[Kind, Sequence[Path]]) -> None:
        self._extra = {kind: Shape(paths) for kind, paths in extra.items()}

    async def requested(self, review: Review) -> ImageRequest | None:
        """As `of`, in a thread if the objects are large."""
        return await asyncio.to_thread(self.of, review) if review.large else self.of(review)

    def of(self, review: Review) -> ImageRequest | None:
        """The images to evaluate; None if the review would start no new image.

        DELETE and CONNECT start nothing. UPDATE starts only the images that the stored object does not have, so a new
        policy does not stop controllers from updating objects that exist.

        Raises:
            UnreadableObject: a field does not have the type that the Kubernetes API gives it.
        """
        if not review.stores:
            return None
        uses = self.uses(review.kind, review.item or {})
        if review.operation == "UPDATE" and review.old_item is not None:
            try:
                stored = {(use.text, use.pull_policy, use.used_by) for use in self.uses(review.kind, review.old_item)}
            except UnreadableObject:
                stored = set()
            uses = tuple(use for use in uses if (use.text, use.pull_policy, use.used_by) not in stored)
        # Names with parameters are evaluated in the Pods, where they are complete.
        uses = tuple(use for use in uses if not has_parameters(review.kind, use.text))
        return ImageRequest(review.namespace, uses, review.kind.stage) if uses else None

    def knows(self, kind: Kind) -> bool:
        """Whether it knows where objects of this kind name images."""
        return kind.known or kind in WELL_KNOWN or kind in self._extra

    def uses(self, kind: Kind, item: Json) -> tuple[ImageUse, ...]:
        """Every field that names an image. Raises like `of`."""
        known, extra = WELL_KNOWN.get(kind), self._extra.get(kind)
        uses = [*images_of(kind, item)]
        uses += known.shape.images_in(item, strict=False) if known else ()
        uses += extra.images_in(item, strict=True) if extra else ()
        return tuple({use.field: use for use in uses}.values())


def whole_object(review: Review) -> ImageRequest:
    """A request about the object as a whole, whose images cannot be found."""
    return ImageRequest(review.namespace, (ImageUse("", review.title, ""),), review.kind.stage)
