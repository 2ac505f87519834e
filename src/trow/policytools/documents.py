"""Files of objects as people and tools write them: YAML or JSON, many documents in one, lists of objects.

Read as kubectl reads them; strict where readers differ, as about a key that is written twice. Bounded: a file, its
depth, and what its aliases stand for, so that nine lines cannot become a billion (CVE-2019-11253).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from trow.lib.errors import StartError
from trow.policytools.kubeyaml import DEEPEST, NotAsKubectl, TooDeep, chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

STDIN: Final = "-"
# Bytes of one file.
LARGEST: Final = 16 * 2**20
# Halves of characters, which no output can hold, can only be written like this.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class UnreadableFile(StartError):
    """A file that cannot be used; the message names it, the document and what is wrong."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something was written.

    Attributes:
        file: as it was given; `STDIN` for standard input.
        document: its number in the file, from 1; 0 for the whole file.
        item: its index in a list of objects, from 0; None where it is the document itself.
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
        """The same in a cell of a table."""
        item = "" if self.item is None else f"[{self.item}]"
        return f"{self.file}#{self.document}{item}"


@dataclass(frozen=True, slots=True)
class Document:
    """A value and where it was written."""

    place: Location
    value: object


def read(file: str) -> tuple[Document, ...]:
    """The documents of a file that are not empty.

    Args:
        file: its path, or `STDIN`.

    Raises:
        UnreadableFile: it cannot be read, is neither YAML nor JSON, or is too large.
    """
    place = Location(file)
    try:
        return parsed(_bytes(file, place), file)
    except OSError as error:
        _refuse(place, f"cannot be read ({error.strerror}); give the path of a readable file")


def parsed(content: bytes, file: str) -> tuple[Document, ...]:
    """Every document in what was read of a file. Raises like `read`."""
    place = Location(file)
    try:
        text = content.decode("utf-8-sig")
        values = _from_json(text, place) if text.lstrip()[:1] in ("{", "[") else None
        found = _from_yaml(text, place) if values is None else enumerate(values, 1)
        documents = [Document(replace(place, document=number), value) for number, value in found if value is not None]
        if _SURROGATE.search(text):
            json.dumps([each.value for each in documents], ensure_ascii=False).encode()
        return tuple(documents)
    except UnicodeError:
        _refuse(place, "is not UTF-8 text; give a file of YAML or JSON")
    except (RecursionError, TooDeep):
        _refuse(place, f"is nested deeper than {DEEPEST} levels")


def objects(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with lists of objects unpacked: kubectl takes everything that has `items` for one.

    Objects in a list of one kind, such as `PodList`, need not say what they are; here they do.

    Raises:
        UnreadableFile: `items` is not a list.
    """
    for document in documents:
        value = document.value
        if not isinstance(value, dict) or "items" not in value:
            yield document
            continue
        for number, item in enumerate(_items(value, document.place)):
            yield from objects([Document(_inside(document.place, number), in_list(item, value))])


def _items(value: Mapping[str, object], place: Location) -> Sequence[object]:
    items = value["items"]
    if items is None and str(value.get("kind")).endswith("List"):
        return ()  # an empty list, as Go writes it
    if not isinstance(items, list):
        _refuse(place, "items is not a list")
    return items


def _inside(place: Location, number: int) -> Location:
    """Items of nested lists have the outermost index: the object has a name."""
    return place if place.item is not None else replace(place, item=number)


def in_list(item: object, around: Mapping[str, object]) -> object:
    """An object of a list; where it does not say what it is, the list does."""
    kind = str(around.get("kind") or "").removesuffix("List")
    if not isinstance(item, dict) or item.get("kind") or item.get("apiVersion") or not kind:
        return item
    return {**item, "apiVersion": around.get("apiVersion"), "kind": kind}


def _bytes(file: str, place: Location) -> bytes:
    if file == STDIN:
        content = sys.stdin.buffer.read(LARGEST + 1)
    else:
        with Path(file).open("rb") as opened:
            content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        _refuse(place, f"is larger than {LARGEST // 2**20} MiB; split it")
    return content


def _refuse(place: Location, why: str) -> NoReturn:
    raise UnreadableFile(f"{place}: {why}") from None


# JSON


def _from_json(text: str, place: Location) -> list[object] | None:
    """The values one after the other; None if it is not JSON: a YAML document may begin like it."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_json)
    found: list[object] = []
    at, end = 0, len(text)
    try:
        while (at := _skipped(text, at)) < end:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
    except json.JSONDecodeError:
        return None
    except ValueError as error:
        _refuse(replace(place, document=len(found) + 1), str(error))
    return found


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} is written twice")
    return made


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


# YAML


def _from_yaml(text: str, place: Location) -> Iterator[tuple[int, object]]:
    number = 0
    try:
        for chunk in chunks(text):
            # Comments before the first --- are not a document.
            number += 1 if number or chunk.before or not _only_comments(chunk.text) else 0
            yield number, chunk.value()
    except NotAsKubectl as error:
        _refuse(replace(place, document=max(number, 1)), str(error))


def _only_comments(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())
