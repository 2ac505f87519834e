"""May this be stored: the answer to the validating webhook."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from trow.admission.image_extractor import whole
from trow.admission.notifications import notifications_of
from trow.admission.ports import NotConfigured, NotReady
from trow.admission.recording import against
from trow.admission.review import AdmissionResponse
from trow.oci.errors import OciError
from trow.policy.decide import Verdict, asks_about, judge, unreadable
from trow.policy.pods import Stage, UnreadableObject
from trow.policy.rules import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from trow.admission.image_extractor import ImageExtractor
    from trow.admission.names import Names
    from trow.admission.ports import AdmissionMetrics, ImageLookup, Notifier, PolicySource
    from trow.admission.recording import ReviewRecorder
    from trow.admission.review import Review
    from trow.policy.decide import Finding, Request, Rules
    from trow.policy.facts import ImageFacts, Need
    from trow.policy.images import ImageReference
    from trow.registry.events import Origin

log = logging.getLogger(__name__)

_LONGEST_NOTE: Final = 1024
_FAILED: Final = "the policies could not be asked; the log of the registry says why"


class BoundedLookup:
    """Finds out what the policies need to know of images, within a time.

    Args:
        images: asked only about what no rule decides alone.
        deadline: seconds, for all images of a review together.
    """

    def __init__(self, images: ImageLookup, deadline: float) -> None:
        self._images = images
        self.deadline = deadline

    async def facts(
        self, wanted: Mapping[ImageReference, Collection[Need]]
    ) -> Mapping[ImageReference, ImageFacts | None]:
        """What could be found out in time; None of what could not."""
        found: dict[ImageReference, ImageFacts | None] = dict.fromkeys(wanted)
        try:
            async with asyncio.timeout(self.deadline):
                for image, needs in wanted.items():
                    found[image] = await self._images.facts(image, needs)
                    # The database answers at once: only here can time run out, and others get their turn.
                    await asyncio.sleep(0)
        except (TimeoutError, OciError) as error:
            log.warning("images could not be looked up for a review: %s", str(error) or "no answer in time")
        return found


class Validation:
    """Answers reviews.

    Args:
        herald: None where there is no cluster to tell.
        clock: seconds of Unix time.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root's one call
        self,
        book: PolicySource,
        subjects: ImageExtractor,
        inquiry: BoundedLookup,
        names: Names,
        ledger: ReviewRecorder,
        tally: AdmissionMetrics,
        herald: Notifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._subjects = subjects
        self._inquiry = inquiry
        self._names = names
        self._ledger = ledger
        self._tally = tally
        self._herald = herald
        self._clock = clock

    async def answer(self, review: Review, origin: Origin) -> AdmissionResponse:
        """Decide, put it on record, and word it. Whatever goes wrong is a denial."""
        began = time.perf_counter()
        try:
            return await self._ruling(review, origin)
        except NotConfigured as error:
            return AdmissionResponse(
                allowed=False, message=str(error)
            )  # no cluster is expected to ask: nothing to put on record
        except (NotReady, OciError) as error:
            return self._refused(review, origin, str(error))
        except Exception:
            log.exception("a review failed", extra={"object": review.title, "request": origin.request})
            return self._refused(review, origin, _FAILED)
        finally:
            self._tally.reviewed("validate", time.perf_counter() - began)

    async def _ruling(self, review: Review, origin: Origin) -> AdmissionResponse:
        try:
            request = await self._subjects.requested(review)
        except UnreadableObject as error:
            request = whole(review)
            verdict = unreadable(self._book.rules(), request, f"cannot be read: {error}")
        else:
            # Before any policy is known: controllers have to be able to finish what runs nothing new.
            if request is None:
                return AdmissionResponse(allowed=True)
            rules = self._book.rules()
            if request.stage is not Stage.POD:
                request = await self._names.foreseen(rules, request)
            verdict = await self.judge(rules, request)
        await self.report(review, request, origin, verdict)
        return response_of(verdict)

    async def report(self, review: Review, request: Request, origin: Origin, verdict: Verdict) -> None:
        """Count a verdict, put it on record and tell of it; of a dry run nobody is told.

        Raises:
            Unavailable: nothing may happen that is not on record, and this cannot be recorded.
        """
        self.count(verdict)
        await self._ledger.verdict(review, request, origin, verdict, within=self._inquiry.deadline)
        if not review.dry_run:
            self._tell(review, verdict)

    def _refused(self, review: Review, origin: Origin, why: str) -> AdmissionResponse:
        """A denial that no policy has a part in."""
        self._ledger.failed(review, origin, why)
        return AdmissionResponse(allowed=False, message=why)

    async def judge(self, rules: Rules, request: Request) -> Verdict:
        """The verdict on images, with everything looked up that it takes."""
        wanted = asks_about(rules, request)
        facts = await self._inquiry.facts(wanted) if wanted else {}
        return judge(rules, request, facts, self._clock())

    def count(self, verdict: Verdict) -> None:
        """Count what each policy has said of each image."""
        for finding in verdict.findings:
            if finding.mode is Mode.IGNORE:
                continue
            word = "exempt" if finding.exception else "allow" if finding.allowed else "deny"
            self._tally.decided(finding.policy, finding.rule, finding.mode.value, word)

    def _tell(self, review: Review, verdict: Verdict) -> None:
        for finding in verdict.exempt:
            log.warning("admitted by a policy exception: %s", finding, extra={"object": review.title})
        if self._herald is not None:
            for notice in notifications_of(review, verdict):
                self._herald.tell(notice)


def response_of(verdict: Verdict) -> AdmissionResponse:
    """What the API server is told."""
    denials = verdict.denials(Mode.ENFORCE)
    warnings = (*verdict.denials(Mode.WARN), *verdict.exempt)
    return AdmissionResponse(
        allowed=verdict.allowed,
        message="; ".join(dict.fromkeys(map(str, denials))),
        warnings=tuple(dict.fromkeys(map(str, warnings))),
        notes=_notes(verdict),
    )


def _notes(verdict: Verdict) -> dict[str, str]:
    """For the API server's own audit trail, which puts the webhook's name in front of the keys."""
    parts = {
        "verdict": "allowed" if verdict.allowed else "denied",
        "denied-by": _titles(against(verdict)),
        "exceptions": ", ".join(dict.fromkeys(finding.exception for finding in verdict.exempt)),
    }
    return {key: text[:_LONGEST_NOTE] for key, text in parts.items() if text}


def _titles(findings: Iterable[Finding]) -> str:
    return ", ".join(dict.fromkeys(f"{each.policy}:{each.rule} ({each.mode.value})" for each in findings))
