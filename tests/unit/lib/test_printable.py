from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from trow.lib.printable import escaped, escaped_json


@given(st.text())
def test_what_is_escaped_can_be_printed(text: str) -> None:
    assert escaped(text).isprintable()


@given(st.text().filter(str.isprintable))
def test_what_can_be_printed_stays(text: str) -> None:
    assert escaped(text) == text


@given(st.recursive(st.text(st.characters(exclude_categories=["Cs"])), st.lists))
def test_a_document_means_the_same_and_can_be_printed(value: object) -> None:
    for ascii_only in (True, False):
        document = escaped_json(json.dumps(value, ensure_ascii=ascii_only).encode())
        assert document.decode().isprintable()
        assert json.loads(document) == value


def test_examples() -> None:
    assert escaped("a\x1b[31m\n\x9b\u202eé") == "a\\x1b[31m\\n\\x9b\\u202eé"
    assert escaped_json('"é\x9b\u202e\x7f\U000e0041"'.encode()) == '"é\\u009b\\u202e\\u007f\\udb40\\udc41"'.encode()
