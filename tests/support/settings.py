"""What is wrong with a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.config import ConfigError, Problem, load

if TYPE_CHECKING:
    from pathlib import Path


def problems(path: Path | None = None, environment: dict[str, str] | None = None, **flags: str) -> tuple[Problem, ...]:
    """Everything that is wrong; ``a__b`` is how a keyword spells the setting ``a.b``."""
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {}, {key.replace("__", "."): text for key, text in flags.items()})
    return caught.value.problems
