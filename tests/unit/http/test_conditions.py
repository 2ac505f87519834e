from __future__ import annotations

import pytest

from trow.http.handlers.v2 import etag_matches, warning

ETAG = '"sha256:abc"'


@pytest.mark.parametrize("condition", [ETAG, f"W/{ETAG}", "*", f'"x", {ETAG}', f' {ETAG} ,"x"', f'"x",W/{ETAG},"y"'])
def test_condition_that_names_the_entity(condition: str) -> None:
    assert etag_matches(condition, ETAG)


@pytest.mark.parametrize("condition", [None, "", "sha256:abc", '"sha256:abcd"', '"x", "y"', "**", ETAG.upper()])
def test_condition_that_does_not(condition: str | None) -> None:
    assert not etag_matches(condition, ETAG)


def test_warning_is_a_quoted_string() -> None:
    assert warning('a "b" \\c') == '299 - "a \\"b\\" \\\\c"'
