"""Packages of Debian: locked by digest, fetched once, and unpacked without Debian's tools."""

from __future__ import annotations

import hashlib
import io
import lzma
import subprocess
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MIRROR: Final = "http://deb.debian.org"
SUITE: Final = "trixie"
# The newest version in any of these counts, as with apt.
ARCHIVES: Final = (("debian", SUITE), ("debian", f"{SUITE}-updates"), ("debian-security", f"{SUITE}-security"))
PACKAGES: Final = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.13-minimal",
    "libpython3.13-stdlib",
    "libssl3t64",
    "libzstd1",
    "python3.13-minimal",
    "zlib1g",
)
AGENT_PACKAGES: Final = ("busybox-static",)
LOCK: Final = Path(__file__).with_name("packages.lock.json")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_AR_MAGIC: Final = b"!<arch>\n"
_AR_HEADER: Final = 60
_TIMEOUT: Final = 120.0


class PackageError(Exception):
    """A package cannot be had; the message says which, why, and what to do."""


class Package(msgspec.Struct, frozen=True):
    """A package as it is locked: ``path`` is below the mirror."""

    name: str
    version: str
    path: str
    sha256: str


def locked(names: Sequence[str] = PACKAGES) -> Mapping[str, Sequence[Package]]:
    """The packages of an image for each architecture, by Debian's name of it."""
    found = msgspec.json.decode(LOCK.read_bytes(), type=dict[str, list[Package]])
    return {architecture: [each for each in packages if each.name in names] for architecture, packages in found.items()}


def write_lock(architectures: Sequence[str]) -> None:
    """Lock the newest versions of today."""
    newest = {architecture: [*_newest(architecture)] for architecture in architectures}
    LOCK.write_bytes(msgspec.json.format(msgspec.json.encode(newest), indent=1) + b"\n")


def fetch(package: Package, cache: Path) -> Path:
    """The package's file, from the cache or the mirror.

    Raises:
        PackageError: the mirror does not have it, or has other bytes.
    """
    kept = cache / f"{package.sha256}.deb"
    if not kept.is_file():
        content = _download(f"{MIRROR}/{package.path}", f"{package.name} {package.version}")
        if hashlib.sha256(content).hexdigest() != package.sha256:
            raise PackageError(f"{package.name}: the mirror has other bytes than {LOCK.name} says; try another mirror")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            file.write(content)
        Path(file.name).rename(kept)
    return kept


def unpack(deb: Path, root: Path) -> None:
    """Put the package's files below ``root``, and what scanners look for: its control file."""
    members = dict(_members(deb.read_bytes()))
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(members["data.tar.xz"]))) as data:
        data.extractall(root, filter="tar")
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(members["control.tar.xz"]))) as control:
        file = control.extractfile("./control")
        text = b"" if file is None else file.read()
    about = root / "var" / "lib" / "dpkg" / "status.d"
    about.mkdir(parents=True, exist_ok=True)
    (about / _fields(text.decode())["Package"]).write_bytes(text)


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive (deb(5))."""
    at = len(_AR_MAGIC)
    while at + _AR_HEADER <= len(archive):
        header = archive[at : at + _AR_HEADER]
        size = int(header[48:58])
        at += _AR_HEADER
        yield header[:16].decode().rstrip("/ "), archive[at : at + size]
        at += size + size % 2


@dataclass(frozen=True, slots=True)
class _Archive:
    """A suite of the mirror."""

    name: str
    suite: str

    def packages(self, architecture: str) -> Iterator[Package]:
        """All packages of an architecture, as a signed index lists them."""
        place = f"{MIRROR}/{self.name}/dists/{self.suite}"
        index = f"main/binary-{architecture}/Packages.xz"
        content = _download(f"{place}/{index}", f"the index of {self.suite}")
        release = _verified(_download(f"{place}/InRelease", f"the release file of {self.suite}"))
        if [hashlib.sha256(content).hexdigest(), str(len(content)), index] not in map(str.split, release.splitlines()):
            raise PackageError(f"{index} of {self.suite} is not what its release file says; try again")
        for text in lzma.decompress(content).decode().split("\n\n"):
            if "Filename:" in text:
                fields = _fields(text)
                path = f"{self.name}/{fields['Filename']}"
                yield Package(fields["Package"], fields["Version"], path, fields["SHA256"])


def _newest(architecture: str) -> Iterator[Package]:
    found: dict[str, list[Package]] = {name: [] for name in sorted((*PACKAGES, *AGENT_PACKAGES))}
    for name, suite in ARCHIVES:
        for package in _Archive(name, suite).packages(architecture):
            if package.name in found:
                found[package.name].append(package)
    for name, versions in found.items():
        if not versions:
            raise PackageError(f"there is no package {name} for {architecture}; change PACKAGES or AGENT_PACKAGES")
        newest = versions[0]
        for each in versions[1:]:
            if _is_newer(each.version, newest.version):
                newest = each
        yield newest


def _is_newer(version: str, than: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", version, "gt", than], check=False).returncode == 0


def _verified(signed: bytes) -> str:
    """The text of a release file that Debian has signed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "InRelease"
        file.write_bytes(signed)
        argv = ["gpgv", "--keyring", str(KEYRING), "--output", "-", str(file)]
        done = subprocess.run(argv, check=False, capture_output=True)
    if done.returncode:
        raise PackageError(f"gpgv does not accept the signature of Debian: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def _fields(text: str) -> dict[str, str]:
    """The fields of a control paragraph that take one line each (deb-control(5))."""
    lines = [line.partition(":") for line in text.splitlines() if not line.startswith((" ", "#"))]
    return {name: value.strip() for name, colon, value in lines if colon}


def _download(url: str, what: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            return bytes(response.read())
    except OSError as error:
        raise PackageError(
            f"{what} cannot be fetched from {url}: {error}; if Debian has a newer version, run `make image-lock`"
        ) from error
