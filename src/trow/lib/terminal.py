"""What clients write, made harmless for terminals: one notion of it for logs, tables and JSON.

A terminal obeys control characters (C0 and C1 of ECMA-48: U+001B, U+009B), turns the order of text round for others
(Unicode Annex 9: U+202E) and breaks lines at further ones (U+2028). None of them is printable for `str.isprintable`.
"""

from __future__ import annotations

import re
from typing import Final

# What a text beyond this holds is looked at letter by letter; the rest of it is ASCII that is harmless.
_SUSPECT: Final = re.compile(r"[^\n -~]")
_DELETE: Final = b"\x7f"


def printable(text: str) -> str:
    """A text for a cell or a message: one line, with ``?`` for what is not printable."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)


def escaped_text(text: str) -> str:
    """A text for a log: one line, with the escapes of Python for what is not printable."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def escaped(json: str) -> str:
    """The same JSON value, written so that it can be shown: escaped is what is not printable. Line feeds stay.

    Args:
        json: valid JSON, in which such characters can only stand inside of texts.
    """
    return _SUSPECT.sub(_escape, json) if _SUSPECT.search(json) else json


def escaped_bytes(json: bytes) -> bytes:
    """See `escaped`; for JSON in UTF-8 without line feeds inside, as an encoder writes it."""
    # Control characters are escaped in JSON already, but DEL is not.
    return json if json.isascii() and _DELETE not in json else escaped(json.decode()).encode()


def escaped_xml(xml: str) -> str:
    """The same for XML 1.0, in texts and attributes alike (section 4.1)."""
    return _SUSPECT.sub(lambda match: match[0] if match[0].isprintable() else f"&#{ord(match[0])};", xml)


def _escape(match: re.Match[str]) -> str:
    letter = match[0]
    if letter.isprintable():
        return letter
    # Beyond U+FFFF JSON has two halves (RFC 8259, section 7).
    halves = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at]:02x}{halves[at + 1]:02x}" for at in range(0, len(halves), 2))
