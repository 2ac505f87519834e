from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.lib import times

LAST = 253_402_300_799 * 1_000_000


@given(st.integers(0, LAST))
def test_what_is_written_is_read(at: int) -> None:
    text = times.precise(at)
    assert len(text) == len("2026-01-31T08:00:00.000000Z")
    assert times.parse(text) == at


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_texts_sort_as_times_do(first: int, second: int) -> None:
    assert (times.precise(first) < times.precise(second)) == (first < second)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01t01:00:00.000001+01:00", 1),
        ("1970-01-02 00:00:00z", 86_400_000_000),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1970-01-01 01:00:00.5 01:00", 500_000),
    ],
)
def test_forms_of_rfc_3339_are_read(text: str, at: int) -> None:
    assert times.parse(text) == at


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-01-31", "2026-01-31T08:00:00", "2026-13-01T08:00:00Z", "2026-02-30T08:00:00Z", "20260131T080000Z",
     "2026-01-31T08:00:00Z\n", "٢026-01-31T08:00:00Z", "2026-01-31T25:00:00Z", "2026-01-31T08:00:00+99:00"],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        times.parse(text)
    with pytest.raises(ValueError, match="such as 24h"):
        times.parse_point(text, 0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800), ("4w", 2_419_200)]
)
def test_time_may_be_how_long_ago_it_was(text: str, seconds: int) -> None:
    now = 1_700_000_000_000_000
    assert times.parse_point(text, now) == now - seconds * 1_000_000
    assert times.parse_point(text, 5) == 0


def test_times_beyond_all_years_are_kept_to_the_last() -> None:
    assert times.microseconds(1e300) == times.parse("9999-12-31T23:59:59Z")
    assert times.microseconds(-5) == 0


@pytest.mark.parametrize(
    ("timespec", "text"),
    [("seconds", "2026-01-31T08:00:00Z"), ("milliseconds", "2026-01-31T08:00:00.999Z")],
)
def test_time_is_cut_to_what_is_asked_for(timespec: str, text: str) -> None:
    assert times.rfc3339(1_769_846_400.9996, timespec) == text


@pytest.mark.parametrize("text", ["", "h", "7", "1.5h", "-1h", "007d", "1234567s", "1h30m", "7 d", "7D", "\u0667d"])
def test_what_is_not_a_duration_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and s, m, h, d or w"):
        times.parse_duration(text)
