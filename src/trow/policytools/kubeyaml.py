"""YAML as kubectl reads it, or not at all.

kubectl cuts a stream into documents at lines that begin with ``---``, and reads each with go-yaml v2: YAML 1.1, with
rules of its own for numbers, keys and merges (`k8s.io/apimachinery`, `pkg/util/yaml`; `sigs.k8s.io/yaml`). What it
reads in another way than the programs that apply manifests beside it is refused here, and so is what it passes over.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    _FastLoader = yaml.SafeLoader
else:
    # The one in C where PyYAML was built with it: output of Helm for a whole cluster is some megabytes.
    _FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Values in one document, aliases written out.
MOST_VALUES: Final = 1_000_000
DEEPEST: Final = 200
_SEPARATOR: Final = "---"
_MARK: Final = "\ufeff"
# Where readers skip it, or not.
_MARKED_LINE: Final = re.compile(r"(?:^|[\n\r\x85\u2028\u2029])[ \t]*\ufeff")
_MERGE: Final = "<<"
# What PyYAML is made to call a text without quotes and without a tag.
_PLAIN: Final = "plain"
_TAG: Final = "tag:yaml.org,2002:"
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    f"{_TAG}int": (int,),
    f"{_TAG}float": (int, float),
    f"{_TAG}bool": (bool,),
    f"{_TAG}null": (type(None),),
}
_TEXT: Final = f"{_TAG}str"
_COLLECTIONS: Final = frozenset({f"{_TAG}seq", f"{_TAG}map"})


class NotAsKubectl(ValueError):
    """A document that cannot be read, or that not everybody reads alike; the message begins with the line."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")


class TooDeep(ValueError):
    """A document with more levels than `DEEPEST`."""


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of one document, and how many lines of the stream are in front of it."""

    text: str
    before: int

    def value(self) -> object:
        """What is written there, of values that JSON has; None where nothing is.

        Raises:
            NotAsKubectl: it cannot be read, or not everybody reads it alike.
            TooDeep: it has too many levels.
        """
        try:
            _check_events(self.text)
            node = _Loader(self.text).get_single_node()
            return None if node is None else _Reader().value(node)
        except _Wrong as error:
            raise NotAsKubectl(self.before + error.line, error.why) from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise NotAsKubectl(self.before + line, _told(error)) from None
        except yaml.YAMLError as error:
            raise NotAsKubectl(self.before + 1, str(error).splitlines()[0]) from None


def _told(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, yaml.composer.ComposerError) and "another document" in str(error.problem):
        return "something follows the end of the document, which kubectl ignores; write --- before it"
    return f"{error.problem or error}; correct the YAML"


def documents_of(stream: str) -> Iterator[DocumentText]:
    """The documents of a stream, as text; also those in which nothing is written.

    Raises:
        NotAsKubectl: something follows a separator on its line.
    """
    kept: list[str] = []
    began = 0
    for number, line in enumerate(stream.removesuffix("\n").split("\n")):
        separates = line.startswith(_SEPARATOR)
        if separates:
            _check_separator(line, number + 1)
        if separates and kept:
            yield _chunk(kept, began)
            kept, began = [], number + 1
        else:
            kept.append(line)
    if kept:
        yield _chunk(kept, began)


def _check_separator(line: str, number: int) -> None:
    rest = line.removeprefix(_SEPARATOR).strip()
    if rest and not rest.startswith("#"):
        raise NotAsKubectl(number, f"{rest[:40]!r} follows --- on the same line; write it on the next line")


def _chunk(lines: Sequence[str], before: int) -> DocumentText:
    """Each line ends as on Unix; a byte order mark may be in front."""
    text = "".join(line.removesuffix("\r") + "\n" for line in lines).removeprefix(_MARK)
    if match := _MARKED_LINE.search(text):
        line = before + text.count("\n", 0, match.end()) + 1
        raise NotAsKubectl(line, "there is a byte order mark; write --- on its own line before it, or remove it")
    return DocumentText(text, before)


class _Loader(_FastLoader):
    """Leaves it to `_Reader` to say what a text without quotes means."""


_Loader.yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}


class _Wrong(ValueError):
    def __init__(self, node: yaml.Node | yaml.Event, why: str) -> None:
        super().__init__(why)
        self.line = node.start_mark.line + 1 if node.start_mark else 1
        self.why = why


def _check_events(text: str) -> None:
    """Before anything is built: what builds it calls itself for each level, in C without a limit."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise TooDeep
        if getattr(event, "tag", None) == "!":
            raise _Wrong(event, "the tag ! has no meaning here")


@dataclass(frozen=True, slots=True)
class _Read:
    """A value, how many values are in it with its aliases written out, and how many levels."""

    value: object
    size: int
    depth: int


class _Reader:
    """Builds the values of one document."""

    def __init__(self) -> None:
        # An anchor stands before its aliases.
        self._known: dict[int, _Read] = {}
        self._open: set[int] = set()

    def value(self, node: yaml.Node) -> object:
        return self._read(node).value

    def _read(self, node: yaml.Node) -> _Read:
        if id(node) in self._known:
            return self._known[id(node)]
        if id(node) in self._open:
            raise _Wrong(node, "a value contains itself")
        self._open.add(id(node))
        read = self._made(node)
        if read.size > MOST_VALUES or read.depth > DEEPEST:
            raise _Wrong(node, f"more than {MOST_VALUES} values or {DEEPEST} levels")
        self._open.discard(id(node))
        self._known[id(node)] = read
        return read

    def _made(self, node: yaml.Node) -> _Read:
        if isinstance(node, yaml.ScalarNode):
            return _Read(_scalar(node), 1, 1)
        if node.tag not in _COLLECTIONS:
            raise _Wrong(node, _unknown_tag(node))
        return self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)

    def _sequence(self, node: yaml.Node) -> _Read:
        found = [*map(self._read, node.value)]
        return _around([each.value for each in found], found)

    def _mapping(self, node: yaml.MappingNode) -> _Read:
        written: dict[str, object] = {}
        merged: dict[str, object] = {}
        found: list[_Read] = []
        for name, content in node.value:
            read = self._read(content)
            found.append(read)
            key = _MERGE if (merges := _is_merge(name)) else _key(name)
            if key in written or (merges and merged):
                raise _Wrong(name, f"key {key!r} is written twice")
            if merges:
                merged = self._merged(content)
                _check_order(name, written, merged)
            else:
                written[key] = read.value
        for name in _meeting(node, merged):
            raise _Wrong(name, f"key {_key(name)!r} is written twice, once without quotes")
        return _around(merged | written, found)

    def _merged(self, node: yaml.Node) -> dict[str, object]:
        """What ``<<`` brings in: of several mappings, the first that has a key counts."""
        if isinstance(node, yaml.MappingNode):
            return dict(self._members(node))
        if not isinstance(node, yaml.SequenceNode):
            raise _Wrong(node, "<< needs a mapping, or a list of mappings")
        found: dict[str, object] = {}
        for part in reversed(node.value):
            found |= self._members(part)
        return found

    def _members(self, node: yaml.Node) -> Mapping[str, object]:
        value = self._read(node).value
        if not isinstance(value, dict):
            raise _Wrong(node, "<< needs a mapping, or a list of mappings")
        return value


def _around(value: object, found: Sequence[_Read]) -> _Read:
    return _Read(value, 1 + sum(each.size for each in found), 1 + max((each.depth for each in found), default=0))


def _check_order(merge: yaml.Node, written: Mapping[str, object], merged: Mapping[str, object]) -> None:
    """The last that is written counts to kubectl, to others what is written out."""
    for key in written:
        if key in merged and merged[key] != written[key]:
            raise _Wrong(
                merge,
                f"<< sets {key!r} to another value than above, and readers differ on which one counts; write << first",
            )


def _meeting(node: yaml.MappingNode, merged: Mapping[str, object]) -> Iterator[yaml.Node]:
    """Keys beside `<<` that it may bring in too, as a number or as a text, which are two things to kubectl."""
    for name, _ in node.value:
        if not _is_merge(name) and _key(name) in merged and not isinstance(_unquoted(_key(name)), str):
            yield name


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == _MERGE and node.tag in (_PLAIN, f"{_TAG}merge")


def _key(node: yaml.Node) -> str:
    """Keys are texts: numbers and truth values become what JSON has for them."""
    value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, float):
        raise _Wrong(node, "a key is not a text; write it in quotes")
    return str(value)


def _unknown_tag(node: yaml.Node) -> str:
    return f"the tag {node.tag.replace(_TAG, '!!')} has no meaning here"


# Texts without quotes


def _scalar(node: yaml.ScalarNode) -> object:
    if node.tag == _PLAIN:
        return _meant(node)
    if node.tag == _TEXT:
        return node.value
    if node.tag not in _TYPES:
        raise _Wrong(node, _unknown_tag(node))
    value = _meant(node)
    if type(value) not in _TYPES[node.tag]:
        raise _Wrong(node, f"{node.value!r} does not match its tag")
    return value


_WORDS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_NO_JSON: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# go-yaml reads a number, nobody else does.
_ODD: Final = re.compile(r"0b[-+][01_]+")
_OCTAL: Final = 8
_NUMBERS: Final = (
    (re.compile(r"[-+]?0[oO]?[0-7]+"), _OCTAL),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile(r"[-+]?0[bB][01]+"), 2),
    (re.compile(r"[-+]?(?:0|[1-9][0-9]*)"), 10),
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_FRACTION: Final = re.compile(r"\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+(?:_[0-9]+)*)?")
_LEAST: Final = -(2**63)
_MOST: Final = 2**64


def _meant(node: yaml.ScalarNode) -> object:
    """What a text without quotes stands for: go-yaml v2's `resolve.go`; times stay texts."""
    if _NO_JSON.fullmatch(node.value) or _ODD.fullmatch(node.value):
        raise _Wrong(node, f"{node.value} is not a JSON value; write it in quotes if it is a text")
    return _unquoted(node.value)


def _unquoted(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _float(text.replace("_", ""), text) if _FRACTION.fullmatch(text) else text
    digits = text.replace("_", "") if text[0] in "+-0123456789" else text
    number = _integer(digits)
    return number if number is not None else _float(digits, text)


def _integer(digits: str) -> int | None:
    for form, base in _NUMBERS:
        if form.fullmatch(digits):
            number = int(digits.replace("o", "").replace("O", "") if base == _OCTAL else digits, base)
            return number if _LEAST <= number < (-_LEAST if digits[0] == "+" else _MOST) else None
    return None


def _float(digits: str, text: str) -> float | str:
    number = float(digits) if _FLOAT.fullmatch(digits) else math.inf
    return text if math.isinf(number) else number
