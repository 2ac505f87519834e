"""Files of objects as people and tools write them: YAML or JSON, many documents in one, lists of objects.

Strict where readers differ: a key that is written twice, a tag of YAML that JSON does not have. Bounded: a file, its
depth, and what its aliases stand for, so that nine lines cannot become a billion (CVE-2019-11253).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import yaml

from trow.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    _FastLoader = yaml.SafeLoader
else:
    # The one in C where PyYAML was built with it: output of Helm for a whole cluster is some megabytes.
    _FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

STDIN: Final = "-"
# Bytes of one file.
LARGEST: Final = 16 * 2**20
# Values in one document, aliases written out.
MOST_VALUES: Final = 1_000_000
DEEPEST: Final = 200
# Halves of characters, which no output can hold, can only be written like this.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "merge"))


class UnreadableFile(StartError):
    """A file that cannot be used; the message names it, the document and what is wrong."""


@dataclass(frozen=True, slots=True)
class Place:
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

    place: Place
    value: object


def read(file: str) -> tuple[Document, ...]:
    """Every document of a file that has something in it.

    Args:
        file: its path, or `STDIN`.

    Raises:
        UnreadableFile: it cannot be read, is neither YAML nor JSON, or is too much of it.
    """
    place = Place(file)
    try:
        text = _bytes(file, place).decode("utf-8-sig")
        values = _from_json(text, place) if text.lstrip()[:1] in ("{", "[") else None
        found = _from_yaml(text, place) if values is None else enumerate(values, 1)
        documents = [Document(replace(place, document=number), value) for number, value in found if value is not None]
        if _SURROGATE.search(text):
            json.dumps([each.value for each in documents], ensure_ascii=False).encode()
        return tuple(documents)
    except OSError as error:
        _refuse(place, f"cannot be read ({error.strerror})")
    except UnicodeError:
        _refuse(place, "is not UTF-8 text")
    except RecursionError:
        _refuse(place, f"is nested deeper than {DEEPEST} levels")
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        _refuse(place, f"{line}{error.problem or error}")
    except (yaml.YAMLError, ValueError) as error:
        _refuse(place, f"is not YAML ({str(error).splitlines()[0]})")


def objects(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with lists of objects taken apart.

    Objects in a list of one kind, such as `PodList`, need not say what they are; here they do.
    """
    for document in documents:
        value = document.value
        if not isinstance(value, dict) or not _is_list(value):
            yield document
            continue
        for number, item in enumerate(value["items"]):
            yield from objects([Document(_in_list(document.place, number), _typed(item, value))])


def _is_list(value: Mapping[str, object]) -> bool:
    kind = value.get("kind")
    return isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list)


def _in_list(place: Place, number: int) -> Place:
    """Lists in lists are told by the outermost index: what follows has a name."""
    return place if place.item is not None else replace(place, item=number)


def _typed(item: object, around: Mapping[str, object]) -> object:
    kind = str(around["kind"]).removesuffix("List")
    if not isinstance(item, dict) or "kind" in item or not kind:
        return item
    return {"apiVersion": around.get("apiVersion"), "kind": kind, **item}


def _bytes(file: str, place: Place) -> bytes:
    if file == STDIN:
        content = sys.stdin.buffer.read(LARGEST + 1)
    else:
        with Path(file).open("rb") as opened:
            content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        _refuse(place, f"is larger than {LARGEST // 2**20} MiB; split it")
    return content


def _refuse(place: Place, why: str) -> NoReturn:
    raise UnreadableFile(f"{place}: {why}") from None


# JSON


def _from_json(text: str, place: Place) -> list[object] | None:
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
    raise ValueError(f"{text} is no JSON")


# YAML


class _Loader(_FastLoader):
    """Reads what JSON can say. Times stay texts, as they are for Kubernetes."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _from_yaml(text: str, place: Place) -> Iterator[tuple[int, object]]:
    _check_depth(text)
    loader = _Loader(text)
    try:
        number = 0
        while loader.check_node():
            number += 1
            if (node := loader.get_node()) is not None:
                _Check(replace(place, document=number)).measure(node)
                yield number, loader.construct_document(node)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    """Before anything is built: what builds it calls itself for each level, in C without a limit."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise RecursionError


class _Check:
    """Judges one document before it is made: how much it is with its aliases written out, and whether it is JSON."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # Size and depth of what was seen; an anchor stands before its aliases.
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def measure(self, node: yaml.Node) -> tuple[int, int]:
        """Number of values and depth."""
        if id(node) in self._known:
            return self._known[id(node)]
        line = node.start_mark.line + 1
        if id(node) in self._open:
            _refuse(self._place, f"line {line}: a value contains itself")
        if node.tag not in _TAGS:
            _refuse(self._place, f"line {line}: the tag {node.tag.replace(_TAG, '!!')} means nothing here")
        self._open.add(id(node))
        parts = [self.measure(part) for part in self._parts(node)]
        size, depth = 1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
        if size > MOST_VALUES or depth > DEEPEST:
            _refuse(self._place, f"line {line}: more than {MOST_VALUES} values or {DEEPEST} levels")
        self._open.discard(id(node))
        self._known[id(node)] = size, depth
        return size, depth

    def _parts(self, node: yaml.Node) -> Sequence[yaml.Node]:
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            return [part for pair in node.value for part in pair]
        return node.value if isinstance(node, yaml.SequenceNode) else ()

    def _check_keys(self, node: yaml.MappingNode) -> None:
        names: set[str] = set()
        for name, _ in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                _refuse(self._place, f"line {line}: a key is no text")
            if name.value in names:
                _refuse(self._place, f"line {line}: key {name.value!r} is written twice")
            names.add(name.value)
