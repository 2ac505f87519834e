"""Image names and patterns over them as regular expressions, which the API server can evaluate.

The expressions use what RE2 and Python's `re` have in common, and mean the same in both. `NAMESPACE` in them is
replaced where they are used; a namespace is a DNS label, so it has no special characters. Names are compared in their
canonical form (`images.ImageReference`, `str`), so an expression need not care for case, default ports and aliases.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.globs import NAMESPACE
from trow.policy.images import HUB_NAMES, split_port
from trow.policy.patterns import ANY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trow.policy.patterns import ImagePattern

_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PORT: Final = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::{_PORT})?"
_FIRST: Final = r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_TAG: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
_DIGEST: Final = r"(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})"
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

# `images.parse` reads what matches `NAME` and not `images.IDENTIFIER`, and `NUMERIC` only with `IPV4`. `NAME` checks
# only the characters of an IPv6 address, so the address has to be parsed too, and lengths have to be checked
# (`images.LONGEST`). The first component is a host, or has neither dots nor capital letters; alone it is never a host.
NAME: Final = (
    rf"(?:{_HOST}/{_COMPONENT}(?:/{_COMPONENT})*|{_COMPONENT}|{_FIRST}(?:/{_COMPONENT})+)(?::{_TAG})?(?:@{_DIGEST})?"
)
# The last label of the host is a number. A host has a dot, a port, or a capital letter.
NUMERIC: Final = (
    r"(?:[^/]*\.(?:[0-9]+|0[xX][0-9A-Fa-f]*)(?::[0-9]+)?|(?:[0-9]+|0[xX][0-9A-Fa-f]*):[0-9]+"
    r"|0X[0-9A-Fa-f]*|0x[0-9a-f]*[A-F][0-9A-Fa-f]*)/.*"
)
IPV4: Final = rf"(?:{_OCTET}\.){{3}}{_OCTET}(?::[0-9]+)?/.*"
# Names with a host; the others get the prefix `docker.io/`.
HOSTED: Final = r"(?:localhost|[^/@]*[.:A-Z][^/@]*)/.*"
# Of names with a host: those to which Docker Hub adds `library/`, and the part with at most `LONGEST_NAME` characters.
OFFICIAL: Final = rf"(?i:{'|'.join(map(re.escape, sorted(HUB_NAMES)))})(?::443|:80)?/[^/]*"
BEFORE_VERSION: Final = r"^[^/]+/[^:@]+"

# The prefixes of a name by which its patterns are indexed, beside the empty one: the registry, and one and two more
# components. A name with one component has the last two in common.
HEADS: Final = (r"^[^/]+", r"^[^/]+/[^/:@]+", r"^[^/]+/[^/:@]+(?:/[^/:@]+)?")
_DEEPEST: Final = 2
_ANY_VERSION: Final = r"[:@].*"


class Expression(NamedTuple):
    """The regular expression of a pattern, in three parts.

    Attributes:
        head: a literal prefix: empty, or one of `HEADS`.
        path: the regular expression of the rest of the repository.
        version: the regular expression of tag and digest, from the colon or at sign on.
    """

    head: str
    path: str
    version: str


def expression_of(pattern: ImagePattern, *, ignore_tag: bool) -> Expression:
    """The expression that matches the names which `ImagePattern.covers`."""
    version = _version(pattern, ignore_tag=ignore_tag)
    parts = pattern.repository.split("/")
    if "*" in pattern.registry:
        return Expression("", f"{_registry(pattern.registry)}/{_path(parts)}", version)
    literal = next((place for place, part in enumerate(parts) if "*" in part or part == NAMESPACE), len(parts))
    deep = min(literal, _DEEPEST)
    path = f"/{_path(parts[deep:])}" if parts[deep:] else ""
    return Expression("/".join((pattern.registry, *parts[:deep])), path, version)


def full_regex(expressions: Iterable[Expression]) -> str:
    """One regular expression over full names that matches what any of these expressions matches."""
    return any_of(each._replace(head="", path=re.escape(each.head) + each.path) for each in expressions)


def any_of(expressions: Iterable[Expression]) -> str:
    """One regular expression over names without their head; expressions with the same version share it."""
    paths: dict[str, dict[str, None]] = {}
    for each in expressions:
        paths.setdefault(each.version, {})[each.path] = None
    return _either(_either(found) + version for version, found in paths.items())


def glob(text: str, star: str = ".*") -> str:
    """A glob as a regular expression; ``*`` matches any text, also none."""
    return star.join(map(re.escape, text.split("*")))


def anchored(expression: str) -> str:
    """The expression, which matches only a whole text. In RE2 ``$`` does not match before a trailing newline."""
    return f"^(?:{expression})$"


def _either(alternatives: Iterable[str]) -> str:
    listed = tuple(alternatives)
    return listed[0] if len(listed) == 1 else f"(?:{'|'.join(listed)})"


def _registry(text: str) -> str:
    """As `patterns.covers_registry`: a star matches within a label, never an IPv6 address; as the port any or none."""
    if text == ANY:
        return r"[^/]+"
    host, port = split_port(text)
    end = r"(?::[0-9]+)?" if port == ANY else f":{port}" if port else ""
    return glob(host, r"[^./:]*") + end


def _path(parts: list[str]) -> str:
    """As `RepositoryGlob`: two stars match any number of components, at the end at least one."""
    *before, last = parts
    end = r"[^:@]+" if last == "**" else _component(last)
    return "".join(r"(?:[^/:@]+/)*" if part == "**" else _component(part) + "/" for part in before) + end


def _component(part: str) -> str:
    return NAMESPACE if part == NAMESPACE else glob(part, r"[^/:@]*")


def _version(pattern: ImagePattern, *, ignore_tag: bool) -> str:
    """Beside a digest a tag is not verified: with ``ignore_tag`` it does not match."""
    if pattern.digest is not None:
        return rf"(?::[^@]*)?@{pattern.digest}"
    if not pattern.by_tag:
        return _ANY_VERSION
    tag = pattern.semver.expression if pattern.semver else glob(pattern.tag, r"[^@]*")
    return f":{tag}{'' if ignore_tag else '(?:@.*)?'}"
