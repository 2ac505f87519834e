"""`trow quick-install`: the script in `deploy/quick-install`, with its flags."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from trow.cli import command_line, quick_install

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "deploy" / "quick-install" / "install.sh"


def trow(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trow", "quick-install", *arguments]
    return subprocess.run(argv, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60)


def usage() -> str:
    return subprocess.run(["sh", str(SCRIPT), "--help"], capture_output=True, text=True, check=True).stdout


def test_flags_and_their_meaning_are_those_of_the_script() -> None:
    shown = dict(re.findall(r"^  (--[a-z-]+)(?: \S+)? {2,}(.+)$", usage(), re.MULTILINE))
    commands = next(action for action in command_line()._actions if action.dest == "parser" or action.choices)  # noqa: SLF001
    assert commands.choices is not None
    parser = dict(commands.choices)["quick-install"]
    offered = {action.option_strings[-1]: action.help for action in parser._actions}  # noqa: SLF001
    assert offered.pop("--help")
    assert {flag: text.split("; may be repeated")[0] for flag, text in shown.items()} == offered


def test_arguments_reach_the_script_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "sh").write_text('#!/bin/sh\nfor each; do echo "<$each>"; done\necho "$TROW_QUICK_INSTALL"\n', "utf-8")
    (tmp_path / "sh").chmod(0o755)
    done = trow("--image-archive", "a b", "--dry-run", "--image-archive", "c", "--timeout=5", path=str(tmp_path))
    assert done.stdout.splitlines() == [
        f"<{SCRIPT}>",
        *("<--dry-run>", "<--image-archive>", "<a b>", "<--image-archive>", "<c>", "<--timeout>", "<5>"),
        "trow quick-install",
    ]


def test_the_script_says_what_is_missing_and_its_exit_code_is_the_commands(tmp_path: Path) -> None:
    for name in ("sh", "mktemp", "rm", "sed", "paste", "wc", "grep", "tr"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if os.path.exists(f"/bin/{name}") else f"/usr/bin/{name}")  # noqa: PTH110
    done = trow(path=str(tmp_path))
    assert done.returncode == 1
    assert "there is no kubectl on the PATH" in done.stderr
    mistaken = trow("--namespace", "Trow", path=str(tmp_path))
    assert mistaken.returncode == 2
    assert "See: trow quick-install --help" in mistaken.stderr


def test_without_a_shell_it_says_so(tmp_path: Path) -> None:
    done = trow(path=str(tmp_path))
    assert done.returncode == 2
    assert "there is no sh on the PATH" in done.stderr


def test_a_missing_script_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_install, "__file__", "/nowhere/at/all/trow/cli/quick_install.py")
    assert quick_install.run(command_line().parse_args(["quick-install"])) == 2
    assert "install Trow again" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_is_in_the_wheel(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert wheel.read("trow/cli/quick-install.sh") == SCRIPT.read_bytes()
