"""May this be stored: the answer to the validating webhook."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from trow.admission.image_extractor import whole
from trow.admission.ports import NotConfigured, NotReady
from trow.admission.review import AdmissionResponse
from trow.admission.verdict_recorder import against
from trow.oci.errors import OciError
from trow.policy.pods import Stage, UnreadableObject
from trow.policy.rules import Mode
from trow.policy.verdict import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trow.admission.image_extractor import ImageExtractor
    from trow.admission.image_rewriter import ImageRewriter
    from trow.admission.judge import Judge
    from trow.admission.ports import AdmissionMetrics, PolicySource
    from trow.admission.review import Review
    from trow.admission.verdict_recorder import VerdictRecorder
    from trow.policy.verdict import Finding, Verdict
    from trow.registry.events import Origin

log = logging.getLogger(__name__)

_LONGEST_NOTE: Final = 1024
_FAILED: Final = "the policies could not be asked; the log of the registry says why"


class Validation:
    """Answers reviews."""

    def __init__(
        self,
        policies: PolicySource,
        extractor: ImageExtractor,
        rewriter: ImageRewriter,
        judge: Judge,
        recorder: VerdictRecorder,
        metrics: AdmissionMetrics,
    ) -> None:
        self._policies = policies
        self._extractor = extractor
        self._rewriter = rewriter
        self._judge = judge
        self._recorder = recorder
        self._metrics = metrics

    async def answer(self, review: Review, origin: Origin) -> AdmissionResponse:
        """Decide, put it on record, and word it. Whatever goes wrong is a denial."""
        began = time.perf_counter()
        try:
            return await self._response(review, origin)
        except NotConfigured as error:
            # No cluster is expected to ask: nothing to put on record.
            return AdmissionResponse(allowed=False, message=str(error))
        except (NotReady, OciError) as error:
            return self._refused(review, origin, str(error))
        except Exception:
            log.exception("a review failed", extra={"object": review.title, "request": origin.request})
            return self._refused(review, origin, _FAILED)
        finally:
            self._metrics.reviewed("validate", time.perf_counter() - began)

    async def _response(self, review: Review, origin: Origin) -> AdmissionResponse:
        try:
            request = await self._extractor.requested(review)
        except UnreadableObject as error:
            request = whole(review)
            verdict = unreadable(self._policies.rules(), request, f"cannot be read: {error}")
        else:
            # Before any policy is known: controllers have to be able to finish what runs nothing new.
            if request is None:
                return AdmissionResponse(allowed=True)
            rules = self._policies.rules()
            if request.stage is not Stage.POD:
                request = await self._rewriter.rewritten(rules, request)
            verdict = await self._judge.judge(rules, request)
        await self._recorder.verdict(review, request, origin, verdict)
        return response_of(verdict)

    def _refused(self, review: Review, origin: Origin, why: str) -> AdmissionResponse:
        """A denial that no policy has a part in."""
        self._recorder.failed(review, origin, why)
        return AdmissionResponse(allowed=False, message=why)


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
