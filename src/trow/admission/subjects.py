"""What a review is about: the images that it would newly make run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.admission.paths import images_at
from trow.policy.decide import Request
from trow.policy.pods import ImageUse, UnreadableObject, images_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.admission.paths import Path
    from trow.admission.review import Review
    from trow.policy.pods import Json, Kind


class Subjects:
    """Finds images in objects.

    Args:
        extra: further kinds, and where in them images are.
    """

    def __init__(self, extra: Mapping[Kind, Sequence[Path]]) -> None:
        self._extra = extra

    def of(self, review: Review) -> Request | None:
        """What is to be decided; None if nothing new would run.

        An object that goes away, or is connected to, runs nothing new; an update only what the stored object does not
        have yet, so that a stricter policy stops no controller from updating what runs already.

        Raises:
            UnreadableObject: a field is not what the Kubernetes API says it is.
        """
        if review.operation not in ("CREATE", "UPDATE"):
            return None
        uses = self.uses(review.of, review.item or {})
        if review.operation == "UPDATE" and review.old_item is not None:
            known = self._known(review.of, review.old_item)
            uses = tuple(use for use in uses if (use.text, use.pull_policy) not in known)
        return Request(review.namespace or "", uses, review.of.is_pod) if uses else None

    def uses(self, kind: Kind, item: Json) -> tuple[ImageUse, ...]:
        """Every field that names an image. Raises like `of`."""
        return (*images_of(kind, item), *(use for path in self._extra.get(kind, ()) for use in images_at(item, path)))

    def _known(self, kind: Kind, item: Json) -> frozenset[tuple[str, str]]:
        try:
            return frozenset((use.text, use.pull_policy) for use in self.uses(kind, item))
        except UnreadableObject:
            return frozenset()


def whole(review: Review) -> Request:
    """The object as one thing to be decided, where its images cannot be told."""
    return Request(review.namespace or "", (ImageUse("", review.title, ""),), review.of.is_pod)
