"""One record: its members, how an event becomes one, and the only form that it is written in.

A record holds texts, whole numbers below 2^53, `true` and lists of texts, in members whose names are ASCII. For such a
value JSON with sorted members and without spaces is the canonical form of RFC 8785; a test compares the two.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

import msgspec

from trow.access.identity import Method
from trow.lib import times
from trow.registry.events import LONGEST_SENTENCE, LONGEST_TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access import identity
    from trow.registry.events import Event

MOST_IN_A_LIST: Final = 100
# Bytes of all names of groups, of those that somebody has only said, and of all further manifests (64 SHA-512).
GROUPS_BYTES: Final = 4096
SAID_GROUPS_BYTES: Final = 512
MANIFESTS_BYTES: Final = 9216
# RFC 8785 writes numbers as ECMAScript does, which is exact up to here.
LARGEST_NUMBER: Final = 2**53 - 1
CUT: Final = "…"


class RecordedActor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Who it was; see `trow.access.identity.Identity`. Absent for a request without credentials.

    Attributes:
        unproven: whether it is only claimed, and nothing proves it.
    """

    user: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    method: str = ""
    credential: str = ""
    unproven: bool = False

    @property
    def only_said(self) -> bool:
        """Whether nothing proves it. Older records have no member for that."""
        return self.unproven or self.method == Method.REVIEW.value


class RecordedWorkload(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Where in the cluster it ran; see `trow.access.identity.Workload`."""

    namespace: str = ""
    service_account: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    node_uid: str = ""


class RecordedClient(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Where the request came from."""

    address: str = ""
    forwarded: str = ""
    agent: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What is kept of one event.

    Attributes:
        writer: which process's chain it belongs to.
        sequence: its place in that chain, counted from 1.
        started: when a pull or push began, where that is known, or the first of equal events came.
        ended: when the last of equal events came.
        prev: the hash of the record before; absent in the first.
        hash: see `trow.audit.chain`.
    """

    time: str
    writer: str
    sequence: int
    action: str
    outcome: str
    status: int = 0
    reason: str = ""
    actor: RecordedActor | None = None
    workload: RecordedWorkload | None = None
    client: RecordedClient | None = None
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
    started: str = ""
    ended: str = ""
    request: str = ""
    trace: str = ""
    prev: str = ""
    hash: str = ""


# Names and digests are kinds of text.
encode: Final = msgspec.json.Encoder(order="sorted", enc_hook=str).encode
# Reads a record of our own; `decode` is for what may have been altered.
read: Final = msgspec.json.Decoder(Record).decode


def decode(text: str | bytes) -> Record:
    """Read a record in its canonical form, which is the only one it may have.

    Raises:
        ValueError: it is not one.
    """
    record = read(text)
    if encode(record) != (text.encode() if isinstance(text, str) else text):
        raise ValueError("it is not in canonical form")
    return record


def compose(event: Event, writer: str, sequence: int, at: int, prev: str, mark: str) -> Record:
    """The record of an event that was reported ``at`` a time, in microseconds.

    It continues the chain of a ``writer``, after the record whose hash is ``prev``; ``mark`` holds its own place.
    """
    actor, home = _who(event.actor)
    origin = event.origin
    client = None
    if origin.address or origin.forwarded or origin.agent:
        client = RecordedClient(_text(origin.address), _text(origin.forwarded, LONGEST_SENTENCE), _text(origin.agent))
    return Record(
        time=times.precise(at),
        writer=writer,
        sequence=sequence,
        action=event.action.value,
        outcome=event.outcome.value,
        status=_number(event.status),
        reason=_text(event.reason, LONGEST_SENTENCE),
        actor=actor,
        workload=_workload(event.workload) if event.workload is not None else home,
        client=client,
        repository=_text(event.repository),
        reference=_text(event.reference),
        digest=_text(event.digest),
        media_type=_text(event.media_type),
        manifests=_texts(event.manifests, MANIFESTS_BYTES) if event.manifests else (),
        previous=_text(event.previous),
        source=_text(event.source),
        detail=_text(event.detail, LONGEST_SENTENCE),
        count=_number(event.count),
        blobs=_number(event.blobs),
        bytes=_number(event.bytes),
        started=_time(event.started_at),
        ended=_time(event.ended_at),
        request=_text(origin.request),
        trace=_text(origin.trace),
        prev=prev,
        hash=mark,
    )


def _time(at: float) -> str:
    return times.precise(times.microseconds(at)) if at else ""


def _text(text: str, most: int = LONGEST_TEXT) -> str:
    """The beginning of a text that takes at most about ``most`` bytes in JSON; it ends with `CUT` where it was cut."""
    if len(text) <= most and text.isascii() and text.isprintable():
        # A name is a kind of text: only as plain text is an empty one known as a member's default, and left out.
        return str(text)
    # Half a surrogate pair comes from bytes that were not UTF-8, and cannot be written as JSON.
    text = text[: most + 1].encode("utf-8", "replace").decode()
    if len(text) <= most and len(encode(text)) <= most + 2:
        return text
    kept, room = 0, most - len(CUT)
    for letter in text:
        room -= len(encode(letter)) - 2
        if room < 0:
            break
        kept += 1
    return text[:kept] + CUT


def _texts(texts: Sequence[str], most: int) -> tuple[str, ...]:
    """The first texts that take at most ``most`` bytes; the last one is `CUT` where some are missing."""
    kept: list[str] = []
    for text in texts[:MOST_IN_A_LIST]:
        kept.append(_text(text))
        most -= len(encode(kept[-1])) + 1
        if most < 0:
            return (*kept[:-1], CUT)
    return tuple(kept) if len(texts) <= MOST_IN_A_LIST else (*kept[:-1], CUT)


def _number(number: int) -> int:
    return min(max(number, 0), LARGEST_NUMBER)


@functools.lru_cache(maxsize=1024)
def _who(who: identity.Identity) -> tuple[RecordedActor | None, RecordedWorkload | None]:
    if who.anonymous:
        return None, None
    method = "" if who.method is Method.NONE else who.method.value
    said = who.method is Method.REVIEW
    groups = _texts(who.groups, SAID_GROUPS_BYTES if said else GROUPS_BYTES)
    actor = RecordedActor(_text(who.name), _text(who.uid), groups, method, _text(who.credential), said)
    return actor, None if who.workload is None else _workload(who.workload)


def _workload(where: identity.Workload) -> RecordedWorkload:
    names = where.namespace, where.service_account, where.pod, where.pod_uid, where.node, where.node_uid
    return RecordedWorkload(*map(_text, names))


def digests(record: Record) -> frozenset[str]:
    """The digests that the record is found by."""
    return frozenset(digest for digest in (record.digest, *record.manifests) if digest and digest != CUT)
