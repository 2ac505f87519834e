"""Text that others wrote, on its way to a terminal: nothing in it may be taken for a command, or turn a line round.

Besides the controls below U+0020 these are the second set (U+009B begins a command like ESC does), marks that change
the direction of what follows (U+202E), line separators, and what has no glyph. https://www.unicode.org/reports/tr9/
"""

from __future__ import annotations


def escaped(text: str) -> str:
    """The text, with an escape such as Python has for every character that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def escaped_json(document: bytes) -> bytes:
    """A JSON document without line breaks that means the same, with escapes for what cannot be printed."""
    if document.isascii() and b"\x7f" not in document:  # encoders have escaped what is below
        return document
    return "".join(each if each.isprintable() else _json_escape(each) for each in document.decode()).encode()


def _json_escape(character: str) -> str:
    """RFC 8259, section 7: those beyond the basic plane as two surrogates."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
