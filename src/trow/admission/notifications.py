"""What the owners of workloads are told of a verdict, beside the API server's answer to whoever sent the request."""

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
EXCEPTED: Final = "PolicyExceptionUsed"


class Notifiers:
    """Passes notifications on to all who are there; to nobody where no cluster is followed."""

    def __init__(self) -> None:
        self._notifiers: list[Notifier] = []

    def add(self, notifier: Notifier) -> None:
        """Tell one more from now on."""
        self._notifiers.append(notifier)

    def notify(self, notification: Notification) -> None:
        for notifier in self._notifiers:
            notifier.notify(notification)


def notifications_of(review: Review, verdict: Verdict) -> Iterator[Notification]:
    """One for each kind of finding. Who sends a Pod by hand is answered directly, and gets none."""
    subject = _subject(review)
    if subject is None:
        return
    parts = (
        (DENIED, verdict.denials(Mode.ENFORCE)),
        (WARNED, verdict.denials(Mode.WARN)),
        (EXCEPTED, verdict.exempt),
    )
    for reason, findings in parts:
        if findings:
            message = "; ".join(dict.fromkeys(map(str, findings)))
            yield Notification(review.namespace, subject, reason, message)


def _subject(review: Review) -> Subject | None:
    """What makes the Pod, or the object itself if it is stored already."""
    owner = controller_of(review.metadata)
    if owner is not None:
        return Subject(*owner)
    uid = review.metadata.get("uid")
    if review.operation != "UPDATE" or not isinstance(uid, str) or not review.name:
        return None
    return Subject(review.api_version, review.kind.name, review.name, uid)
