"""Verdicts, with the facts that they need."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from trow.oci.errors import OciError
from trow.policy.verdict import Verdict, judge, needed_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from trow.admission.ports import ImageLookup
    from trow.policy.facts import ImageFacts, Need
    from trow.policy.images import ImageReference
    from trow.policy.verdict import ImageRequest, Rules

log = logging.getLogger(__name__)


class BoundedLookup:
    """Looks up facts about images, within a deadline.

    Args:
        images: the lookup of one image.
        deadline: seconds for all images of a review together.
    """

    def __init__(self, images: ImageLookup, deadline: float) -> None:
        self._images = images
        self._deadline = deadline

    async def facts(
        self, wanted: Mapping[ImageReference, Collection[Need]]
    ) -> Mapping[ImageReference, ImageFacts | None]:
        """The facts; None for an image that could not be looked up in time."""
        found: dict[ImageReference, ImageFacts | None] = dict.fromkeys(wanted)
        try:
            async with asyncio.timeout(self._deadline):
                for image, needs in wanted.items():
                    found[image] = await self._images.facts(image, needs)
                    # The database answers without waiting: only here can the deadline pass, and other tasks run.
                    await asyncio.sleep(0)
        except (TimeoutError, OciError) as error:
            log.warning("images could not be looked up for a review: %s", str(error) or "no answer in time")
        return found


class Judge:
    """Evaluates image policies: for objects to be stored, for pulls, and for what runs already.

    Args:
        lookup: finds the facts.
        clock: seconds of Unix time.
    """

    def __init__(self, lookup: BoundedLookup, clock: Callable[[], float] = time.time) -> None:
        self._lookup = lookup
        self._clock = clock

    async def judge(self, rules: Rules, request: ImageRequest) -> Verdict:
        """The verdict on images. A fact that is missing never allows an image."""
        needed = needed_facts(rules, request)
        facts = await self._lookup.facts(needed) if needed else {}
        return judge(rules, request, facts, self._clock())
