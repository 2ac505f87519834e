"""What the audit trail records, and the port it is recorded through."""

from __future__ import annotations

import asyncio
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from trow.access.identity import ANONYMOUS, Method
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trow.access.identity import Identity, Workload


# How much of a text a record shows, and of a sentence. An event keeps one character more, so that the record can show
# that it was cut: clients choose these texts, and events wait in queues and tallies by the thousand.
LONGEST_TEXT: Final = 256
LONGEST_SENTENCE: Final = 1024
_SENTENCES: Final = ("reason", "detail")
_TEXTS: Final = ("repository", "reference", "digest", "media_type", "previous", "source")


class Action(Enum):
    """What was done or requested."""

    PULL = "pull"
    PULL_BEGIN = "pull.begin"
    PUSH = "push"
    TAG_MOVE = "tag.move"
    TAG_DELETE = "tag.delete"
    MANIFEST_DELETE = "manifest.delete"
    BLOB_DELETE = "blob.delete"
    MOUNT = "mount"
    LOGIN = "login"
    TOKEN_ISSUE = "token.issue"  # noqa: S105 - a word, not a secret
    ACCESS = "access"
    ADMISSION = "admission"
    LIST = "list"
    AUDIT_READ = "audit.read"
    COLLECTION = "collection"
    CONFIGURATION = "configuration"
    AUDIT_TRIM = "audit.trim"
    AUDIT_LOSS = "audit.loss"


class Outcome(Enum):
    """How it ended."""

    OK = "ok"
    INTENT = "intent"
    DENIED = "denied"
    FAILED = "failed"


class Part(Enum):
    """A part of the record, with a budget of its own, so that no part can be pushed out by another.

    They differ in who can make records without end: users with a right, all who can log in, all who reach the
    registry, and all who reach the webhooks.
    """

    EFFECTS = "effects"
    ACCESS = "access"
    ANONYMOUS = "anonymous"
    REVIEWS = "reviews"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from. All but the address is what the client says.

    Attributes:
        address: the client, behind trusted proxies.
        forwarded: the chain of addresses that trusted proxies have added.
        agent: ``User-Agent``.
        request: the number of the request, also in the access log.
        trace: the trace id of ``traceparent`` (W3C Trace Context).
    """

    address: str = ""
    forwarded: str = ""
    agent: str = ""
    request: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One decision or effect; what does not apply stays empty, and what is too long to be shown is cut.

    Attributes:
        reason: the rule or object that decided, or what went wrong. Never a secret.
        status: the HTTP status answered; 0 where no request is behind it.
        reference: the tag or digest of the request.
        digest: what that was, or what was stored.
        manifests: digests of further manifests of the same pull (the platforms of an index).
        previous: what a tag pointed at before.
        source: where a mount came from.
        detail: further facts, as text.
        count: how many equal events this one represents.
        blobs, bytes: how many blobs and bytes went through; of a pull as answered, of a push as received.
        workload: where in the cluster it is about; None: where the actor's own credential lives.
        started_at: when the first request of a pull or push came, or the first of equal events, seconds since 1970;
            0.0 is now.
        ended_at: when the last of equal events came; 0.0 where there is one.
        part: of the record; None: that of who did what.
    """

    action: Action
    outcome: Outcome = Outcome.OK
    _: KW_ONLY
    actor: Identity = ANONYMOUS
    origin: Origin = Origin()
    status: int = 0
    reason: str = ""
    repository: str = ""
    reference: str = ""
    digest: str = ""
    media_type: str = ""
    manifests: tuple[str, ...] = ()
    previous: str = ""
    source: str = ""
    detail: str = ""
    count: int = 1
    blobs: int = 0
    bytes: int = 0
    workload: Workload | None = None
    started_at: float = 0.0
    ended_at: float = 0.0
    part: Part | None = None

    def __post_init__(self) -> None:
        for names, most in ((_TEXTS, LONGEST_TEXT), (_SENTENCES, LONGEST_SENTENCE)):
            for name in names:
                text: str = getattr(self, name)
                if len(text) > most:
                    object.__setattr__(self, name, text[: most + 1])


# What anybody can do who can log in, whatever their permissions.
_ASKING: Final = frozenset({Action.LOGIN, Action.TOKEN_ISSUE, Action.ACCESS, Action.LIST})
# What the registry does by itself.
_OWN: Final = frozenset({Action.CONFIGURATION, Action.COLLECTION, Action.AUDIT_TRIM, Action.AUDIT_LOSS})


def part_of(event: Event) -> Part:
    """Where in the record an event belongs."""
    if event.part is not None:
        return event.part
    if event.actor.method is Method.REVIEW:
        return Part.REVIEWS
    if event.action in _OWN:
        return Part.EFFECTS
    if event.actor.anonymous:
        return Part.ANONYMOUS
    asking = event.action in _ASKING or (event.action is Action.ADMISSION and event.outcome is not Outcome.OK)
    return Part.ACCESS if asking else Part.EFFECTS


class AuditLog(Protocol):
    """Records what happens."""

    @property
    def fail_closed(self) -> bool:
        """Whether nothing may happen that is not on record."""

    def record(self, event: Event) -> None:
        """Record it soon; never blocks and never fails."""

    async def record_now(self, event: Event) -> None:
        """Record it; when this returns, the record survives a power cut.

        Raises:
            Unavailable: it could not be recorded.
        """


async def before_effect(audit: AuditLog, event: Callable[[], Event], *, within: float | None = None) -> bool:
    """Put on record what is about to be done, where nothing may be done that is not on record.

    Args:
        audit: where records go.
        event: makes the event, where it is recorded.
        within: seconds that this may take; None leaves it to the audit trail.

    Returns:
        Whether it is on record now. If not, what is done is recorded like all else.

    Raises:
        Unavailable: it cannot be recorded, or not in time, so it must not be done.
    """
    if not audit.fail_closed:
        return False
    try:
        async with asyncio.timeout(within):
            await audit.record_now(event())
    except TimeoutError:
        raise Unavailable("the audit trail takes too long to write; try again") from None
    return True


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Records as JSON objects, newest first, and where the next page begins; "" after the last one."""

    records: Sequence[bytes]
    next: str


class AuditRecords(Protocol):
    """Searches what is on record."""

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        """The records that fit.

        Args:
            given: by what to search, as somebody wrote it: repository, user, namespace, digest, action, outcome, since,
                until, and n and last for pages.

        Raises:
            RequestInvalid: a name or a value is not understood.
            Unavailable: the records cannot be read now.
        """
