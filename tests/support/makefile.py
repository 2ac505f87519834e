"""What `make` would run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def recipe(target: str) -> list[str]:
    """The commands of a target and of what it needs, whatever the `make` was given that runs the tests."""
    listing = subprocess.run(
        ["make", "--dry-run", "--always-make", "VENV=.venv", "ARGS=", target],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return listing.replace("\\\n", " ").splitlines()
