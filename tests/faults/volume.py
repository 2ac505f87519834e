"""Small volumes of their own, that can be filled up and turned read-only. Mounting needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Volume:
    """A mounted volume: ``data`` is for a registry, beside it is room for a file that takes the space away."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    def start(self, folder: Path) -> Trow:
        """A registry with its data on the volume and everything else, its log for one, in ``folder``."""
        return Trow.start(folder, "--data-dir", str(self.data))

    @property
    def free(self) -> int:
        """Bytes that a process may still write."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all space but ``leave`` bytes."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            for _ in range(3):
                with contextlib.suppress(OSError):
                    while (missing := self.free - leave) > 0:
                        filler.write(bytes(min(missing, 2**20)))
                # Blocks of files that were removed are free only when the journal has it.
                os.fsync(filler)

    def clear(self) -> None:
        """Give the space back."""
        (self.path / "filler").unlink()

    def remount(self, option: str) -> None:
        _run("mount", "-o", f"remount,{option}", str(self.path))


@contextlib.contextmanager
def tmpfs(path: Path, size: int, options: str = "") -> Iterator[Volume]:
    """A volume in memory."""
    with _mounted(path, "-t", "tmpfs", "-o", f"size={size}{options and f',{options}'}", "tmpfs"):
        yield Volume(path)


@contextlib.contextmanager
def ext4(path: Path, size: int) -> Iterator[Volume]:
    """A volume in a file, as disks have it: with a journal, and blocks for names."""
    image = path.with_name(f"{path.name}.img")
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
    with _mounted(path, "-o", "loop", str(image)):
        yield Volume(path)


@contextlib.contextmanager
def _mounted(path: Path, *arguments: str) -> Iterator[None]:
    assert os.geteuid() == 0, "mounting a volume needs root: run this test as root (in CI: a privileged container)"
    path.mkdir(exist_ok=True)
    _run("mount", *arguments, str(path))
    try:
        yield
    finally:
        _run("umount", str(path))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
