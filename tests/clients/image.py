"""Images made by hand, offline: every byte of them is known before a client has touched one."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from typing import TYPE_CHECKING, Final

from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, OCI_LAYER, Blob, Manifest, digest_of, encode, image_of

if TYPE_CHECKING:
    from pathlib import Path

TAG: Final = "1"
HELLO: Final = "etc/hello"  # a file in the small layer of every image
LARGE: Final = 2 << 20  # far from small: such a blob is a file of its own in the registry


def write_layout(image: Manifest, folder: Path) -> Path:
    """The image as an OCI layout, tagged TAG."""
    store = folder / "blobs" / "sha256"
    store.mkdir(parents=True)
    for name, content in image.content.items():
        (store / name.removeprefix("sha256:")).write_bytes(content)
    tagged = image.descriptor | {"annotations": {"org.opencontainers.image.ref.name": TAG}}
    (folder / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [tagged]}))
    (folder / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    return folder


def image(seed: str, architecture: str = "amd64") -> Manifest:
    """An image of a small and a large layer, its own for each seed."""
    layers = [tar({HELLO: hello(seed)}), tar({"large": random.Random(seed).randbytes(LARGE)})]
    packed = [gzip.compress(layer, compresslevel=1, mtime=0) for layer in layers]
    config = encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "history": [{"created_by": "tests"} for _ in layers],
        }
    )
    blobs = (Blob(config, OCI_CONFIG), *(Blob(layer, OCI_LAYER) for layer in packed))
    return Manifest(image_of(config, packed), OCI_IMAGE, blobs)


def index(seed: str) -> Manifest:
    """An index of the image for two platforms."""
    children = {architecture: image(f"{seed} {architecture}", architecture) for architecture in ("amd64", "arm64")}
    listed = [
        child.descriptor | {"platform": {"architecture": architecture, "os": "linux"}}
        for architecture, child in children.items()
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
    return Manifest(encode(document), OCI_INDEX, children=tuple(children.values()))


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
