"""`AdmissionReview` of `admission.k8s.io/v1`: read with limits, answered exactly as the API server wants it."""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from trow.lib.terminal import printable
from trow.oci.errors import RequestInvalid
from trow.oci.numbers import finite
from trow.policy.pods import Kind, UnreadableObject

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API_VERSION: Final = "admission.k8s.io/v1"
# The API server cuts the warnings of an answer at this length; a warning of its own should have 120 or less.
WARNINGS_BYTES: Final = 4096
LONGEST_WARNING: Final = 400
# A message is shown in a terminal, and kept in the events of whatever tried to make the Pod.
LONGEST_MESSAGE: Final = 2048


# Objects above it are looked into beside the event loop.
LARGE: Final = 64 * 1024
# Of an object, counted before they are made: a Pod of 3 MiB has some ten thousand, with everything that was ever done
# to it in `managedFields` some ten times that.
MOST_MEMBERS: Final = 200_000
_ABSENT: Final = msgspec.Raw(b"null")
# Longer than any name in a cluster.
_LONGEST_NAME: Final = 512
_Name = Annotated[str, Meta(max_length=_LONGEST_NAME)]


class User(Struct, frozen=True):
    """Who sent the request that is reviewed (`authentication.k8s.io/v1`, UserInfo)."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()


class _Gvk(Struct, frozen=True):
    kind: str
    group: str = ""
    version: str = ""


class _Request(Struct, frozen=True, rename="camel"):
    """The request within a review, as it is written. What Go leaves empty is absent or null."""

    uid: Annotated[str, Meta(min_length=1, max_length=256)]
    kind: _Gvk
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: User = User()
    name: _Name | None = None
    namespace: _Name | None = None
    object: msgspec.Raw = _ABSENT
    old_object: msgspec.Raw = _ABSENT
    dry_run: bool | None = None


@dataclass(frozen=True)
class Review:
    """What the API server asks. Its objects stay as they came until somebody wants to know what is in them.

    Attributes:
        kind: of the object.
        api_version: group and version, as manifests have it.
        name, namespace: "" where there is none.
        raw, raw_old: see `item` and `old_item`.
        dry_run: nothing is stored, and the review may have no effect either.
    """

    uid: str
    kind: Kind
    api_version: str
    operation: str
    user: User
    name: str
    namespace: str
    raw: msgspec.Raw
    raw_old: msgspec.Raw
    dry_run: bool

    @functools.cached_property
    def item(self) -> dict[str, object] | None:
        """The object to be stored; None on DELETE. Raises `UnreadableObject`."""
        return _object(self.raw)

    @functools.cached_property
    def old_item(self) -> dict[str, object] | None:
        """What is stored; None on CREATE. Raises `UnreadableObject`."""
        return _object(self.raw_old)

    @property
    def stores(self) -> bool:
        """Whether something is to be stored: an object that goes away, or is connected to, is of no interest."""
        return self.operation in ("CREATE", "UPDATE")

    @property
    def large(self) -> bool:
        """Whether to look into the objects takes so long that the event loop should not wait for it."""
        return len(memoryview(self.raw)) + len(memoryview(self.raw_old)) > LARGE

    @property
    def metadata(self) -> Mapping[str, object]:
        """The object's metadata; empty where there is none, or none that can be read."""
        try:
            found = self.item.get("metadata") if self.item is not None else None
        except UnreadableObject:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def object_name(self) -> str:
        """Its name, which may still be the beginning of one."""
        given = (self.name, self.metadata.get("name"), self.metadata.get("generateName"))
        return next((name[:_LONGEST_NAME] for name in given if isinstance(name, str) and name), "")

    @property
    def title(self) -> str:
        """What people call the object, such as ``Pod team-a/web``."""
        name = self.object_name or "?"
        return f"{self.kind} {self.namespace}/{name}" if self.namespace else f"{self.kind} {name}"


def _review(request: _Request) -> Review:
    gvk = request.kind
    return Review(
        request.uid,
        Kind(gvk.group, gvk.kind),
        f"{gvk.group}/{gvk.version}" if gvk.group else gvk.version,
        request.operation,
        request.user_info,
        request.name or "",
        request.namespace or "",
        request.object,
        request.old_object,
        bool(request.dry_run),
    )


class _Envelope(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _Request | None = None


def decode(body: bytes) -> Review:
    """Read a review.

    Raises:
        RequestInvalid: it is not a review. The API server then does what the webhook's `failurePolicy` says.
    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(str(error)) from None
    if envelope.kind != "AdmissionReview" or envelope.api_version != API_VERSION:
        raise RequestInvalid(f"the body is not an AdmissionReview of {API_VERSION}; set admissionReviewVersions: [v1]")
    if envelope.request is None:
        raise RequestInvalid("the AdmissionReview has no request; send one as an API server does")
    review = _review(envelope.request)
    _check("$.request.object", review.raw)
    _check("$.request.oldObject", review.raw_old)
    if review.stores:
        try:
            _ = review.item, review.old_item
        except UnreadableObject as error:
            raise _invalid(str(error)) from None
    return review


_decoder: Final = msgspec.json.Decoder(_Envelope)
_object_decoder: Final = msgspec.json.Decoder(dict[str, object], float_hook=finite)


def _invalid(why: str) -> RequestInvalid:
    return RequestInvalid(
        f"the body is not an AdmissionReview: {_cut(why, LONGEST_WARNING)}; send one as an API server does"
    )


def _check(name: str, raw: msgspec.Raw) -> None:
    """Check that an object is one and has a bounded number of members, before any of them is made.

    Raises:
        RequestInvalid: it is not an object, or has more.
    """
    content = bytes(raw)
    if content[:1] != b"{" and content != b"null":
        raise _invalid(f"{name} is not an object")
    # What separates them may stand in texts too, so this is the most that there can be.
    if len(content) > LARGE and sum(map(content.count, (b",", b"{", b"["))) > MOST_MEMBERS:
        raise _invalid(f"{name} has more than {MOST_MEMBERS} members")


def _object(raw: msgspec.Raw) -> dict[str, object] | None:
    content = bytes(raw)
    try:
        return None if content == b"null" else _object_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableObject(_cut(str(error), LONGEST_WARNING)) from None


class _Status(Struct, frozen=True):
    code: int
    reason: str
    message: str
    status: str = "Failure"


class _Response(Struct, frozen=True, rename="camel", omit_defaults=True):
    uid: str
    allowed: bool = msgspec.field()
    status: _Status | None = None
    patch_type: str | None = None
    patch: str | None = None
    warnings: tuple[str, ...] = ()
    audit_annotations: dict[str, str] = {}


class _Answer(Struct, frozen=True, rename="camel"):
    response: _Response
    api_version: str = API_VERSION
    kind: str = "AdmissionReview"


class Patch(Struct, frozen=True, omit_defaults=True):
    """One operation of a JSON patch (RFC 6902)."""

    op: Literal["test", "replace"]
    path: str
    value: str


class AdmissionResponse(Struct, frozen=True):
    """The answer to a review.

    Attributes:
        message: why it is not allowed.
        warnings: what the user is told.
        notes: what the API server writes into its own audit event.
        patches: what is to be changed.
    """

    allowed: bool
    message: str = ""
    warnings: tuple[str, ...] = ()
    notes: dict[str, str] = {}
    patches: tuple[Patch, ...] = ()


def encode(uid: str, response: AdmissionResponse) -> bytes:
    """The body of the answer, for status 200 whatever was decided."""
    refused = _Status(403, "Forbidden", _cut(response.message, LONGEST_MESSAGE)) if not response.allowed else None
    written = _Response(
        uid,
        response.allowed,
        refused,
        patch_type="JSONPatch" if response.patches else None,
        patch=base64.b64encode(msgspec.json.encode(response.patches)).decode() if response.patches else None,
        warnings=_fitting(response.warnings),
        audit_annotations=response.notes,
    )
    return msgspec.json.encode(_Answer(written))


def _fitting(warnings: Sequence[str]) -> tuple[str, ...]:
    """As many warnings as the API server passes on, each once, with a word on the others."""
    kept: list[str] = []
    room = WARNINGS_BYTES - 64
    different = list(dict.fromkeys(_cut(warning, LONGEST_WARNING) for warning in warnings))
    for number, warning in enumerate(different):
        room -= len(warning.encode())
        if room < 0:
            kept.append(f"... and {len(different) - number} more")
            break
        kept.append(warning)
    return tuple(kept)


def _cut(text: str, length: int) -> str:
    """On one line and of a bounded length, in bytes."""
    safe = printable(text)
    raw = safe.encode()
    return safe if len(raw) <= length else raw[: length - 3].decode(errors="ignore") + "..."
