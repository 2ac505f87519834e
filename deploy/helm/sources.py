"""What the chart shares with those who install without Helm."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KUBERNETES: Final = Path(__file__).parents[1] / "kubernetes"
FILES: Final = (KUBERNETES / "crds.yaml", KUBERNETES / "exceptions.yaml")
