"""Rounds, ratios and goals: how a number is made and judged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Sizes:
    """How much a run measures. The report is made with the defaults."""

    seconds: float = 4.0
    image_seconds: float = 5.0
    heads: int = 40_000
    blob: int = 512_000_000
    streams: int = 64
    tags: int = 500_000
    repositories: int = 100_000
    blobs: int = 1_000_000
    pulls: int = 1_500
    reviews: int = 2_000
    records: int = 1_000_000


QUICK = Sizes(
    seconds=0.5,
    image_seconds=1.0,
    heads=4_000,
    blob=32_768_000,
    streams=8,
    tags=5_000,
    repositories=1_000,
    blobs=10_000,
    pulls=100,
    reviews=200,
    records=20_000,
)


@dataclass(frozen=True)
class Setting:
    """What every case is given."""

    scratch: Path
    rounds: int
    sizes: Sizes


@dataclass(frozen=True)
class Case:
    """A name for `--only`, what the report says of the method, and the code."""

    name: str
    method: str
    run: Callable[[Setting], list[Result]]


@dataclass(frozen=True)
class Goal:
    sense: Literal["≥", "≤"]
    limit: float
    unit: str = TIMES

    def met(self, value: float) -> bool:
        return value >= self.limit if self.sense == "≥" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g}{self.unit if self.unit == TIMES else ' ' + self.unit}"


@dataclass(frozen=True)
class Series:
    """What one contender showed, round by round."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Result:
    """One row of the report."""

    case: str
    unit: str
    ours: Series
    peer: Series | None = None
    must: Goal | None = None
    hope: Goal | None = None

    @property
    def ratios(self) -> list[float]:
        """Ours by the peer's, each of the same round."""
        return [a / b for a, b in zip(self.ours.values, self.peer.values, strict=True)] if self.peer else []

    def judged(self, goal: Goal) -> bool:
        """A goal in times is put to the median ratio, one with a unit to the median itself."""
        return goal.met(median(self.ratios) if goal.unit == TIMES else self.ours.median)


def interleaved(setting: Setting, unit: str, measures: Mapping[str, Callable[[int], float]]) -> list[Series]:
    """Let the contenders take turns, round by round; round 0 warms up and is not counted."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(setting.rounds + 1):
        for name, measure in measures.items():
            os.sync()  # nobody pays for what another one left to be written
            value = measure(number)
            print(f"    {'round ' + str(number) if number else 'warm-up':8} {name:24} {show(value)} {unit}", flush=True)
            if number:
                values[name].append(value)
    return [Series(name, tuple(each)) for name, each in values.items()]


def show(value: float) -> str:
    """Three digits, or all of them before the point."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
