"""An OCI image layout, the same bytes for the same content: layers, images, an index, and what refers to them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
# 1980-01-01, which is as far back as zip files can tell; a constant, so that equal content is an equal layer.
_MODIFIED: Final = 315_532_800

Json: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in a layout: its descriptor, and the digest of the archive before it was compressed."""

    descriptor: Json
    diff_id: str
    unpacked: int


class Layout:
    """Writes a layout into an empty folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def add(self, content: bytes, media_type: str) -> dict[str, object]:
        """Add a blob; its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self._folder / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def add_json(self, value: Json, media_type: str) -> dict[str, object]:
        """Add a document; its descriptor."""
        return self.add(_json(value), media_type)

    def add_layer(self, root: Path, paths: Sequence[Path], owners: Mapping[Path, int] = {}) -> Layer:
        """Add files below ``root`` as a layer; folders that lead to them are in it, too.

        Args:
            root: what is ``/`` in the image.
            paths: files, links and folders; a folder does not stand for what is in it.
            owners: user ids of those that do not belong to root.
        """
        archive = _archive(root, sorted({*paths, *_parents(root, paths)}), owners)
        descriptor = self.add(gzip.compress(archive, 9, mtime=0), LAYER)
        size = sum(path.lstat().st_size for path in paths if path.is_file() and not path.is_symlink())
        return Layer(descriptor, f"sha256:{hashlib.sha256(archive).hexdigest()}", size)

    def add_image(self, layers: Sequence[Layer], config: Json, architecture: str, annotations: Json) -> Json:
        """Add an image for Linux; its descriptor with the platform."""
        rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
        document = {**config, "architecture": architecture, "os": "linux", "rootfs": rootfs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_json(document, CONFIG),
            "layers": [layer.descriptor for layer in layers],
            "annotations": annotations,
        }
        return {**self.add_json(manifest, MANIFEST), "platform": {"architecture": architecture, "os": "linux"}}

    def add_referrer(self, subject: Json, content: bytes, media_type: str) -> Json:
        """Add an artifact about an image; its descriptor (image-spec, "Guidelines for Artifact Usage")."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": self.add(b"{}", EMPTY),
            "layers": [self.add(content, media_type)],
            "subject": {name: subject[name] for name in ("mediaType", "digest", "size")},
        }
        return {**self.add_json(manifest, MANIFEST), "artifactType": media_type}

    def finish(self, images: Sequence[Json], referrers: Sequence[Json], name: str, tag: str, annotations: Json) -> str:
        """Write the index of the images under a name, and the layout's own; the digest of the former.

        podman and skopeo find it by its tag. containerd and docker take the whole name, and theirs have a registry.
        """
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": images, "annotations": annotations}
        described = self.add_json(index, INDEX)
        names = {
            "io.containerd.image.name": f"docker.io/library/{name}:{tag}",
            "org.opencontainers.image.ref.name": tag,
        }
        named = {**described, "annotations": names}
        top = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [named, *referrers]}
        (self._folder / "index.json").write_bytes(_json(top))
        return str(described["digest"])


def _json(value: Json) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _parents(root: Path, paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        for parent in path.parents:
            if parent == root:
                break
            yield parent


def _archive(root: Path, paths: Sequence[Path], owners: Mapping[Path, int]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            member = archive.gettarinfo(path, arcname=str(path.relative_to(root)))
            if member.type == tarfile.LNKTYPE:  # a second name of a file: stored again, it compresses to nothing
                member.type, member.linkname, member.size = tarfile.REGTYPE, "", path.stat().st_size
            member.uid, member.gid, member.uname, member.gname = owners.get(path, 0), 0, "", ""
            member.mtime = _MODIFIED
            if member.isfile():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    return written.getvalue()
