"""The workflows mean to GitHub what they say."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tools.find import tool

ROOT: Final = Path(__file__).parents[2]


def lint(*arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool("actionlint"), "-no-color", "-shellcheck=", *arguments],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_actionlint_finds_nothing_in_the_workflows() -> None:
    done = lint(*sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    assert (done.returncode, done.stdout) == (0, "")


def test_actionlint_finds_a_mistake(tmp_path: Path) -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    (tmp_path / "ci.yml").write_text(workflow.replace("runs-on:", "run-on:"), "utf-8")
    assert lint(tmp_path / "ci.yml").returncode == 1
