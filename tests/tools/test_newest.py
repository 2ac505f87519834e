from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tools import newest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def python(folder: Path, name: str, answer: str, status: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {status}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_newest_python_is_found_wherever_it_is(tmp_path: Path) -> None:
    python(tmp_path / "a", "python3.12", "12")
    wanted = python(tmp_path / "b", "python3.20", "20")
    python(tmp_path / "b", "python3.9", "9")
    assert newest.newest([tmp_path / "a", tmp_path / "b", tmp_path / "missing"]) == (20, wanted)


def test_a_preview_or_a_python_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    wanted = python(tmp_path, "python3.12", "12")
    python(tmp_path, "python3.21", "0")
    python(tmp_path, "python3.22", "22", status=127)
    (tmp_path / "python3.23").write_text("not a program", encoding="utf-8")
    python(tmp_path, "python3.24-config", "24")
    assert newest.newest([tmp_path]) == (12, wanted)


def test_what_is_printed_is_newer_than_what_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    python(tmp_path, "python3.99", "99")
    assert newest.main() == 0
    assert capsys.readouterr().out == f"{tmp_path / 'python3.99'}\n"


def test_a_machine_without_a_newer_python_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "versions" / "own"))
    python(tmp_path, "python3.1", str(sys.version_info.minor))
    assert newest.main() == 1
    assert "install one" in capsys.readouterr().err
