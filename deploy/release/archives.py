"""Archives that are the same bytes for the same files."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def tar(files: Mapping[str, Path], modified: int) -> bytes:
    """An archive of files by their names in it.

    Args:
        files: regular files.
        modified: the time that all of them get, in seconds since 1970.
    """
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = path.stat().st_size, modified, 0o644
            with path.open("rb") as file:
                archive.addfile(member, file)
    return written.getvalue()


def tar_gz(files: Mapping[str, Path], modified: int) -> bytes:
    """The same, compressed."""
    return gzip.compress(tar(files, modified), 9, mtime=0)
