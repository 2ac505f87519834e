"""The image of the node agent: Debian's busybox without anything else, and the programs of `deploy/nodes`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.image import debian, sbom
from deploy.image.build import ROOT, Assembly, annotations_of
from deploy.image.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploy.image.build import Built

NAME: Final = "trow-node-agent"
SCRIPTS: Final = ROOT / "deploy" / "nodes"
# What the programs call; busybox could do three hundred things more.
APPLETS: Final = (
    "awk", "cat", "chmod", "chroot", "cmp", "cp", "cut", "grep", "head", "mkdir", "mv", "paste", "rm", "rmdir", "sed",
    "sh", "sleep", "stat", "sync", "tr", "wc",
)  # fmt: skip


def build_agent(
    folder: Path, architectures: Sequence[str], cache: Path, created: str, say: Callable[[str], None]
) -> Built:
    """Build the image into a new folder, as an OCI layout.

    Args:
        folder: must not exist.
        architectures: as Go names them.
        cache: for downloads.
        created: RFC 3339; the time that the image tells.
        say: is told what is being done.

    Raises:
        PackageError: a package cannot be had.
    """
    folder.mkdir(parents=True)
    layout = Layout(folder)
    annotations = annotations_of("Trow node agent", "Prepares nodes to pull from Trow", created)
    assembly = Assembly(layout, NAME, created, annotations)
    # Root, because the files of a node belong to root.
    config = {
        "User": "0:0",
        "Entrypoint": [f"/usr/bin/{NAME}"],
        "Cmd": ["watch"],
        "WorkingDir": "/",
        "Labels": annotations,
    }
    for architecture in architectures:
        say(f"{architecture}: {NAME}")
        packages = debian.locked(debian.AGENT_PACKAGES)[architecture]
        with tempfile.TemporaryDirectory(prefix="trow-image-") as place:
            root = Path(place)
            _furnish(root, packages, cache)
            files = sorted(
                path for path in root.rglob("*") if path.is_symlink() or not path.is_dir() or path.name == "tmp"
            )
            layers = [layout.add_layer(root, files)]
            bill = sbom.cyclonedx(NAME, architecture, packages, root, created)
        assembly.add(architecture, layers, config, bill)
    return assembly.finish()


def _furnish(root: Path, packages: Sequence[debian.Package], cache: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="trow-image-") as place:
        unpacked = Path(place)
        for package in packages:
            debian.unpack(debian.fetch(package, cache), unpacked)
        for name in ("usr/bin/busybox", *(f"usr/share/doc/{each.name}/copyright" for each in packages)):
            _copy(unpacked / name, root / name)
        shutil.copytree(unpacked / "var", root / "var")
    (root / "bin").symlink_to("usr/bin")
    for applet in APPLETS:
        (root / "usr/bin" / applet).symlink_to("busybox")
    _copy(SCRIPTS / NAME, root / "usr/bin" / NAME)
    for script in (SCRIPTS / "trow-credential-provider", *sorted((SCRIPTS / "lib").glob("*.sh"))):
        _copy(script, root / "usr/lib/trow" / script.name)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def _copy(source: Path, target: Path) -> None:
    """A copy that everybody may read, and run where the owner may: the mode of a checkout is the umask's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
