from __future__ import annotations

from trow.lib.caches import LruCache, TtlCache


def test_what_was_not_needed_for_longest_is_forgotten() -> None:
    recent: TtlCache[str, int] = TtlCache(2)
    recent.put("a", 1, now=0, until=1)
    recent.put("b", 2, now=0, until=1)
    assert recent.get("a", now=0) == 1
    recent.put("c", 3, now=0, until=1)
    assert (recent.get("a", 0), recent.get("b", 0), recent.get("c", 0), len(recent)) == (1, None, 3, 2)


def test_a_value_is_good_until_its_time_and_not_at_it() -> None:
    recent: TtlCache[str, int] = TtlCache(2)
    recent.put("a", 1, now=0, until=10)
    assert recent.get("a", now=9.9) == 1
    assert recent.get("a", now=10) is None


def test_a_clock_that_is_set_back_prolongs_nothing() -> None:
    recent: TtlCache[str, int] = TtlCache(2)
    recent.put("a", 1, now=100, until=110)
    assert recent.get("a", now=50) is None


def test_what_has_had_its_time_already_is_not_kept() -> None:
    recent: TtlCache[str, int] = TtlCache(2)
    recent.put("a", 1, now=10, until=10)
    assert len(recent) == 0


def test_of_values_without_an_end_the_one_that_was_not_needed_for_longest_is_forgotten() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


def test_a_value_that_is_put_again_counts_as_used() -> None:
    cache: LruCache[str, int] = LruCache(2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        cache.put(key, value)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (3, None, 4)


def test_what_is_forgotten_is_told() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    assert (cache.pop("a"), cache.pop("a"), len(cache)) == (1, None, 0)
    cache.put("a", 1)
    cache.clear()
    assert len(cache) == 0
