"""Content to push: real bytes with the digests they have, new ones at every call."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INLINE: Final = 64 * 1024  # blobs up to this size live in the database, larger ones are files

_random: Final = random.SystemRandom()


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def descriptor_of(content: bytes, media_type: str = OCI_LAYER) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


@dataclass(frozen=True)
class Blob:
    """Bytes, and what a manifest calls them."""

    content: bytes
    media_type: str = OCI_LAYER

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    @property
    def sha512(self) -> str:
        return digest_of(self.content, "sha512")

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def descriptor(self) -> dict[str, Any]:
        return descriptor_of(self.content, self.media_type)


@dataclass(frozen=True)
class Manifest:
    """A manifest as it is pushed, and all that has to be pushed before it."""

    raw: bytes
    media_type: str
    blobs: tuple[Blob, ...] = ()
    children: tuple[Manifest, ...] = ()

    @property
    def digest(self) -> str:
        return digest_of(self.raw)

    @property
    def sha512(self) -> str:
        return digest_of(self.raw, "sha512")

    @property
    def size(self) -> int:
        return len(self.raw)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.raw)
        return document

    @property
    def descriptor(self) -> dict[str, Any]:
        return descriptor_of(self.raw, self.media_type)

    @property
    def content(self) -> dict[str, bytes]:
        """All bytes that it leads to, itself among them, by their digests."""
        found = {blob.digest: blob.content for blob in self.blobs} | {self.digest: self.raw}
        for child in self.children:
            found |= child.content
        return found


def blob(size: int = 200, media_type: str = OCI_LAYER) -> Blob:
    """Bytes that nobody else has."""
    return Blob(_random.randbytes(size), media_type)


def encode(document: Mapping[str, object]) -> bytes:
    """A document with its members in the order given; those that are None are left out."""
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def image(
    layers: int = 2,
    *,
    layer_size: int = 200,
    subject: Manifest | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """An OCI image; its config makes it unlike every other one."""
    config = blob(64, OCI_CONFIG)
    held = tuple(blob(layer_size) for _ in range(layers))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": artifact_type,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in held],
        "subject": subject and subject.descriptor,
        "annotations": annotations,
    }
    return Manifest(encode(document), OCI_IMAGE, (config, *held))


def image_of(config: bytes, layers: Sequence[bytes] = (), **members: Any) -> bytes:
    """The manifest of an OCI image over content that is at hand."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": descriptor_of(config, OCI_CONFIG),
        "layers": [descriptor_of(layer) for layer in layers],
    }
    return encode(document | members)


def index(
    children: Sequence[Manifest] | None = None,
    *,
    subject: Manifest | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """An OCI index, of two images where none are given."""
    listed = (image(1), image(1)) if children is None else tuple(children)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "artifactType": artifact_type,
        "manifests": [child.descriptor for child in listed],
        "subject": subject and subject.descriptor,
        "annotations": annotations,
    }
    return Manifest(encode(document), OCI_INDEX, (), listed)


def artifact(
    artifact_type: str = "application/vnd.example.thing",
    *,
    subject: Manifest | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """An image manifest that holds something else (image-spec, "Guidelines for Artifact Usage")."""
    config, thing = Blob(b"{}", OCI_EMPTY), blob(media_type=artifact_type)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": artifact_type,
        "config": config.descriptor,
        "layers": [thing.descriptor],
        "subject": subject and subject.descriptor,
        "annotations": annotations,
    }
    return Manifest(encode(document), OCI_IMAGE, (config, thing))


def docker_image(layers: int = 2) -> Manifest:
    """An image as Docker writes it, schema 2."""
    config = blob(64, DOCKER_CONFIG)
    held = tuple(blob(media_type=DOCKER_LAYER) for _ in range(layers))
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_IMAGE,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in held],
    }
    return Manifest(encode(document), DOCKER_IMAGE, (config, *held))


def docker_list(children: Sequence[Manifest]) -> Manifest:
    """A manifest list as Docker writes it."""
    platform = {"architecture": "amd64", "os": "linux"}
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST,
        "manifests": [child.descriptor | {"platform": platform} for child in children],
    }
    return Manifest(encode(document), DOCKER_LIST, (), tuple(children))


def sized_image(size: int) -> Manifest:
    """An image whose manifest has exactly ``size`` bytes, and that needs no layer."""
    config = Blob(b"{}", OCI_EMPTY)
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": config.descriptor,
        "layers": [],
        "annotations": {"filling": _random.randbytes(8).hex()},
    }
    short = encode(document)
    raw = short.replace(b'"filling": "', b'"filling": "' + b"x" * (size - len(short)))
    return Manifest(raw, OCI_IMAGE, (config,))
