"""Verdicts, with everything looked up that they take."""

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
    """Looks up what policies need to know of images, within a time.

    Args:
        images: asked only about what no rule decides alone.
        deadline: seconds, for all images of a review together.
    """

    def __init__(self, images: ImageLookup, deadline: float) -> None:
        self._images = images
        self._deadline = deadline

    async def facts(
        self, wanted: Mapping[ImageReference, Collection[Need]]
    ) -> Mapping[ImageReference, ImageFacts | None]:
        """What could be found out in time; None of what could not."""
        found: dict[ImageReference, ImageFacts | None] = dict.fromkeys(wanted)
        try:
            async with asyncio.timeout(self._deadline):
                for image, needs in wanted.items():
                    found[image] = await self._images.facts(image, needs)
                    # The database answers at once: only here can time run out, and others get their turn.
                    await asyncio.sleep(0)
        except (TimeoutError, OciError) as error:
            log.warning("images could not be looked up for a review: %s", str(error) or "no answer in time")
        return found


class Judge:
    """Gives verdicts: on what is to be stored, pulled, or runs already.

    Args:
        clock: seconds of Unix time.
    """

    def __init__(self, lookup: BoundedLookup, clock: Callable[[], float] = time.time) -> None:
        self._lookup = lookup
        self._clock = clock

    async def judge(self, rules: Rules, request: ImageRequest) -> Verdict:
        """What the policies say of images. What could not be found out counts against them."""
        wanted = needed_facts(rules, request)
        facts = await self._lookup.facts(wanted) if wanted else {}
        return judge(rules, request, facts, self._clock())
