"""Whoever holds most gives up most."""

from __future__ import annotations

from typing import Any

import pytest

from trow.lib.levels import excess_of


@pytest.mark.parametrize(
    ("held", "surplus", "least", "excess"),
    [
        ({"a": 100}, 10, 5, {"a": 10}),
        ({"a": 100, "b": 20}, 10, 5, {"a": 10}),
        ({"a": 100, "b": 100}, 20, 5, {"a": 10, "b": 10}),
        ({"a": 100, "b": 90, "c": 10}, 30, 5, {"a": 20, "b": 10}),
        ({"a": 100, "b": 4}, 1000, 5, {"a": 95}),
        ({"a": 5, "b": 5}, 10, 5, {}),
        ({}, 10, 5, {}),
    ],
)
def test_whoever_holds_most_gives_up_most(held: Any, surplus: int, least: int, excess: Any) -> None:
    assert excess_of(held, surplus, least) == excess
