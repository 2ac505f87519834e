"""Counts, records and notifications of verdicts.

The caller of a webhook is not authenticated, so the names in a record are those of the review, and equal records are
counted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from trow.access.identity import Identity, Method, Workload
from trow.admission.notifications import notifications_of
from trow.lib.kube_objects import controller_of
from trow.policy.rules import Mode
from trow.registry.events import LONGEST_TEXT, Action, Event, Outcome, before_effect

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from trow.admission.ports import AdmissionMetrics, Notifier
    from trow.admission.review import Review
    from trow.policy.images import ImageReference
    from trow.policy.verdict import Finding, ImageRequest, Verdict
    from trow.registry.aggregator import EventAggregator
    from trow.registry.events import AuditLog, Origin

log = logging.getLogger(__name__)

# One more than a record shows, so that it can show that there were more.
_LONGEST_NAME: Final = LONGEST_TEXT + 1
_MOST_GROUPS: Final = 101
_DRY: Final = "dry run: "


class VerdictRecorder:
    """Counts and records verdicts, and notifies the owners of workloads.

    Args:
        audit: takes the records.
        metrics: counts the findings.
        notifier: notifies the owners of workloads; None without a cluster.
        aggregator: counts equal records; None: each verdict is a record of its own.
        within: seconds to wait for a record.
    """

    def __init__(
        self,
        audit: AuditLog,
        metrics: AdmissionMetrics,
        notifier: Notifier | None = None,
        aggregator: EventAggregator | None = None,
        *,
        within: float,
    ) -> None:
        self._audit = audit
        self._metrics = metrics
        self._notifier = notifier
        self._repeats = aggregator
        self._within = within

    async def verdict(self, review: Review, request: ImageRequest, origin: Origin, verdict: Verdict) -> None:
        """Count and record a verdict on a review, and notify, except for a dry run.

        An object that is allowed waits for its record, if the audit log is configured to fail closed.

        Args:
            review: any.
            request: the images that were evaluated.
            origin: where the review came from.
            verdict: on these images.

        Raises:
            Unavailable: it cannot be recorded, or not in time.
        """
        self.count(verdict)
        event = _event_of(review, request, origin, verdict)
        waits = verdict.allowed and not review.dry_run
        if not (waits and await before_effect(self._audit, lambda: event, within=self._within)):
            self._gather(event, review)
        if review.dry_run:
            return
        for finding in verdict.exempt:
            log.warning("admitted by a policy exception: %s", finding, extra={"object": review.title})
        if self._notifier is not None:
            for notification in notifications_of(review, verdict):
                self._notifier.notify(notification)

    def count(self, verdict: Verdict) -> None:
        """Count the findings."""
        for finding in verdict.findings:
            if finding.mode is Mode.IGNORE:
                continue
            word = "exempt" if finding.exception else "allow" if finding.allowed else "deny"
            self._metrics.decided(finding.policy, finding.rule, finding.mode.value, word)

    def failed(self, review: Review, origin: Origin, why: str) -> None:
        """Record a review that could not be decided."""
        self._gather(_event(review, origin, Outcome.FAILED, why), review)

    def pinned(self, review: Review, origin: Origin, names: Sequence[str]) -> None:
        """Record that the answer to a review shows the digests of tags."""
        event = _event(review, origin, Outcome.OK, "tags were pinned to digests", ", ".join(dict.fromkeys(names)))
        self._gather(event, review)

    def _gather(self, event: Event, review: Review) -> None:
        if self._repeats is None:
            self._audit.record(event)
        else:
            self._repeats.gather(event, _key(event, review))


def _event_of(review: Review, request: ImageRequest, origin: Origin, verdict: Verdict) -> Event:
    """The record of a review, with the most severe finding as its reason."""
    chosen = next(iter((*denials(verdict), *verdict.exempt, *verdict.findings)), None)
    images = [str(each.image or each.use.text) for each in verdict.findings] or [use.text for use in request.uses]
    return _event(
        review,
        origin,
        Outcome.OK if verdict.allowed else Outcome.DENIED,
        str(chosen) if chosen else "no policy applies",
        ", ".join(filter(None, dict.fromkeys(images))),
        chosen.image if chosen else None,
    )


def denials(verdict: Verdict) -> Iterator[Finding]:
    """The findings that do not allow their image, those of the strictest policies first."""
    for mode in (Mode.ENFORCE, Mode.WARN, Mode.AUDIT):
        yield from verdict.denials(mode)


def _event(
    review: Review,
    origin: Origin,
    outcome: Outcome,
    reason: str,
    images: str = "",
    image: ImageReference | None = None,
) -> Event:
    return Event(
        Action.ADMISSION,
        outcome,
        actor=_actor(review),
        origin=origin,
        status=200,
        reason=reason,
        repository=f"{image.registry}/{image.repository}" if image else "",
        reference=str(image.digest or image.tag) if image else "",
        digest=str(image.digest or "") if image else "",
        workload=Workload(review.namespace, pod=review.object_name if review.kind.is_pod else ""),
        detail=f"{_DRY if review.dry_run else ''}{review.operation} {review.title}{images and f': {images}'}",
    )


def _actor(review: Review) -> Identity:
    user = review.user
    # The caller is not authenticated, so these are bounded only by the size of the body.
    groups = tuple(group[:_LONGEST_NAME] for group in (user.groups or ())[:_MOST_GROUPS])
    return Identity(user.username[:_LONGEST_NAME], Method.REVIEW, uid=user.uid[:_LONGEST_NAME], groups=groups)


def _key(event: Event, review: Review) -> Hashable:
    """Equal for the Pods that a controller creates again and again, each with another name."""
    owner = None if event.outcome is Outcome.OK else controller_of(review.metadata)
    if owner is None:
        return event.detail
    return review.operation, review.kind, review.namespace, owner.uid[:_LONGEST_NAME], event.reference, review.dry_run
