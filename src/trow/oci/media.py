"""Media types of manifests, and what they say about the document."""

from __future__ import annotations

from typing import Final

OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

IMAGES: Final = frozenset({OCI_IMAGE, DOCKER_IMAGE})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS: Final = IMAGES | INDEXES

# Layers that a registry need not hold: clients fetch them from the descriptor's own ``urls``.
_FOREIGN_PREFIXES: Final = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


def is_foreign_layer(media_type: str) -> bool:
    """Whether the layer may be absent from the registry (image-spec, layer.md, "Non-Distributable Layers")."""
    return media_type.startswith(_FOREIGN_PREFIXES)


def essence(content_type: str) -> str:
    """A ``Content-Type`` without its parameters, in lower case (RFC 9110, section 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()
