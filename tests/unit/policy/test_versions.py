"""Ranges of versions, and the same as regular expressions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.policy.versions import VersionRange


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2 <2", "1.2.0 v1.99.7", "1.1.9 2.0.0 1.2 latest 1.4.0-rc.1 1.4.0+x 01.4.0"),
        (">= 1.2.0, < 2.0.0", "1.2.0", "2.0.0"),
        (">1.2", "1.3.0", "1.2.9"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<=1.2", "1.2.9 0.0.0", "1.3.0"),
        ("1.2", "1.2.0 1.2.9", "1.3.0"),
        ("=1.2.3", "1.2.3 v1.2.3", "1.2.4"),
        ("1.x", "1.0.0", "2.0.0"),
        ("*", "0.0.0 123456789012.0.0", "1"),
        ("^1.4.2", "1.4.2 1.99.0", "1.4.1 2.0.0"),
        ("^0.4.2", "0.4.9", "0.5.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("~1.4.2", "1.4.9", "1.5.0"),
        ("~1", "1.9.0", "2.0.0"),
        ("1.x || >=3.1", "1.0.0 3.1.0 12345678901.0.0", "2.0.0 3.0.9"),
    ],
)
def test_which_tags_are_in_a_range(text: str, inside: str, outside: str) -> None:
    versions = VersionRange.parse(text)
    assert [tag for tag in inside.split() if not versions.covers(tag)] == []
    assert [tag for tag in outside.split() if versions.covers(tag)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "||",
        "new",
        "1.2.3-rc.1",
        "1.2.3.4",
        ">>1",
        "1 - 2",
        ">2 <1",
        "01.2",
        "1234567890",
        "1" * 101,
        "<*",
        ">x",
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not a range|is not a comparison|has no version|is too long|is not a version"
    ):
        VersionRange.parse(text)


NUMBERS = st.one_of(st.sampled_from([0, 1, 2, 9, 10, 11, 99, 100, 999]), st.integers(0, 20_000))
COMPARISONS = st.tuples(
    st.sampled_from(["", "=", ">", "<", ">=", "<=", "^", "~"]), st.lists(NUMBERS, min_size=1, max_size=3)
).map(lambda parts: parts[0] + ".".join(map(str, parts[1])))
RANGES = st.lists(st.lists(COMPARISONS, min_size=1, max_size=3).map(" ".join), min_size=1, max_size=2).map(" || ".join)


@given(RANGES, st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=10), st.sampled_from(["", "-rc.1"]))
def test_a_range_and_its_expression_say_the_same(text: str, tried: list[tuple[int, int, int]], end: str) -> None:
    try:
        versions = VersionRange.parse(text)
    except ValueError:
        return
    bounds = [each for interval in versions.intervals for each in interval if each]
    near = [(major, minor, max(0, patch + step)) for major, minor, patch in bounds for step in (-1, 0, 1)]
    for version in (*tried, *near):
        for tag in (".".join(map(str, version)) + end, f"v{'.'.join(map(str, version))}"):
            assert bool(re.fullmatch(versions.expression, tag)) is versions.covers(tag), (tag, versions.expression)
