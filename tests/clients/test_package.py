"""What `pip install .` brings onto a machine, without the sources beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.pages import ROOT
from support.registry import Client
from support.server import Trow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the package as it is installed; what it needs is taken from this environment."""
    folder = tmp_path_factory.mktemp("package")
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder, ROOT],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return folder


def test_the_package_holds_every_file_of_the_program(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix not in {".pyc", ""}}

    assert files(ROOT / "src" / "trow") | {"cli/quick-install.sh"} == files(installed / "trow")
    script = ROOT / "deploy" / "quick-install" / "install.sh"
    assert (installed / "trow" / "cli" / "quick-install.sh").read_bytes() == script.read_bytes()


def test_the_installed_program_serves(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    where = [sys.executable, "-P", "-c", "import trow; print(trow.__file__)"]
    assert subprocess.run(where, capture_output=True, encoding="utf-8", check=True).stdout.startswith(
        f"{installed}{os.sep}"
    )
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        assert client.get("/readyz").status == 200
