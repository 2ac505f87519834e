"""The ports of admission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.oci.digest import Digest
    from trow.oci.names import Repository, Tag
    from trow.policy.facts import ImageFacts, Need
    from trow.policy.images import ImageReference
    from trow.policy.verdict import Rules


class NotReady(Exception):
    """The policies are not known yet; the message says why and what to do."""


class NotConfigured(NotReady):
    """No policy is configured; only a change of the settings helps."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object in the cluster that a notification is about."""

    api_version: str
    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """A message to the owner of a workload.

    Attributes:
        namespace: of the subject.
        subject: the controller that made, or would have made, the Pod.
        reason: one word for programs, such as ``ImageDenied``.
        message: a sentence for people.
    """

    namespace: str
    subject: Subject
    reason: str
    message: str


class PolicySource(Protocol):
    """The policies in force."""

    def rules(self) -> Rules:
        """All policies and exceptions.

        Raises:
            NotReady: they are not known yet.
        """


class ImageLookup(Protocol):
    """Looks up facts about images in this registry."""

    async def facts(self, image: ImageReference, needs: Collection[Need]) -> ImageFacts:
        """The facts that are needed; no other fact is looked up.

        Raises:
            Unavailable: they cannot be looked up now.
        """


class AllowedPulls(Protocol):
    """Tells replicas of pulls by tag that one of them has allowed. Each method raises Unavailable."""

    async def allowed_pull(self, user: str, repository: Repository, digest: Digest) -> tuple[Tag, float] | None:
        """The tag by which a digest was allowed to somebody, and when, in seconds since 1970; None where none was."""

    async def add_allowed_pulls(
        self, user: str, repository: Repository, digests: Sequence[Digest], tag: Tag, at: float
    ) -> None:
        """Note that somebody may pull these digests."""

    async def drop_allowed_pulls(self, before: float, most: int) -> None:
        """Forget what was allowed before, and of the rest all but about the ``most`` that were allowed last."""


class Tags(Protocol):
    """Looks up the tags of images in this registry."""

    async def tags_of(self, image: ImageReference) -> Sequence[Tag]:
        """The tags that point at the digest of an image, or once did (`ImageFacts.tag_verified`). Bounded.

        Raises:
            Unavailable: they cannot be looked up now.
        """


class Pins(Protocol):
    """Keeps one digest of an image for all Pods of one owner, also when the tag moves."""

    async def pin(self, namespace: str, owner: str, image: str, digest: Digest, source: str = "") -> Digest:
        """The digest that is pinned for the Pods of this owner; if there is none, pin this one.

        Args:
            namespace: of the owner.
            owner: the controller, and the revision of its template.
            image: the name with its tag.
            digest: at which the tag points now.
            source: who asks, as `source_of` names it: the caller is not authenticated, and each source has a share.

        Raises:
            Unavailable: it cannot be looked up now.
        """

    async def drop_old_pins(self, before: float, most: int) -> None:
        """Drop the pins of owners that have made no Pod for a long time.

        Args:
            before: seconds of Unix time.
            most: the number that is kept; beyond it, the sources with the most pins lose their oldest ones.
        """


class Notifier(Protocol):
    """Notifies the owners of workloads in the cluster."""

    def notify(self, notification: Notification) -> None:
        """Send it soon; never blocks and never fails."""


class AdmissionMetrics(Protocol):
    """Counts findings and reviews."""

    def decided(self, policy: str, rule: str, mode: str, verdict: str) -> None:
        """Count a finding of a policy about an image."""

    def reviewed(self, kind: str, seconds: float) -> None:
        """Count a review that was answered; ``kind`` is `validate` or `mutate`."""
