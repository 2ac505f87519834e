"""The image of the node agent: built twice, with nothing in it but what the agent calls, and run from its files."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.image.__main__ import cache
from deploy.image.agent import APPLETS, build_agent
from deploy.image.build import MACHINES

from nodes.scratch import HOSTS, ONE, Node
from tools.find import search_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREATED: Final = "2026-01-01T00:00:00Z"
MOST_BYTES: Final = 1_200_000
SCRIPTS: Final = {"files.sh", "node.sh", "settings.sh", "registry.sh", "credentials.sh", "trow-credential-provider"}


def built(folder: Path) -> dict[str, Path]:
    """The layer of each architecture."""
    build_agent(folder, [*MACHINES], cache(), CREATED, lambda _text: None)
    index = json.loads((folder / "index.json").read_bytes())
    images = blob(folder, index["manifests"][0])["manifests"]
    layers = {each["platform"]["architecture"]: blob(folder, each)["layers"][0] for each in images}
    return {name: folder / "blobs" / layer["digest"].replace(":", "/") for name, layer in layers.items()}


def blob(folder: Path, descriptor: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes())
    return found


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return built(tmp_path_factory.mktemp("agent") / "image")


def members(layer: Path) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(layer) as archive:
        yield from archive


def test_two_builds_are_the_same_bytes(layers: dict[str, Path], tmp_path: Path) -> None:
    again = built(tmp_path / "image")
    assert {name: path.name for name, path in again.items()} == {name: path.name for name, path in layers.items()}


@pytest.mark.parametrize("architecture", MACHINES)
def test_there_is_nothing_in_it_but_busybox_and_the_programs(architecture: str, layers: dict[str, Path]) -> None:
    assert layers[architecture].stat().st_size <= MOST_BYTES
    files = [*members(layers[architecture])]
    names = {each.name for each in files}
    assert {each.name.removeprefix("usr/bin/") for each in files if each.name.startswith("usr/bin/")} == {
        "busybox",
        "trow-node-agent",
        *APPLETS,
    }
    assert {name.removeprefix("usr/lib/trow/") for name in names if name.startswith("usr/lib/trow/")} == SCRIPTS
    assert not [each.name for each in files if each.mode & 0o6000 or each.isdev() or each.uid or each.gid]


def test_the_agent_needs_nothing_that_the_image_lacks(layers: dict[str, Path], tmp_path: Path) -> None:
    """It runs with the image as its root, and a node below it."""
    root = tmp_path / "image"
    with tarfile.open(layers["amd64"]) as archive:
        archive.extractall(root, filter="tar")
    (root / "dev").mkdir()
    (root / "dev/null").touch()  # which runtimes make
    node = Node(root / "node")
    node.has_containerd(ONE)
    node.has_kubelet("--config=/none")
    node.set(credentialProvider="true")
    here = {name: value.replace(str(root), "") for name, value in node.environment.items()}
    environment = here | {"PATH": "/usr/bin:/bin", "TROW_LIB": "/usr/lib/trow"}
    del environment["TROW_PROVIDER"]
    chroot = shutil.which("chroot", path=search_path()) or "chroot"
    before = node.files()
    for mode, written in (("apply", True), ("restore", False)):
        argv = [chroot, str(root), "/usr/bin/trow-node-agent", mode]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), mode
        assert node.at(HOSTS).exists() is written
    assert node.files() == before
