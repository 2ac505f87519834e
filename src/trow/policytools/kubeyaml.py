"""YAML, read as kubectl reads it.

kubectl splits a stream into documents at lines that begin with ``---``, and reads each with go-yaml v2: YAML 1.1, with
its own rules for numbers, keys and merges (`k8s.io/apimachinery`, `pkg/util/yaml`; `sigs.k8s.io/yaml`). This reader
rejects what kubectl ignores, and what other programs that apply manifests read in another way.
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
    # The loader in C, if PyYAML has it: the output of Helm for a cluster has some megabytes.
    _FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Values in one document, with aliases expanded.
MOST_VALUES: Final = 1_000_000
DEEPEST: Final = 200
_SEPARATOR: Final = "---"
_BYTE_ORDER_MARK: Final = "\ufeff"
# Some readers skip a byte order mark there, others do not.
_MARKED_LINE: Final = re.compile(r"(?:^|[\n\r\x85\u2028\u2029])[ \t]*\ufeff")
_MERGE: Final = "<<"
# The tag that `_Loader` gives to a plain scalar, which has neither quotes nor a tag.
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
    """A document cannot be read, or is ambiguous; the message begins with the line."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")


class TooDeep(ValueError):
    """A document has more levels than `DEEPEST`."""


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of one document, and the number of lines before it in the stream."""

    text: str
    before: int

    def value(self) -> object:
        """The value of the document, of the types that JSON has; None if it is empty.

        Raises:
            NotAsKubectl: it cannot be read, or is ambiguous.
            TooDeep: it has too many levels.
        """
        try:
            _check_events(self.text)
            node = _Loader(self.text).get_single_node()
            return None if node is None else _Reader().read(node).value
        except _NodeError as error:
            raise NotAsKubectl(self.before + error.line, error.why) from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            why = f"{error.problem or error}; correct the YAML"
            if isinstance(error, yaml.composer.ComposerError) and "another document" in str(error.problem):
                why = "something follows the end of the document, which kubectl ignores; write --- before it"
            raise NotAsKubectl(self.before + line, why) from None
        except yaml.YAMLError as error:
            raise NotAsKubectl(self.before + 1, str(error).splitlines()[0]) from None


def documents_of(stream: str) -> Iterator[DocumentText]:
    """The documents of a stream, as text; also the empty ones.

    Raises:
        NotAsKubectl: something follows a separator on its line.
    """
    lines: list[str] = []
    before = 0
    for number, line in enumerate(stream.removesuffix("\n").split("\n"), 1):
        separates = line.startswith(_SEPARATOR)
        rest = line.removeprefix(_SEPARATOR).strip()
        if separates and rest and not rest.startswith("#"):
            raise NotAsKubectl(number, f"{rest[:40]!r} follows --- on the same line; write it on the next line")
        if separates and lines:
            yield _document(lines, before)
            lines, before = [], number
        else:
            lines.append(line)
    if lines:
        yield _document(lines, before)


def _document(lines: Sequence[str], before: int) -> DocumentText:
    """The lines with Unix line endings, without a byte order mark at the beginning."""
    text = "".join(line.removesuffix("\r") + "\n" for line in lines).removeprefix(_BYTE_ORDER_MARK)
    if match := _MARKED_LINE.search(text):
        line = before + text.count("\n", 0, match.end()) + 1
        raise NotAsKubectl(line, "there is a byte order mark; write --- on its own line before it, or remove it")
    return DocumentText(text, before)


class _Loader(_FastLoader):
    """Does not resolve plain scalars; `_Reader` does."""


_Loader.yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}


class _NodeError(ValueError):
    def __init__(self, node: yaml.Node | yaml.Event, why: str) -> None:
        super().__init__(why)
        self.line = node.start_mark.line + 1 if node.start_mark else 1
        self.why = why


def _check_events(text: str) -> None:
    """Check the depth before the document is built: the builder in C recurses without a limit."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise TooDeep
        if getattr(event, "tag", None) == "!":
            raise _NodeError(event, "the tag ! has no meaning here")


@dataclass(frozen=True, slots=True)
class _Read:
    """A value, the number of values in it with aliases expanded, and the number of levels."""

    value: object
    size: int
    depth: int


class _Reader:
    """Builds the values of one document."""

    def __init__(self) -> None:
        # By node: an alias has the node of its anchor.
        self._done: dict[int, _Read] = {}
        self._open: set[int] = set()

    def read(self, node: yaml.Node) -> _Read:
        if id(node) in self._done:
            return self._done[id(node)]
        if id(node) in self._open:
            raise _NodeError(node, "a value contains itself")
        self._open.add(id(node))
        read = self._build(node)
        if read.size > MOST_VALUES or read.depth > DEEPEST:
            raise _NodeError(node, f"more than {MOST_VALUES} values or {DEEPEST} levels")
        self._open.discard(id(node))
        self._done[id(node)] = read
        return read

    def _build(self, node: yaml.Node) -> _Read:
        if isinstance(node, yaml.ScalarNode):
            return _Read(_scalar(node), 1, 1)
        if node.tag not in _COLLECTIONS:
            raise _NodeError(node, f"the tag {node.tag.replace(_TAG, '!!')} has no meaning here")
        inner: list[_Read] = []
        if isinstance(node, yaml.MappingNode):
            value: object = self._mapping(node, inner)
        else:
            inner += map(self.read, node.value)
            value = [each.value for each in inner]
        return _Read(value, 1 + sum(each.size for each in inner), 1 + max((each.depth for each in inner), default=0))

    def _mapping(self, node: yaml.MappingNode, inner: list[_Read]) -> dict[str, object]:
        """The members of a mapping, and those that ``<<`` adds; their values are appended to ``inner``."""
        written: dict[str, object] = {}
        merged: dict[str, object] = {}
        for name, content in node.value:
            read = self.read(content)
            inner.append(read)
            key = _MERGE if (merges := _is_merge(name)) else _key(name)
            if key in written or (merges and merged):
                raise _NodeError(name, f"key {key!r} is written twice")
            if merges:
                merged = self._merged(content)
                _check_order(name, written, merged)
            else:
                written[key] = read.value
        for name, _ in node.value:
            # To kubectl, a number and the same text in quotes are two keys; both become one key in JSON.
            if not _is_merge(name) and _key(name) in merged and not isinstance(_resolved(_key(name)), str):
                raise _NodeError(name, f"key {_key(name)!r} is written twice, once without quotes")
        return merged | written

    def _merged(self, node: yaml.Node) -> dict[str, object]:
        """The members that ``<<`` adds; if several mappings have the same key, the first one counts."""
        merged: dict[str, object] = {}
        for part in reversed(node.value) if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.read(part).value
            if not isinstance(value, dict):
                raise _NodeError(part, "<< needs a mapping, or a list of mappings")
            merged |= value
        return merged


def _check_order(merge: yaml.Node, written: Mapping[str, object], merged: Mapping[str, object]) -> None:
    """For kubectl the last one that is written counts, for others the key that is not merged."""
    for key in written:
        if key in merged and merged[key] != written[key]:
            raise _NodeError(
                merge,
                f"<< sets {key!r} to another value than above, and readers differ on which one counts; write << first",
            )


def _is_merge(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == _MERGE and node.tag in (_PLAIN, f"{_TAG}merge")


def _key(node: yaml.Node) -> str:
    """The key as a string; an integer or Boolean becomes the string that JSON has for it."""
    value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, float):
        raise _NodeError(node, "a key is not a text; write it in quotes")
    return str(value)


# Scalars


def _scalar(node: yaml.ScalarNode) -> object:
    if node.tag == _TEXT:
        return node.value
    if node.tag != _PLAIN and node.tag not in _TYPES:
        raise _NodeError(node, f"the tag {node.tag.replace(_TAG, '!!')} has no meaning here")
    if _NOT_JSON.fullmatch(node.value):
        raise _NodeError(node, f"{node.value} is not a JSON value; write it in quotes if it is a text")
    value = _resolved(node.value)
    if node.tag != _PLAIN and type(value) not in _TYPES[node.tag]:
        raise _NodeError(node, f"{node.value!r} does not match its tag")
    return value


_WORDS: Final[Mapping[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
# Infinity and NaN, and a binary number with a sign inside, which only go-yaml reads.
_NOT_JSON: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|0b[-+][01_]+")
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


def _resolved(text: str) -> object:
    """The value of a plain scalar, as `resolve.go` of go-yaml v2 resolves it; timestamps stay strings."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _float(text.replace("_", ""), text) if _FRACTION.fullmatch(text) else text
    digits = text.replace("_", "") if text[0] in "+-0123456789" else text
    for form, base in _NUMBERS:
        if form.fullmatch(digits):
            number = int(digits.replace("o", "").replace("O", "") if base == _OCTAL else digits, base)
            if _LEAST <= number < (-_LEAST if digits[0] == "+" else _MOST):
                return number
            break
    return _float(digits, text)


def _float(digits: str, text: str) -> float | str:
    number = float(digits) if _FLOAT.fullmatch(digits) else math.inf
    return text if math.isinf(number) else number
