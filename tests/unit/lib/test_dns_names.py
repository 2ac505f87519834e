from __future__ import annotations

import pytest

from trow.lib.dns_names import is_label, is_subdomain


@pytest.mark.parametrize("text", ["a", "0", "team-a", "a" * 63])
def test_a_label_can_name_a_namespace(text: str) -> None:
    assert is_label(text)
    assert is_subdomain(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a_b", "a b", "a\n", "\u00e9", "a" * 64])
def test_what_is_not_a_label_names_nothing(text: str) -> None:
    assert not is_label(text)
    assert not is_subdomain(text)


def test_labels_with_dots_between_them_can_name_an_object() -> None:
    assert is_subdomain("example.com")
    assert not is_label("example.com")
    assert not any(map(is_subdomain, (".", "a.", ".a", "a..b")))


def test_a_subdomain_has_253_characters_at_most() -> None:
    longest = ".".join(["a" * 49] * 5) + ".b" * 2
    assert len(longest) == 253
    assert is_subdomain(longest)
    assert not is_subdomain(f"{longest}c")
