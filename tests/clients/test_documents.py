"""Blocks of the documents that are marked `sh run` are run, with the real clients and a live registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.pages import PAGES, Block, blocks, name
from support.server import Trow
from tools.find import SYSTEM_PATH, tool

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVED = "127.0.0.1:8000"
RUN = {page: [block for block in blocks(page) if "run" in block.words] for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=name)
def test_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        for block in RUN[page]:
            if "stopped" in block.words:
                trow.stop()
            follow(block, tmp_path, trow.host)


def follow(block: Block, folder: Path, host: str) -> None:
    """Run a block as a reader would; the port alone is another one."""
    tools = [Path(sys.executable).parent, *(tool(client).parent for client in ("crane", "oras"))]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code.replace(SERVED, host)],
        cwd=folder,
        env={"HOME": str(folder), "PATH": join([*map(str, tools), SYSTEM_PATH])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{name(block.page)}:\n{block.code}\n{done.stdout}"


def join(folders: Sequence[str]) -> str:
    return os.pathsep.join(folders)
