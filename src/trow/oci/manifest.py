"""Manifests: read once, strictly, and kept byte for byte as they were pushed.

Rules of the image specification (manifest.md, image-index.md, descriptor.md) that matter to a registry, and two that
security asks for: a document that could be read both as an image and as an index is refused (CVE-2021-41190), and so is
one that has a member twice, also in another letter case, because clients disagree which of them counts.

Most clients are written in Go, which writes ``null`` for an empty list and reads it as nothing: a member that is
null counts as absent. Sizes are taken as they come; they are compared where the content is known.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from trow.oci import media
from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid, ManifestInvalid
from trow.oci.numbers import finite

if TYPE_CHECKING:
    from collections.abc import Iterator


def _folded(*names: str) -> dict[str, str]:
    return {name.casefold(): name for name in names}


_MEMBERS: Final = _folded(
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"
)
_DESCRIPTOR_MEMBERS: Final = _folded(
    "mediaType", "digest", "size", "artifactType", "annotations", "urls", "data", "platform"
)
# Reading one of this size takes about half a millisecond; larger ones are read beside the event loop.
LARGE: Final = 64 * 1024
# Of a large one, counted before any is made: an index of 4 MiB has some 120 000. Making them holds everything else up.
MOST_MEMBERS: Final = 150_000
_OF_AN_IMAGE: Final = ("config", "layers")
_OF_AN_INDEX: Final = ("manifests",)
_SCHEMA_VERSION: Final = 2
# Both halves of a media type (RFC 6838, section 4.2) and the slash.
_LONGEST_TYPE: Final = 127 + 1 + 127
_LARGEST_SIZE: Final = 2**63 - 1


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str
    mediaType: str | None = None  # noqa: N815 - the specification's name
    size: int | None = None
    artifactType: str | None = None  # noqa: N815
    annotations: dict[str, str | None] | None = None
    urls: list[str | None] | None = None
    data: str | None = None


class _Document(msgspec.Struct, frozen=True):
    schemaVersion: int  # noqa: N815
    mediaType: str | None = None  # noqa: N815
    artifactType: str | None = None  # noqa: N815
    subject: _Descriptor | None = None
    annotations: dict[str, str | None] | None = None


class _Image(_Document, frozen=True, kw_only=True):
    config: _Descriptor
    layers: list[_Descriptor] | None = None


class _Index(_Document, frozen=True, kw_only=True):
    manifests: list[_Descriptor] | None = None


_IMAGE: Final = msgspec.json.Decoder(_Image)
_INDEX: Final = msgspec.json.Decoder(_Index)
_STRICT: Final = msgspec.json.Decoder(float_hook=finite)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says about other content.

    Attributes:
        size: in bytes; None if none is given, or an impossible one.
        media_type: "" if none is given.
    """

    digest: Digest
    size: int | None
    media_type: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that keeps the rules.

    Attributes:
        raw: the bytes as pushed; never serialised again.
        media_type: what it is served as.
        blobs: config and layers that the registry is expected to hold (no foreign layers).
        children: the manifests of an index.
        subject: the manifest that this one refers to, if any.
        artifact_type: what the referrers list shows (an image without one has its config's media type there).
        annotations: the document's own annotations.
        foreign: whether it has layers that live elsewhere.
        unsized: digests of content whose size is not said, or said wrongly as the manifest itself shows.
    """

    raw: bytes
    media_type: str
    blobs: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Digest | None
    artifact_type: str | None
    annotations: dict[str, str] | None
    foreign: bool
    unsized: tuple[Digest, ...] = ()


def parse(raw: bytes, content_type: str) -> Manifest:
    """Read a manifest that was pushed with ``content_type`` ("" when the client sent none).

    Raises:
        ManifestInvalid: it breaks a rule; the message says which and where.
    """
    members = _members(raw)
    media_type = _media_type(members, media.essence(content_type))
    other = _OF_AN_INDEX if media_type in media.IMAGES else _OF_AN_IMAGE
    if any(members.get(name) is not None for name in other):
        raise ManifestInvalid(
            "the manifest is an image with the media type of an index, or the reverse; send it with the right one"
        )
    return _manifest(raw, media_type, _decode(_IMAGE if media_type in media.IMAGES else _INDEX, raw))


def _members(raw: bytes) -> dict[str, object]:
    # What separates members may stand in texts too, so this is the most that there can be.
    if len(raw) > LARGE and sum(map(raw.count, (b",", b"{", b"["))) > MOST_MEMBERS:
        raise ManifestInvalid(f"the manifest has more than {MOST_MEMBERS} members; split it")
    try:
        # The one parser is strict about the text (UTF-8, lone surrogates, constants), the other can tell of duplicates.
        _STRICT.decode(raw)
        document = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(
            f"the manifest is not valid JSON: {_short(error)}; send the bytes of a manifest"
        ) from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object; send the bytes of a manifest")
    _check_letter_case(document, _MEMBERS)
    for descriptor in _descriptors(document):
        _check_letter_case(descriptor, _DESCRIPTOR_MEMBERS)
    given = {name for name, value in document.items() if value is not None}
    if "manifests" in given and not given.isdisjoint(_OF_AN_IMAGE):
        raise ManifestInvalid(
            "the manifest is both an image and an index; leave out either manifests, or config and layers"
        )
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has the same member twice")
    return members


def _descriptors(document: dict[str, object]) -> Iterator[dict[str, object]]:
    for name in ("config", "subject", "layers", "manifests"):
        value = document.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield each


def _check_letter_case(members: dict[str, object], known: dict[str, str]) -> None:
    for name in members:
        meant = known.get(name.casefold())
        if meant is not None and meant != name:
            raise ManifestInvalid(
                f"the manifest has a member {name!r}; clients may take it for {meant!r}; write it so, or leave it out"
            )


def _media_type(members: dict[str, object], content_type: str) -> str:
    declared = members.get("mediaType")
    if declared in (None, ""):
        declared = None
    elif content_type and declared != content_type:
        raise ManifestInvalid(
            "Content-Type and mediaType of the manifest disagree; send the manifest as its mediaType",
            {"Content-Type": content_type[:128], "mediaType": str(declared)[:128]},
        )
    media_type = content_type or declared
    if not isinstance(media_type, str) or media_type not in media.MANIFESTS:
        raise ManifestInvalid(
            f"the manifest's media type is not supported; use one of {', '.join(sorted(media.MANIFESTS))}",
            {"mediaType": str(media_type)[:128]},
        )
    return media_type


def _decode(decoder: msgspec.json.Decoder[_Image] | msgspec.json.Decoder[_Index], raw: bytes) -> _Image | _Index:
    try:
        document = decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ManifestInvalid(
            f"the manifest breaks the image specification: {_short(error)}; correct that, or build it again"
        ) from None
    if document.schemaVersion != _SCHEMA_VERSION:
        raise ManifestInvalid(
            "schemaVersion is not 2, and older schemas are not supported; push the image with a current client"
        )
    return document


def _manifest(raw: bytes, media_type: str, document: _Image | _Index) -> Manifest:
    artifact_type, annotations = document.artifactType, document.annotations
    if isinstance(document, _Image):
        configs, children = [_descriptor(document.config, "config")], []
        layers = _listed(document.layers, "layers")
        artifact_type = artifact_type or configs[0].media_type
    else:
        configs, layers = [], []
        children = _listed(document.manifests, "manifests")
    held = [layer for layer in layers if not media.is_foreign_layer(layer.media_type)]
    subjects = [] if document.subject is None else [_descriptor(document.subject, "subject")]
    if artifact_type is not None and len(artifact_type) > _LONGEST_TYPE:
        raise ManifestInvalid(
            f"the artifactType is longer than a media type may be; shorten it to {_LONGEST_TYPE} characters"
        )
    described = (*configs, *layers, *children, *subjects)
    return Manifest(
        raw=raw,
        media_type=media_type,
        blobs=(*configs, *held),
        children=tuple(children),
        subject=subjects[0].digest if subjects else None,
        artifact_type=artifact_type or None,
        annotations=None if annotations is None else {name: value or "" for name, value in annotations.items()},
        foreign=len(held) < len(layers),
        unsized=tuple(each.digest for each in described if each.size is None),
    )


def _listed(descriptors: list[_Descriptor] | None, where: str) -> list[Descriptor]:
    return [_descriptor(each, f"{where}[{at}]") for at, each in enumerate(descriptors or ())]


def _descriptor(descriptor: _Descriptor, where: str) -> Descriptor:
    try:
        digest = Digest.parse(descriptor.digest)
    except DigestInvalid as error:
        raise ManifestInvalid(f"{where}.digest: {error.message}") from None
    size = descriptor.size
    if size is not None and size > _LARGEST_SIZE:
        raise ManifestInvalid(f"{where}.size is out of range; write the bytes that the content has")
    wrong = size is None or size < 0
    if descriptor.data:
        wrong |= _embedded(descriptor.data, digest, where) != size
    return Descriptor(digest, None if wrong else size, descriptor.mediaType or "")


def _embedded(data: str, digest: Digest, where: str) -> int:
    """The size of embedded data, which must be the content that the digest speaks of (descriptor.md)."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ManifestInvalid(f"{where}.data is not base64; correct it or leave it out") from None
    if Digest.of(content, digest.algorithm) != digest:
        raise ManifestInvalid(f"{where}.data is not the content that its digest names; correct it or leave it out")
    return len(content)


def _short(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
