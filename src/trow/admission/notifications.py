"""Notifications to the owners of workloads. The user who sent the request gets the answer of the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.admission.ports import Notification, Subject
from trow.lib.kube_objects import controller_of
from trow.policy.rules import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.admission.ports import Notifier
    from trow.admission.review import Review
    from trow.policy.verdict import Verdict

DENIED: Final = "ImageDenied"
WARNED: Final = "ImageNotAllowed"
EXEMPT: Final = "PolicyExceptionUsed"


class Notifiers:
    """Passes notifications on to all notifiers, of which there may be none."""

    def __init__(self) -> None:
        self._notifiers: list[Notifier] = []

    def add(self, notifier: Notifier) -> None:
        """Add a notifier."""
        self._notifiers.append(notifier)

    def notify(self, notification: Notification) -> None:
        for notifier in self._notifiers:
            notifier.notify(notification)


def notifications_of(review: Review, verdict: Verdict) -> Iterator[Notification]:
    """One for each kind of finding; none for a Pod without a controller, whose user gets the answer."""
    subject = _subject(review)
    if subject is None:
        return
    by_reason = (
        (DENIED, verdict.denials(Mode.ENFORCE)),
        (WARNED, verdict.denials(Mode.WARN)),
        (EXEMPT, verdict.exempt),
    )
    for reason, findings in by_reason:
        if findings:
            message = "; ".join(dict.fromkeys(map(str, findings)))
            yield Notification(review.namespace, subject, reason, message)


def _subject(review: Review) -> Subject | None:
    """The controller of the object, or the object itself if it is stored already."""
    owner = controller_of(review.metadata)
    if owner is not None:
        return Subject(*owner)
    uid = review.metadata.get("uid")
    if review.operation != "UPDATE" or not isinstance(uid, str) or not review.name:
        return None
    return Subject(review.api_version, review.kind.name, review.name, uid)
