"""The look-up of programs that the tests install, under the name it has for each reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `tests` is a root of modules for the type checker, as it is for pytest
    from tools.find import tool
else:
    from tests.tools.find import tool

__all__ = ["tool"]
