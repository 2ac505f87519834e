from __future__ import annotations

import json
import sys
import unicodedata
from xml.etree import ElementTree as ET

import pytest

from trow.lib.terminal import escaped, escaped_bytes, escaped_text, escaped_xml, printable

# C0 and C1, the directions of Unicode Annex 9, separators of lines, tags, half a pair.
HARMFUL = [
    *map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u061c", "\u200e", "\u200f", "\u2028", "\u2029",
    *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\ufeff", "\U000e0041", "\U000e0001",
]  # fmt: skip
HARMLESS = 'plain, Grüße, 日本語, 🙂 and "quotes" \\ /'


@pytest.mark.parametrize("letter", HARMFUL)
def test_what_a_terminal_obeys_is_escaped_in_json_and_means_the_same(letter: str) -> None:
    value = {"user": f"ab{letter}c", letter: HARMLESS}
    text = escaped(json.dumps(value, ensure_ascii=False))
    assert letter not in text
    assert json.loads(text) == value
    assert HARMLESS.replace("\\", "\\\\").replace('"', '\\"') in text
    assert escaped_bytes(json.dumps(value, ensure_ascii=False).encode()) == text.encode()


@pytest.mark.slow
def test_no_character_that_is_not_printable_is_left_in_json() -> None:
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    text = escaped(json.dumps(every, ensure_ascii=False))
    assert {unicodedata.category(each) for each in text}.isdisjoint({"Cc", "Cf", "Zl", "Zp", "Cs"})
    assert json.loads(text) == every


@pytest.mark.parametrize("letter", [each for each in HARMFUL if each > "\x7f"])
def test_what_a_terminal_obeys_is_escaped_in_xml_and_means_the_same(letter: str) -> None:
    root = ET.Element("a", b=f"x{letter}y")
    root.text = f"x{letter}y"
    text = escaped_xml(ET.tostring(root, encoding="unicode"))
    assert letter not in text
    read = ET.fromstring(text)
    assert (read.get("b"), read.text) == (f"x{letter}y", f"x{letter}y")


def test_lines_stay_lines() -> None:
    assert escaped('{"a": 1}\n{"b": "\x9b"}\n') == '{"a": 1}\n{"b": "\\u009b"}\n'


@pytest.mark.parametrize("letter", [*HARMFUL, "\n"])
def test_a_cell_is_one_line_that_no_terminal_obeys(letter: str) -> None:
    assert printable(f"a{letter}b") == "a?b"
    assert printable(HARMLESS) == HARMLESS


@pytest.mark.parametrize("letter", [*HARMFUL, "\n"])
def test_a_log_line_is_one_line_that_no_terminal_obeys(letter: str) -> None:
    assert escaped_text(f"a{letter}b").isprintable()
    assert escaped_text(f"a{letter}b") != escaped_text("ab")
    assert escaped_text(HARMLESS) == HARMLESS
