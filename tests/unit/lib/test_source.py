from __future__ import annotations

import pytest

from trow.lib.source import source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_a_source_is_an_ipv4_address_or_a_64_of_ipv6(address: str, source: str) -> None:
    assert source_of(address) == source


def test_what_is_no_address_is_cut() -> None:
    assert len(source_of("x" * 100_000)) == 128
