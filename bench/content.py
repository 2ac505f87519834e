"""What is pushed and pulled: large blobs that differ in one block, and images of many small layers."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bench.wire import Connection

BLOCK = 4096
MIB = 1 << 20
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
OCTETS = {"content-type": "application/octet-stream"}


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Blob:
    """A block of its own, followed by a file that all large blobs share and the page cache holds."""

    head: bytes
    tail: Path
    size: int
    digest: str

    def write_to(self, path: Path) -> None:
        path.write_bytes(self.read())

    def read(self) -> bytes:
        return self.head + self.tail.read_bytes()


@dataclass(frozen=True)
class Tail:
    """The shared end of all large blobs of a case."""

    path: Path
    size: int

    @classmethod
    def make(cls, path: Path, blob_size: int) -> Tail:
        """Write random bytes, one block fewer than a blob is to have."""
        missing = blob_size - BLOCK
        with path.open("wb") as file:
            while missing > 0:
                missing -= file.write(os.urandom(min(missing, 16 * MIB)))
        return cls(path, blob_size - BLOCK)

    def blob(self, number: int) -> Blob:
        """The blob of a round: no other has its digest."""
        head = number.to_bytes(8, "big") * (BLOCK // 8)
        hashed = hashlib.sha256(head)
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            hashed.update(mapped)
        return Blob(head, self.path, BLOCK + self.size, f"sha256:{hashed.hexdigest()}")


def push_large(connection: Connection, repository: str, blob: Blob) -> None:
    """POST, then one PUT that carries everything."""
    opened = connection.request("POST", f"/v2/{repository}/blobs/uploads/").expect(202)
    with blob.tail.open("rb") as tail:
        target = with_digest(opened.location, blob.digest)
        connection.upload("PUT", target, blob.head, tail, blob.size).expect(201)


def push_small(connection: Connection, repository: str, content: bytes) -> str:
    """HEAD, POST, PATCH, PUT: what docker, skopeo and crane send for a blob that is not there."""
    digest = digest_of(content)
    connection.request("HEAD", f"/v2/{repository}/blobs/{digest}").expect(404)
    opened = connection.request("POST", f"/v2/{repository}/blobs/uploads/").expect(202)
    patched = connection.request("PATCH", opened.location, OCTETS, content).expect(202)
    connection.request("PUT", with_digest(patched.location, digest)).expect(201)
    return digest


def push_image(connection: Connection, repository: str, tag: str, layers: list[bytes]) -> None:
    """Layers, configuration, manifest; the configuration differs as the layers do."""
    config = json.dumps({"rootfs": {"diff_ids": [digest_of(layer) for layer in layers]}}).encode()
    pushed = [(push_small(connection, repository, layer), len(layer)) for layer in layers]
    config_digest = push_small(connection, repository, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": size} for digest, size in pushed],
    }
    body = json.dumps(manifest).encode()
    connection.request("PUT", f"/v2/{repository}/manifests/{tag}", {"content-type": MANIFEST}, body).expect(201)


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"
