"""What is wrong with a configuration: every problem with its place and its fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Source:
    """Where a value was written."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""

    def __str__(self) -> str:
        return {"file": self.name, "environment": f"variable {self.name}", "flag": f"flag {self.name}"}.get(
            self.kind, self.kind
        )


DEFAULT: Final = Source("default")


@dataclass(frozen=True)
class Problem:
    """One reason not to start: where, which key, what is wrong, what to do."""

    source: Source
    key: str
    wrong: str
    fix: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.source), self.key, f"{self.wrong}; {self.fix}")))


class ConfigError(Exception):
    """The configuration cannot be used; holds every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
