"""An image of some three kilobytes that shows whether a node can pull: it runs for some minutes, and succeeds.

It is made here, byte by byte, so that every Trow has the same one. Its program is a static ELF executable for Linux
(https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html): it waits for SIGTERM or SIGINT, for no longer than
it was told, and exits with 0. As process 1 of a container it would not get these signals otherwise.
"""

from __future__ import annotations

import io
import struct
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from trow.oci.digest import Digest
from trow.oci.media import OCI_IMAGE, OCI_INDEX

if TYPE_CHECKING:
    from collections.abc import Mapping

# Longer than twice the longest pause of a kubelet between two restarts, which is forgotten then: each run begins with a
# pull, without a pause before it.
SECONDS: Final = 660
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"  # not compressed: zlib does not promise equal bytes
_USER: Final = "65532:65532"
_PROGRAM: Final = "pull-check"

_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
_SIGNALS: Final = 1 << (15 - 1) | 1 << (2 - 1)  # SIGTERM and SIGINT
_MACHINES: Final[Mapping[str, int]] = {"amd64": 62, "arm64": 183}
_TAR_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class PullCheckImage:
    """All that has to be stored.

    Attributes:
        blobs: configurations and layers.
        manifests: those of the architectures.
        index: what a tag points at.
    """

    blobs: tuple[bytes, ...]
    manifests: tuple[bytes, ...]
    index: bytes

    @property
    def digest(self) -> Digest:
        """Of the index."""
        return Digest.of(self.index)


def pull_check_image() -> PullCheckImage:
    """The image for all architectures."""
    blobs: list[bytes] = []
    manifests: list[bytes] = []
    listed = []
    for architecture in _MACHINES:
        layer = _layer(program(architecture))
        config = _json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"User": _USER, "Entrypoint": [f"/{_PROGRAM}"]},
                "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE,
                "config": _descriptor(config, _CONFIG),
                "layers": [_descriptor(layer, _LAYER)],
            }
        )
        blobs += [config, layer]
        manifests.append(manifest)
        listed.append(_descriptor(manifest, OCI_IMAGE) | {"platform": {"architecture": architecture, "os": "linux"}})
    index = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
    return PullCheckImage(tuple(blobs), tuple(manifests), index)


def program(architecture: str, seconds: int = SECONDS) -> bytes:
    """The executable.

    Args:
        architecture: as Go names it.
        seconds: how long it runs when it is not told to end.
    """
    code = _CODE[architecture]
    data = struct.pack("<QQQ", _SIGNALS, seconds, 0)
    size = _HEADERS + len(code) + len(data)
    entry = _ADDRESS + _HEADERS
    identification = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, _MACHINES[architecture], 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # One segment that can be read and run, not written; its place fits pages of up to 64 KiB.
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x10000)
    return identification + header + segment + code + data


# Three system calls: rt_sigprocmask blocks the signals, rt_sigtimedwait waits for one of them, and exit ends with 0.


def _amd64() -> bytes:
    def code(signals: int) -> bytes:
        return b"".join(
            (
                b"\xb8\x0e\x00\x00\x00",  # mov eax, 14
                b"\x31\xff",  # xor edi, edi
                b"\xbe" + struct.pack("<I", signals),  # mov esi, signals
                b"\x31\xd2",  # xor edx, edx
                b"\x41\xba\x08\x00\x00\x00",  # mov r10d, 8
                b"\x0f\x05",  # syscall
                b"\xb8\x80\x00\x00\x00",  # mov eax, 128
                b"\xbf" + struct.pack("<I", signals),  # mov edi, signals
                b"\x31\xf6",  # xor esi, esi
                b"\xba" + struct.pack("<I", signals + 8),  # mov edx, time
                b"\x41\xba\x08\x00\x00\x00",  # mov r10d, 8
                b"\x0f\x05",  # syscall
                b"\xb8\x3c\x00\x00\x00",  # mov eax, 60
                b"\x31\xff",  # xor edi, edi
                b"\x0f\x05",  # syscall
            )
        )

    return code(_ADDRESS + _HEADERS + len(code(0)))


def _arm64() -> bytes:
    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    def adr(register: int, offset: int) -> int:
        return 0x10000000 | (offset & 3) << 29 | offset >> 2 << 5 | register

    svc, total = 0xD4000001, 15 * 4
    words = (
        *(movz(8, 135), movz(0, 0), adr(1, total - 2 * 4), movz(2, 0), movz(3, 8), svc),
        *(movz(8, 137), adr(0, total - 7 * 4), movz(1, 0), adr(2, total + 8 - 9 * 4), movz(3, 8), svc),
        *(movz(8, 93), movz(0, 0), svc),
    )
    return struct.pack(f"<{len(words)}I", *words)


_CODE: Final[Mapping[str, bytes]] = {"amd64": _amd64(), "arm64": _arm64()}


def _layer(content: bytes) -> bytes:
    """An archive with one file, and no more zeros at its end than the two blocks that it needs."""
    member = tarfile.TarInfo(_PROGRAM)
    member.size, member.mode = len(content), 0o755
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(content))
    blocks = 1 + -(-len(content) // _TAR_BLOCK) + 2
    return written.getvalue()[: blocks * _TAR_BLOCK]


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(Digest.of(content)), "size": len(content)}


def _json(value: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(value)
