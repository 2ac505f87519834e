"""Trow's own image for this machine, as `make image` builds it: once for all tests, and again after a change.

What the layers are made of is hashed; a layout with that hash in its name is what a build of them would be. `make test`
has downloaded what a build needs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from deploy.image.__main__ import cache
from deploy.image.build import MACHINES, build

import trow

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
CREATED: Final = "2026-01-01T00:00:00Z"
NAME: Final = "images.test/trow"
REFERENCE: Final = f"{NAME}:{trow.__version__}"


def sources() -> Iterator[Path]:
    yield ROOT / "pyproject.toml"
    for folder in ("src/trow", "deploy/image"):
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and path.suffix != ".pyc")


def built() -> Path:
    """The OCI layout; it takes seconds where it has to be built."""
    contents = hashlib.sha256()
    for path in sources():
        contents.update(f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    layouts = cache() / "layouts"
    layouts.mkdir(parents=True, exist_ok=True)
    wanted = layouts / contents.hexdigest()
    with (layouts / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.exists():
            make(wanted)
    return wanted


def make(wanted: Path) -> None:
    for older in sorted(wanted.parent.glob("[!.]*"), key=lambda path: path.stat().st_mtime)[:-4]:
        shutil.rmtree(older)
    (own,) = (name for name, machine in MACHINES.items() if machine == os.uname().machine)
    with tempfile.TemporaryDirectory(dir=wanted.parent, prefix=".") as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_OFFLINE", "1")
        folder = Path(place) / "layout"
        build(folder, [own], cache(), CREATED, lambda _text: None)
        folder.rename(wanted)


@pytest.fixture(scope="session")
def own_image() -> Path:
    """The OCI layout of Trow's image: `node_cluster.import_image(own_image, own.REFERENCE)`."""
    return built()
