"""`AdmissionReview` of `admission.k8s.io/v1`: read with limits, answered exactly as the API server wants it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from trow.lib.terminal import shown
from trow.oci.errors import RequestInvalid
from trow.policy.pods import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

API_VERSION: Final = "admission.k8s.io/v1"
# The API server cuts the warnings of an answer at this length; a warning of its own should have 120 or less.
WARNINGS_BYTES: Final = 4096
LONGEST_WARNING: Final = 400
# A message is shown in a terminal, and kept in the events of whatever tried to make the Pod.
LONGEST_MESSAGE: Final = 2048


class User(Struct, frozen=True):
    """Who sent the request that is reviewed (`authentication.k8s.io/v1`, UserInfo)."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] | None = ()


class _Gvk(Struct, frozen=True):
    kind: str
    group: str = ""
    version: str = ""


class Review(Struct, frozen=True, rename="camel"):
    """The request within a review.

    Attributes:
        item: the object to be stored; None on DELETE.
        old_item: what is stored; None on CREATE.
        dry_run: nothing is stored, and the review may have no effect either.
    """

    uid: Annotated[str, Meta(min_length=1, max_length=256)]
    kind: _Gvk
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    user_info: User = User()
    sub_resource: str | None = None
    name: str | None = None
    namespace: str | None = None
    item: dict[str, object] | None = msgspec.field(name="object", default=None)
    old_item: dict[str, object] | None = msgspec.field(name="oldObject", default=None)
    dry_run: bool | None = None

    @property
    def of(self) -> Kind:
        """What kind of object it is about."""
        return Kind(self.kind.group, self.kind.kind)

    @property
    def api_version(self) -> str:
        """Group and version, as manifests have it."""
        return f"{self.kind.group}/{self.kind.version}" if self.kind.group else self.kind.version

    @property
    def metadata(self) -> Mapping[str, object]:
        """The object's metadata; empty where there is none."""
        found = self.item.get("metadata") if self.item is not None else None
        return found if isinstance(found, dict) else {}

    @property
    def object_name(self) -> str:
        """Its name, which may still be the beginning of one."""
        given = (self.name, self.metadata.get("name"), self.metadata.get("generateName"))
        return next((name for name in given if isinstance(name, str) and name), "")

    @property
    def title(self) -> str:
        """What people call the object, such as ``Pod team-a/web``."""
        name = self.object_name or "?"
        return f"{self.of} {self.namespace}/{name}" if self.namespace else f"{self.of} {name}"


class _Envelope(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Review | None = None


def decode(body: bytes) -> Review:
    """Read a review.

    Raises:
        RequestInvalid: it is none. The API server then does what the webhook's `failurePolicy` says.
    """
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestInvalid(f"the body is no AdmissionReview: {_cut(str(error), LONGEST_WARNING)}") from None
    if envelope.kind != "AdmissionReview" or envelope.api_version != API_VERSION:
        raise RequestInvalid(f"the body is no AdmissionReview of {API_VERSION}; set admissionReviewVersions: [v1]")
    if envelope.request is None:
        raise RequestInvalid("the AdmissionReview has no request")
    return envelope.request


_decoder: Final = msgspec.json.Decoder(_Envelope)


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


class Ruling(Struct, frozen=True):
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


def encode(uid: str, ruling: Ruling) -> bytes:
    """The body of the answer, for status 200 whatever was decided."""
    refused = _Status(403, "Forbidden", _cut(ruling.message, LONGEST_MESSAGE)) if not ruling.allowed else None
    response = _Response(
        uid,
        ruling.allowed,
        refused,
        patch_type="JSONPatch" if ruling.patches else None,
        patch=base64.b64encode(msgspec.json.encode(ruling.patches)).decode() if ruling.patches else None,
        warnings=_fitting(ruling.warnings),
        audit_annotations=ruling.notes,
    )
    return msgspec.json.encode(_Answer(response))


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
    safe = shown(text)
    raw = safe.encode()
    return safe if len(raw) <= length else raw[: length - 3].decode(errors="ignore") + "..."
