from __future__ import annotations

from trow.identity.recent import Recent


def test_what_was_not_needed_for_longest_is_forgotten() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1, now=0, until=1)
    recent.put("b", 2, now=0, until=1)
    assert recent.get("a", now=0) == 1
    recent.put("c", 3, now=0, until=1)
    assert (recent.get("a", 0), recent.get("b", 0), recent.get("c", 0), len(recent)) == (1, None, 3, 2)


def test_a_value_is_good_until_its_time_and_not_at_it() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1, now=0, until=10)
    assert recent.get("a", now=9.9) == 1
    assert recent.get("a", now=10) is None


def test_a_clock_that_is_set_back_prolongs_nothing() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1, now=100, until=110)
    assert recent.get("a", now=50) is None


def test_what_has_had_its_time_already_is_not_kept() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1, now=10, until=10)
    assert len(recent) == 0
