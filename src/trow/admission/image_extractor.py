"""What a review is about: the images that it would newly make run."""

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
    from trow.policy.pods import Json, Kind, UsedBy


class ImageExtractor:
    """Finds images in objects: of kinds that are built in, that are well known, and that somebody has told of.

    Args:
        extra: further kinds, and where in them images are.
    """

    def __init__(self, extra: Mapping[Kind, Sequence[Path]]) -> None:
        self._extra = {kind: Shape(paths) for kind, paths in extra.items()}

    async def requested(self, review: Review) -> ImageRequest | None:
        """See `of`; beside the event loop where the objects are large."""
        return await asyncio.to_thread(self.of, review) if review.large else self.of(review)

    def of(self, review: Review) -> ImageRequest | None:
        """What is to be decided; None if nothing new would run.

        An object that goes away, or is connected to, runs nothing new; an update only what the stored object does not
        have yet, so that a stricter policy stops no controller from updating what runs already.

        Raises:
            UnreadableObject: a field is not what the Kubernetes API says it is.
        """
        if not review.stores:
            return None
        uses = self.uses(review.kind, review.item or {})
        if review.operation == "UPDATE" and review.old_item is not None:
            known = self._known(review.kind, review.old_item)
            uses = tuple(use for use in uses if (use.text, use.pull_policy, use.used_by) not in known)
        # What is only filled in later is judged in the Pods.
        uses = tuple(use for use in uses if not has_parameters(review.kind, use.text))
        return ImageRequest(review.namespace, uses, review.kind.stage) if uses else None

    def knows(self, kind: Kind) -> bool:
        """Whether it is known where objects of this kind name images."""
        return kind.known or kind in WELL_KNOWN or kind in self._extra

    def uses(self, kind: Kind, item: Json) -> tuple[ImageUse, ...]:
        """Every field that names an image. Raises like `of`."""
        known, extra = WELL_KNOWN.get(kind), self._extra.get(kind)
        uses = [*images_of(kind, item)]
        uses += known.shape.images_in(item, strict=False) if known else ()
        uses += extra.images_in(item, strict=True) if extra else ()
        return tuple({use.field: use for use in uses}.values())

    def _known(self, kind: Kind, item: Json) -> frozenset[tuple[str, str, UsedBy | None]]:
        try:
            return frozenset((use.text, use.pull_policy, use.used_by) for use in self.uses(kind, item))
        except UnreadableObject:
            return frozenset()


def whole(review: Review) -> ImageRequest:
    """The object as one thing to be decided, where its images cannot be told."""
    return ImageRequest(review.namespace, (ImageUse("", review.title, ""),), review.kind.stage)
