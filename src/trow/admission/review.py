"""`AdmissionReview` of `admission.k8s.io/v1`: decoding with limits, and encoding of the answer."""

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
# Bytes of all warnings of an answer; the API server drops the rest. It recommends 120 characters for one warning.
WARNINGS_BYTES: Final = 4096
LONGEST_WARNING: Final = 400
# Bytes of a message, which terminals show and Events of the controller keep.
LONGEST_MESSAGE: Final = 2048
# Bytes; larger objects are read in a thread.
LARGE: Final = 64 * 1024
# Members of an object, counted before any value is built: a Pod of 3 MiB has about ten thousand, and with a long
# history in `managedFields` about ten times as many.
MOST_MEMBERS: Final = 200_000
_ABSENT: Final = msgspec.Raw(b"null")
# Longer than any name in a cluster.
_LONGEST_NAME: Final = 512
_Name = Annotated[str, Meta(max_length=_LONGEST_NAME)]


class User(Struct, frozen=True):
    """The user who sent the request (`UserInfo` of `authentication.k8s.io/v1`)."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()


class _Gvk(Struct, frozen=True):
    kind: str
    group: str = ""
    version: str = ""


class _Request(Struct, frozen=True, rename="camel"):
    """`AdmissionRequest`, as it is written. Go leaves empty fields out, or writes null."""

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
    """A request of the API server. Its objects are decoded when they are used.

    Attributes:
        kind: of the object.
        api_version: group and version, as in manifests.
        name, namespace: "" if there is none.
        raw, raw_old: see `item` and `old_item`.
        dry_run: the object will not be stored, so the review may have no side effects.
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
        """The object that is stored now; None on CREATE. Raises `UnreadableObject`."""
        return _object(self.raw_old)

    @property
    def stores(self) -> bool:
        """Whether an object is to be stored; DELETE and CONNECT store nothing."""
        return self.operation in ("CREATE", "UPDATE")

    @property
    def large(self) -> bool:
        """Whether the objects are too large to be read on the event loop."""
        return len(memoryview(self.raw)) + len(memoryview(self.raw_old)) > LARGE

    @property
    def metadata(self) -> Mapping[str, object]:
        """The metadata of the object; empty if there is none, or if it cannot be read."""
        try:
            found = self.item.get("metadata") if self.item is not None else None
        except UnreadableObject:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def object_name(self) -> str:
        """The name of the object, or its `generateName`."""
        given = (self.name, self.metadata.get("name"), self.metadata.get("generateName"))
        return next((name[:_LONGEST_NAME] for name in given if isinstance(name, str) and name), "")

    @property
    def title(self) -> str:
        """The object for people, such as ``Pod team-a/web``."""
        name = self.object_name or "?"
        return f"{self.kind} {self.namespace}/{name}" if self.namespace else f"{self.kind} {name}"


class _Envelope(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: _Request | None = None


def decode(body: bytes) -> Review:
    """Read a review.

    Raises:
        RequestInvalid: it is not a review. The API server then applies the `failurePolicy` of the webhook.
    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(str(error)) from None
    if envelope.kind != "AdmissionReview" or envelope.api_version != API_VERSION:
        raise RequestInvalid(f"the body is not an AdmissionReview of {API_VERSION}; set admissionReviewVersions: [v1]")
    request = envelope.request
    if request is None:
        raise RequestInvalid("the AdmissionReview has no request; send one as an API server does")
    gvk = request.kind
    review = Review(
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
    """Check the type and the number of members of an object, before any value is built.

    Raises:
        RequestInvalid: it is not an object, or has more than `MOST_MEMBERS`.
    """
    content = bytes(raw)
    if content[:1] != b"{" and content != b"null":
        raise _invalid(f"{name} is not an object")
    # An upper bound: strings may contain these characters too.
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
        message: why the object is not allowed.
        warnings: shown to the user.
        audit_annotations: written by the API server into its own audit event.
        patches: the changes to the object.
    """

    allowed: bool
    message: str = ""
    warnings: tuple[str, ...] = ()
    audit_annotations: dict[str, str] = {}
    patches: tuple[Patch, ...] = ()


def encode(uid: str, response: AdmissionResponse) -> bytes:
    """The body of the answer; the HTTP status is 200 for every decision."""
    refused = _Status(403, "Forbidden", _cut(response.message, LONGEST_MESSAGE)) if not response.allowed else None
    written = _Response(
        uid,
        response.allowed,
        refused,
        patch_type="JSONPatch" if response.patches else None,
        patch=base64.b64encode(msgspec.json.encode(response.patches)).decode() if response.patches else None,
        warnings=_fitting(response.warnings),
        audit_annotations=response.audit_annotations,
    )
    return msgspec.json.encode(_Answer(written))


def _fitting(warnings: Sequence[str]) -> tuple[str, ...]:
    """As many warnings as the API server passes on, each once, and how many there are beside them."""
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
    """The text on one line, cut to this length in bytes."""
    safe = printable(text)
    raw = safe.encode()
    return safe if len(raw) <= length else raw[: length - 3].decode(errors="ignore") + "..."
