"""The answer to the validating webhook: whether the object may be stored."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from trow.admission.image_extractor import whole_object
from trow.admission.ports import NotConfigured, NotReady
from trow.admission.review import AdmissionResponse
from trow.admission.verdict_recorder import denials
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
    from trow.policy.verdict import Verdict
    from trow.registry.events import Origin

log = logging.getLogger(__name__)

_LONGEST_ANNOTATION: Final = 1024
_FAILED: Final = "the policies could not be evaluated; the log of the registry says why"


class Validation:
    """Answers reviews of the validating webhook."""

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
        """Evaluate the policies, record the verdict and answer. Every error is a denial."""
        began = time.perf_counter()
        try:
            return await self._response(review, origin)
        except NotConfigured as error:
            # Without policies no cluster should ask, so this is not recorded.
            return AdmissionResponse(allowed=False, message=str(error))
        except (NotReady, OciError) as error:
            return self._failed(review, origin, str(error))
        except Exception:
            log.exception("a review failed", extra={"object": review.title, "request": origin.request})
            return self._failed(review, origin, _FAILED)
        finally:
            self._metrics.reviewed("validate", time.perf_counter() - began)

    async def _response(self, review: Review, origin: Origin) -> AdmissionResponse:
        try:
            request = await self._extractor.requested(review)
        except UnreadableObject as error:
            request = whole_object(review)
            verdict = unreadable(self._policies.rules(), request, f"cannot be read: {error}")
        else:
            # Also while the policies are not known: controllers have to be able to finish what starts nothing new.
            if request is None:
                return AdmissionResponse(allowed=True)
            rules = self._policies.rules()
            if request.stage is not Stage.POD:
                request = await self._rewriter.rewritten(rules, request)
            verdict = await self._judge.judge(rules, request)
        await self._recorder.verdict(review, request, origin, verdict)
        return response_of(verdict)

    def _failed(self, review: Review, origin: Origin, why: str) -> AdmissionResponse:
        self._recorder.failed(review, origin, why)
        return AdmissionResponse(allowed=False, message=why)


def response_of(verdict: Verdict) -> AdmissionResponse:
    """The answer to the API server."""
    warnings = (*verdict.denials(Mode.WARN), *verdict.exempt)
    # The API server puts the name of the webhook in front of the keys.
    annotations = {
        "verdict": "allowed" if verdict.allowed else "denied",
        "denied-by": _joined(f"{each.policy}:{each.rule} ({each.mode.value})" for each in denials(verdict)),
        "exceptions": _joined(finding.exception for finding in verdict.exempt),
    }
    return AdmissionResponse(
        allowed=verdict.allowed,
        message=_joined(map(str, verdict.denials(Mode.ENFORCE)), "; "),
        warnings=tuple(dict.fromkeys(map(str, warnings))),
        audit_annotations={key: text[:_LONGEST_ANNOTATION] for key, text in annotations.items() if text},
    )


def _joined(texts: Iterable[str], separator: str = ", ") -> str:
    """The different texts, in their order."""
    return separator.join(dict.fromkeys(texts))
