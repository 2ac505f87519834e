"""Manifest files: YAML or JSON, with many documents in a file, and lists of objects.

They are read as kubectl reads them, and strictly where readers differ, for example on duplicate keys. The size of a
file is bounded, and so are its depth and the expansion of its aliases (CVE-2019-11253).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from trow.lib.errors import StartError
from trow.policytools.kubeyaml import DEEPEST, NotAsKubectl, TooDeep, documents_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STDIN: Final = "-"
# Bytes of one file.
LARGEST: Final = 16 * 2**20
_JSON_SPACE: Final = re.compile(r"[ \t\r\n]*")
# Only such an escape can write a lone surrogate, which UTF-8 cannot encode.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class UnreadableFile(StartError):
    """A file cannot be used; the message names the file, the document and the reason."""


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an object.

    Attributes:
        file: the path as it was given; `STDIN` for standard input.
        document: the number of the document in the file, from 1; 0 for the whole file.
        item: the index in a list of objects, from 0; None if the object is the document.
    """

    file: str
    document: int = 0
    item: int | None = None

    def __str__(self) -> str:
        name = "standard input" if self.file == STDIN else self.file
        document = f", document {self.document}" if self.document else ""
        item = "" if self.item is None else f", items[{self.item}]"
        return f"{name}{document}{item}"

    @property
    def short(self) -> str:
        """A short form for a table."""
        item = "" if self.item is None else f"[{self.item}]"
        return f"{self.file}#{self.document}{item}"


@dataclass(frozen=True, slots=True)
class Document:
    """A value and its location."""

    location: Location
    value: object


def read(file: str) -> tuple[Document, ...]:
    """The documents of a file, without empty ones.

    Args:
        file: a path, or `STDIN`.

    Raises:
        UnreadableFile: it cannot be read, is neither YAML nor JSON, or is too large.
    """
    location = Location(file)
    try:
        if file == STDIN:
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(LARGEST + 1)
    except OSError as error:
        _refuse(location, f"cannot be read ({error.strerror}); give the path of a readable file")
    if len(content) > LARGEST:
        _refuse(location, f"is larger than {LARGEST // 2**20} MiB; split it")
    return parsed(content, file)


def parsed(content: bytes, file: str) -> tuple[Document, ...]:
    """The documents in the content of a file. Raises like `read`."""
    location = Location(file)
    try:
        text = content.decode("utf-8-sig")
        values = _from_json(text, location) if text.lstrip()[:1] in ("{", "[") else None
        found = _from_yaml(text, location) if values is None else enumerate(values, 1)
        documents = [
            Document(replace(location, document=number), value) for number, value in found if value is not None
        ]
        if _SURROGATE.search(text):
            json.dumps([each.value for each in documents], ensure_ascii=False).encode()
        return tuple(documents)
    except UnicodeError:
        _refuse(location, "is not UTF-8 text; give a file of YAML or JSON")
    except (RecursionError, TooDeep):
        _refuse(location, f"is nested deeper than {DEEPEST} levels")


def objects(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with the objects of lists in place of the lists; for kubectl, every object with `items` is a list.

    Objects in a list such as `PodList` need not have a kind; they get that of the list.

    Raises:
        UnreadableFile: `items` is not a list.
    """
    for document in documents:
        value, location = document.value, document.location
        if not isinstance(value, dict) or "items" not in value:
            yield document
            continue
        items = value["items"]
        if items is None and str(value.get("kind")).endswith("List"):
            items = []  # Go writes null for an empty list
        if not isinstance(items, list):
            _refuse(location, "items is not a list")
        for number, item in enumerate(items):
            # An item of a nested list has the index of the outermost list.
            inside = location if location.item is not None else replace(location, item=number)
            yield from objects([Document(inside, with_kind(item, value))])


def with_kind(item: object, items: Mapping[str, object]) -> object:
    """An item of a list; if it has no kind, with the kind that the list implies."""
    kind = str(items.get("kind") or "").removesuffix("List")
    if not isinstance(item, dict) or item.get("kind") or item.get("apiVersion") or not kind:
        return item
    return {**item, "apiVersion": items.get("apiVersion"), "kind": kind}


def _refuse(location: Location, why: str) -> NoReturn:
    raise UnreadableFile(f"{location}: {why}") from None


def _from_json(text: str, location: Location) -> list[object] | None:
    """The values of a JSON stream; None if it is not JSON, but YAML that begins like JSON."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_json)
    found: list[object] = []
    at = 0
    try:
        while (space := _JSON_SPACE.match(text, at)) and (at := space.end()) < len(text):
            value, at = decoder.raw_decode(text, at)
            found.append(value)
    except json.JSONDecodeError:
        return None
    except ValueError as error:
        _refuse(replace(location, document=len(found) + 1), str(error))
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is written twice")
    return made


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _from_yaml(text: str, location: Location) -> Iterator[tuple[int, object]]:
    number = 0
    try:
        for document in documents_of(text):
            # Comments before the first --- are not a document.
            lines = document.text.splitlines()
            if number or document.before or any(line.strip() and not line.lstrip().startswith("#") for line in lines):
                number += 1
            yield number, document.value()
    except NotAsKubectl as error:
        _refuse(replace(location, document=max(number, 1)), str(error))
