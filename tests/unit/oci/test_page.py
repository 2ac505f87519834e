from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.oci.errors import RequestInvalid
from trow.oci.page import PageRequest, next_link, parse_page


@pytest.mark.parametrize(
    ("n", "last", "page"),
    [
        (None, None, PageRequest(10)),
        (None, "x", PageRequest(10, "x")),
        ("0", None, PageRequest(0)),
        ("1", "x", PageRequest(1, "x")),
        ("007", None, PageRequest(7)),
        ("100", None, PageRequest(100)),
        ("101", None, PageRequest(100)),
        ("9" * 18, None, PageRequest(100)),
        ("9" * 100_000, None, PageRequest(100)),
    ],
)
def test_page(n: str | None, last: str | None, page: PageRequest) -> None:
    assert parse_page(n, last, default=10, most=100) == page


@pytest.mark.parametrize("n", ["", "abc", "-1", "+1", "1.0", "1e3", "0x10", " 1", "1 ", "1_000", "٣", "²"])
def test_page_of_no_number(n: str) -> None:
    with pytest.raises(RequestInvalid):
        parse_page(n, None, default=10, most=100)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_link_leads_to_its_parameters(parameters: dict[str, str]) -> None:
    link = next_link("/v2/a/tags/list", parameters)
    assert link.endswith('>; rel="next"')
    url = urlsplit(link.removeprefix("<").removesuffix('>; rel="next"'))
    assert url.path == "/v2/a/tags/list"
    assert dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(parameters))) == parameters


@given(st.text())
def test_no_parameter_breaks_out_of_the_link(last: str) -> None:
    link = next_link("/v2/a/tags/list", {"last": last})
    assert link.count("<") == link.count(">") == 1
    assert link.isascii()
    assert link.isprintable()
