"""What is changed in a Pod before it is stored: only where a policy asks for it, and only in Pods.

Whoever owns a Deployment (Argo CD, Flux) would change it back for ever; nobody owns a Pod but its controller, which
does not compare. Each change is preceded by a test, so that a Pod that somebody else changed meanwhile is left alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.admission.notices import controller_of
from trow.admission.ports import NotReady
from trow.admission.review import Patch, Ruling
from trow.oci.errors import OciError
from trow.policy import images
from trow.policy.images import InvalidImage
from trow.policy.pods import UnreadableObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.admission.ports import Pins, RuleBook, Tally
    from trow.admission.review import Review
    from trow.admission.subjects import Subjects
    from trow.admission.validate import Inquiry
    from trow.oci.digest import Digest
    from trow.policy.decide import Facts
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wishes:
    pin: bool
    pull_through: bool


class Mutation:
    """Answers reviews of the mutating webhook; it never refuses anything, which is what the validating one is for.

    Args:
        pull_through: prefixes of names by registry, under which this registry fetches from others.
    """

    def __init__(
        self,
        book: RuleBook,
        subjects: Subjects,
        inquiry: Inquiry,
        pins: Pins,
        tally: Tally,
        pull_through: Mapping[str, str],
    ) -> None:
        self._book = book
        self._subjects = subjects
        self._inquiry = inquiry
        self._pins = pins
        self._tally = tally
        self._prefixes = {images.registry_of(registry): prefix for registry, prefix in pull_through.items()}

    async def answer(self, review: Review) -> Ruling:
        """The changes, if any. What cannot be changed is left for the validating webhook to judge."""
        began = time.perf_counter()
        try:
            return Ruling(allowed=True, patches=await self._patches(review))
        except (NotReady, UnreadableObject):
            return Ruling(allowed=True)
        except Exception:
            log.exception("a Pod could not be changed", extra={"object": review.title})
            return Ruling(allowed=True, warnings=("the images were not pinned; the log of the registry says why",))
        finally:
            self._tally.reviewed("mutate", time.perf_counter() - began)

    async def _patches(self, review: Review) -> tuple[Patch, ...]:
        request = self._subjects.of(review) if review.of.is_pod else None
        if request is None:
            return ()
        asked = [policy.mutate for policy in self._book.rules().applying(request.namespace)]
        wishes = _Wishes(any(each.pin_digests for each in asked), any(each.pull_through for each in asked))
        parsed = {use: image for use in request.uses if (image := _parsed(use)) is not None}
        unpinned = {image for image in parsed.values() if image.digest is None} if wishes.pin else set()
        facts = await self._inquiry.facts(unpinned) if unpinned else {}
        patches: list[Patch] = []
        for use, image in parsed.items():
            wanted = self._renamed(use.text, image) if wishes.pull_through else use.text
            if image in unpinned and (digest := await self._digest(review, image, facts.get(image))):
                wanted = f"{_tagged(wanted, image)}@{digest}"
            if wanted != use.text:
                at = _pointer(use.field)
                patches += (Patch("test", at, use.text), Patch("replace", at, wanted))
        return tuple(patches)

    def _renamed(self, text: str, image: ImageReference) -> str:
        prefix = self._prefixes.get(image.registry)
        if prefix is None:
            return text
        tag = f":{image.tag}" if image.tag else ""
        digest = f"@{image.digest}" if image.digest else ""
        return f"{prefix}/{image.repository}{tag}{digest}"

    async def _digest(self, review: Review, image: ImageReference, facts: Facts | None) -> Digest | None:
        """What the tag stands for, or stood for when the first Pod of the same owner was made."""
        if facts is None or facts.digest is None:
            return None
        owner = controller_of(review.metadata)
        if owner is None or review.dry_run:
            return facts.digest
        try:
            return await self._pins.pin(f"{review.namespace}/{owner.uid}", str(image), facts.digest)
        except OciError:
            log.warning("a digest could not be kept for the Pods of one owner", extra={"object": review.title})
            return facts.digest


def _parsed(use: ImageUse) -> ImageReference | None:
    try:
        return images.parse(use.text)
    except InvalidImage:
        return None


def _tagged(text: str, image: ImageReference) -> str:
    """With the tag written out: it stays beside the digest for people and for tools that compare."""
    return text if text.endswith(f":{image.tag}") else f"{text}:{image.tag}"


def _pointer(field: str) -> str:
    """A field such as ``spec.containers[0].image`` as JSON pointer (RFC 6901); no member in it has ``/`` or ``~``."""
    return "/" + field.replace("[", ".").replace("]", "").replace(".", "/")
