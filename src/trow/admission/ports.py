"""What admission needs of the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.oci.digest import Digest
    from trow.oci.names import Tag
    from trow.policy.facts import ImageFacts, Need
    from trow.policy.images import ImageReference
    from trow.policy.verdict import Rules


class NotReady(Exception):
    """There is nothing to decide by yet; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object in the cluster that a notification is about."""

    api_version: str
    kind: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """Something that the owner of a workload should see.

    Attributes:
        subject: what made, or would have made, the Pod.
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
    """What the registry can tell of an image."""

    async def facts(self, image: ImageReference, needs: Collection[Need]) -> ImageFacts:
        """What is known here, as far as it is needed: nothing else is looked up.

        Raises:
            Unavailable: nobody can say at the moment.
        """


class Tags(Protocol):
    """By which names this registry gives an image out."""

    async def tags_of(self, image: ImageReference) -> Sequence[Tag]:
        """The tags that point at the digest of an image, or once did (`ImageFacts.tag_verified`). Bounded.

        Raises:
            Unavailable: nobody can say at the moment.
        """


class Pins(Protocol):
    """Digests that stay the same for all Pods of one owner, whatever happens to the tag."""

    async def pin(self, namespace: str, owner: str, image: str, digest: Digest, source: str = "") -> Digest:
        """The digest that this owner's Pods were given before; else the one given becomes it.

        A ``source`` is who asks, as `source_of` says it: nobody has shown who they are, and each source has a share.

        Raises:
            Unavailable: nobody can say at the moment.
        """

    async def drop_old_pins(self, before: float, most: int) -> None:
        """Forget the digests of owners that made no Pod for long.

        Args:
            before: seconds of Unix time.
            most: how many are kept; of more, the sources that have most of them lose those that they used first.
        """


class NotConfigured(NotReady):
    """There never will be, unless somebody changes the settings."""


class Notifier(Protocol):
    """Tells those who look at the cluster, not at the registry."""

    def notify(self, notification: Notification) -> None:
        """Tell it soon; never blocks and never fails."""


class AdmissionMetrics(Protocol):
    """Counts what was decided."""

    def decided(self, policy: str, rule: str, mode: str, verdict: str) -> None:
        """One policy has spoken about one image."""

    def reviewed(self, kind: str, seconds: float) -> None:
        """One review was answered; ``kind`` is `validate` or `mutate`."""
