"""What `make test-fast` runs: the option `--fast`, for every edit.

Three things are left out: tests marked `slow`, most cases of tests that have many, and most generated examples.
`tests/conftest.py` imports what is here.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

CASES: Final = 3
EXAMPLES: Final = 20
Case = TypeVar("Case")

# No example has a deadline: other programs share the machine.
settings.register_profile("trow", deadline=None, max_examples=200)
settings.register_profile("fast", deadline=None, max_examples=EXAMPLES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help=f"leave out slow tests, and run {CASES} cases of those that have more"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.getoption("--fast") else "trow")


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of what was collected, what a fast run does not need."""
    quick = [item for item in items if item.get_closest_marker("slow") is None]
    kept = [case for _, cases in groupby(quick, function) for case in sample(list(cases))]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept


def function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def sample(cases: Sequence[Case]) -> Sequence[Case]:
    """The first, the last, and as many between them, always the same."""
    if len(cases) <= CASES:
        return cases
    return [cases[number * (len(cases) - 1) // (CASES - 1)] for number in range(CASES)]
