"""Builds a release: everything that is published of one version, the same bytes each time.

It is the source archive, the wheel, the images, the chart, bills of materials, provenance, and ``SHA256SUMS`` of all.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import yaml
from deploy.image.__main__ import BUILDERS
from deploy.image.build import ROOT, BuildError
from deploy.release import archives
from deploy.release.provenance import provenance

import trow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHART: Final = ROOT / "deploy" / "helm" / "trow"
SUMS: Final = "SHA256SUMS"
LAYOUTS: Final = "images"  # a folder with an OCI layout for each image, beside the release; the archives are in it


class ReleaseError(Exception):
    """The release cannot be made; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a release is made of.

    Attributes:
        commit: in hexadecimal.
        time: of the commit, in seconds since 1970: the time that everything in the release has.
    """

    commit: str
    time: int

    @property
    def created(self) -> str:
        """The time, as in RFC 3339."""
        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @classmethod
    def of_checkout(cls) -> Source:
        """The commit that is checked out.

        Raises:
            ReleaseError: files differ from it, so that nobody could build the same.
        """
        if _git("status", "--porcelain"):
            raise ReleaseError("files differ from the commit; commit or stash them, and then run `make release`")
        commit, time = _git("log", "-1", "--format=%H %ct").split()
        return cls(commit, int(time))


def build(
    folder: Path,
    source: Source,
    architectures: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
    *,
    builder: str,
) -> None:
    """Build a release into a new folder.

    Args:
        folder: must not exist. The images are beside their archives as OCI layouts, from which they can be pushed.
        source: of all of it.
        architectures: of the images, as Go names them.
        cache: for downloads.
        say: is told what is being done.
        builder: who builds it, as a URI.

    Raises:
        BuildError, ReleaseError: something is missing, or versions differ.
    """
    _check_versions()
    folder.mkdir(parents=True)
    say("source archive and wheel")
    _run_hatchling(folder, source)
    indexes: dict[str, str] = {}
    for name, build_image in BUILDERS.items():
        say(f"image {name}")
        built = build_image(folder / LAYOUTS / name, architectures, cache, source.created, say)
        _export_image(name, folder, source)
        indexes[name] = built.digest.removeprefix("sha256:")
    say("chart")
    (folder / f"trow-chart-{chart_version()}.tgz").write_bytes(archives.tar_gz(_chart_files(), source.time))
    sums = _sums(folder)
    statement = provenance({**sums, **indexes}, source, builder)  # what pulls by digest ask for is the index
    (folder / f"trow-{trow.__version__}.provenance.json").write_bytes(statement)
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _sums(folder).items()))


def chart_version() -> str:
    """The version as Helm wants it (https://semver.org/spec/v2.0.0.html): 1.0.0-rc.1 for 1.0.0rc1 (PEP 440)."""
    parsed = re.fullmatch(r"(\d+\.\d+\.\d+)(?:\.?(a|b|rc|dev)(\d+))?", trow.__version__)
    if parsed is None:
        raise ReleaseError(
            f"src/trow/__init__.py: {trow.__version__} is not a version like 1.2.3, 1.2.3rc1 or 1.2.3.dev1"
        )
    number, stage, count = parsed.groups()
    return f"{number}-{ {'a': 'alpha', 'b': 'beta'}.get(stage, stage) }.{count}" if stage else number


def _check_versions() -> None:
    """One version everywhere: that of the package."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_bytes())
    wanted = {"version": chart_version(), "appVersion": trow.__version__}
    for key, value in wanted.items():
        if chart[key] != value:
            raise ReleaseError(f"deploy/helm/trow/Chart.yaml: {key} is {chart[key]}, not {value}; set it to {value}")
    if "dev" not in trow.__version__ and f"## [{trow.__version__}]" not in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        raise ReleaseError(f"CHANGELOG.md has no section [{trow.__version__}]; rename the section [Unreleased] to it")


def _run_hatchling(folder: Path, source: Source) -> None:
    argv = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "sdist",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(source.time)}
    done = subprocess.run(argv, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"hatchling cannot build the package: {done.stderr.strip()}")


def _chart_files() -> dict[str, Path]:
    tracked = _git("ls-files", "-z", "--", str(CHART)).rstrip("\0").split("\0")
    paths = [ROOT / name for name in tracked if not Path(name).name.startswith(".")]
    return {f"trow/{path.relative_to(CHART)}": path for path in paths}


def _export_image(name: str, folder: Path, source: Source) -> None:
    """Write the archive of a layout, and as files of their own the bills of materials of the images in it."""
    layout = folder / LAYOUTS / name
    files = {str(path.relative_to(layout)): path for path in layout.rglob("*") if path.is_file()}
    (folder / f"{name}-image-{trow.__version__}.tar").write_bytes(archives.tar(files, source.time))
    index, *referrers = _read(layout / "index.json").manifests
    images = {image.digest: image.platform["architecture"] for image in _read(index.path(layout)).manifests}
    for referrer in referrers:
        bill = _read(referrer.path(layout))
        file = f"{name}-image-{trow.__version__}-{images[bill.subject.digest]}.cdx.json"
        (folder / file).write_bytes(bill.layers[0].path(layout).read_bytes())


class _Descriptor(msgspec.Struct):
    """What the layout says of a blob (image-spec, "OCI Content Descriptors")."""

    digest: str = ""
    platform: dict[str, str] = {}

    def path(self, layout: Path) -> Path:
        return layout / "blobs" / self.digest.replace(":", "/")


class _Document(msgspec.Struct):
    """An index or a manifest: the fields that lead from one blob to the next."""

    manifests: list[_Descriptor] = []
    layers: list[_Descriptor] = []
    subject: _Descriptor = msgspec.field(default_factory=_Descriptor)


def _read(path: Path) -> _Document:
    return msgspec.json.decode(path.read_bytes(), type=_Document)


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"a release is built in a clone of the repository: {done.stderr.strip()}")
    return done.stdout.strip()
