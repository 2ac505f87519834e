"""Images made by hand, offline: every byte of them is known before a client has touched one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

TAG: Final = "1"
HELLO: Final = "etc/hello"  # a file in the small layer of every image
LARGE: Final = 2 << 20  # far from small: such a blob is a file of its own in the registry


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


@dataclass(frozen=True)
class Image:
    """One manifest (of an image, or an index of images) and all content it leads to."""

    media_type: str
    manifest: bytes
    blobs: tuple[bytes, ...] = ()
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    @property
    def content(self) -> dict[str, bytes]:
        """Every byte string below and including the manifest, by its digest."""
        found = {digest(content): content for content in (*self.blobs, self.manifest)}
        for child in self.children:
            found |= child.content
        return found

    def write(self, folder: Path) -> Path:
        """The image as an OCI layout, tagged TAG."""
        store = folder / "blobs" / "sha256"
        store.mkdir(parents=True)
        for name, content in self.content.items():
            (store / name.removeprefix("sha256:")).write_bytes(content)
        tagged = descriptor(self.media_type, self.manifest) | {
            "annotations": {"org.opencontainers.image.ref.name": TAG}
        }
        (folder / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [tagged]}))
        (folder / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
        return folder


def image(seed: str, architecture: str = "amd64") -> Image:
    """An image of a small and a large layer, its own for each seed."""
    layers = [tar({HELLO: hello(seed)}), tar({"large": random.Random(seed).randbytes(LARGE)})]
    packed = [gzip.compress(layer, compresslevel=1, mtime=0) for layer in layers]
    config = encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            "history": [{"created_by": "tests"} for _ in layers],
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": [descriptor(OCI_LAYER, layer) for layer in packed],
    }
    return Image(OCI_MANIFEST, encode(manifest), (config, *packed))


def index(seed: str) -> Image:
    """An index of the image for two platforms."""
    children = {architecture: image(f"{seed} {architecture}", architecture) for architecture in ("amd64", "arm64")}
    listed = [
        descriptor(OCI_MANIFEST, child.manifest) | {"platform": {"architecture": architecture, "os": "linux"}}
        for architecture, child in children.items()
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Image(OCI_INDEX, encode(document), children=tuple(children.values()))


def hello(seed: str) -> bytes:
    return f"hello from {seed}\n".encode()


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def archive(layout: Path) -> bytes:
    """A layout as one tar file, as `ctr images import` and `podman load` read it."""
    return tar(
        {str(file.relative_to(layout)): file.read_bytes() for file in sorted(layout.rglob("*")) if file.is_file()}
    )
