"""Names of images and patterns over them as regular expressions, for where nothing else can be run: the API server.

They stay within what RE2 and Python's `re` have in common, and mean the same in both. `NAMESPACE` in them stands for
the namespace, which is a DNS label and so means nothing but itself; it is filled in where they are used. Names are
compared in their one form (`images.ImageReference`, `str`), so that an expression has neither case nor default ports
nor aliases to care for.
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

# What `images.parse` reads is like `NAME`, but not like `IDENTIFIER`, and only like `NUMERIC` if it is an `IPV4`. An
# IPv6 address is in `NAME` by its characters: whoever uses this has to parse it, and to count (`LONGEST` and below).
# The first component is a host, or else it has neither dots nor capital letters; alone it is never a host.
NAME: Final = (
    rf"(?:{_HOST}/{_COMPONENT}(?:/{_COMPONENT})*|{_COMPONENT}|{_FIRST}(?:/{_COMPONENT})+)(?::{_TAG})?(?:@{_DIGEST})?"
)
IDENTIFIER: Final = r"[a-f0-9]{64}|sha(?:256|384|512):[^/]*"
# The last label of a host is a number: hosts are known by a dot, a port, or a capital letter.
NUMERIC: Final = (
    r"(?:[^/]*\.(?:[0-9]+|0[xX][0-9A-Fa-f]*)(?::[0-9]+)?|(?:[0-9]+|0[xX][0-9A-Fa-f]*):[0-9]+"
    r"|0X[0-9A-Fa-f]*|0x[0-9a-f]*[A-F][0-9A-Fa-f]*)/.*"
)
IPV4: Final = rf"(?:{_OCTET}\.){{3}}{_OCTET}(?::[0-9]+)?/.*"
# Names that say which registry they mean; `docker.io/` goes in front of the others.
HOSTED: Final = r"(?:localhost|[^/@]*[.:A-Z][^/@]*)/.*"
# Of names that say so: where Docker Hub adds `library/`, and the part that has `LONGEST_NAME` characters at most.
OFFICIAL: Final = rf"(?i:{'|'.join(map(re.escape, sorted(HUB_NAMES)))})(?::443|:80)?/[^/]*"
BEFORE_VERSION: Final = r"^[^/]+/[^:@]+"
LONGEST_NAME: Final = 255
LONGEST: Final = 1024

# Beginnings of a name by which patterns over it are found, beside the empty one: the registry, and one and two
# components more. The last is that before it where there is no more.
HEADS: Final = (r"^[^/]+", r"^[^/]+/[^/:@]+", r"^[^/]+/[^/:@]+(?:/[^/:@]+)?")
_DEEPEST: Final = 2
_ANY_VERSION: Final = r"[:@].*"


class Expression(NamedTuple):
    """What a pattern says of a name that begins with `head`, which is empty or one of `HEADS`.

    Attributes:
        head: literally.
        path: what comes next, as a regular expression.
        version: the rest, beginning with a colon or an at sign, as a regular expression.
    """

    head: str
    path: str
    version: str


def expression_of(pattern: ImagePattern, *, ignore_tag: bool) -> Expression:
    """The expression that matches what `ImagePattern.covers` does."""
    version = _version(pattern, ignore_tag=ignore_tag)
    parts = pattern.repository.split("/")
    if "*" in pattern.registry:
        return Expression("", f"{_registry(pattern.registry)}/{_path(parts)}", version)
    literal = next((place for place, part in enumerate(parts) if "*" in part or part == NAMESPACE), len(parts))
    deep = min(literal, _DEEPEST)
    path = f"/{_path(parts[deep:])}" if parts[deep:] else ""
    return Expression("/".join((pattern.registry, *parts[:deep])), path, version)


def whole(expressions: Iterable[Expression]) -> str:
    """One expression over whole names that matches what any of these does."""
    return any_of(each._replace(head="", path=re.escape(each.head) + each.path) for each in expressions)


def any_of(expressions: Iterable[Expression]) -> str:
    """One expression over the rest of names, after the same head; each version is written once."""
    paths: dict[str, dict[str, None]] = {}
    for each in expressions:
        paths.setdefault(each.version, {})[each.path] = None
    return _either(_either(found) + version for version, found in paths.items())


def glob(text: str, star: str = ".*") -> str:
    """A glob in which ``*`` stands for anything, also for nothing."""
    return star.join(map(re.escape, text.split("*")))


def anchored(expression: str) -> str:
    """To be found in a text only if it is like all of it; RE2's ``$`` is the end, and never in front of a newline."""
    return f"^(?:{expression})$"


def _either(alternatives: Iterable[str]) -> str:
    listed = tuple(alternatives)
    return listed[0] if len(listed) == 1 else f"(?:{'|'.join(listed)})"


def _registry(text: str) -> str:
    """`patterns.covers_registry`: a star is within a label, and never in IPv6; as the port it is any or none."""
    if text == ANY:
        return r"[^/]+"
    host, port = split_port(text)
    end = r"(?::[0-9]+)?" if port == ANY else f":{port}" if port else ""
    return glob(host, r"[^./:]*") + end


def _path(parts: list[str]) -> str:
    """`RepositoryGlob`: two stars are any number of components, at the end at least one."""
    *before, last = parts
    end = r"[^:@]+" if last == "**" else _component(last)
    return "".join(r"(?:[^/:@]+/)*" if part == "**" else _component(part) + "/" for part in before) + end


def _component(part: str) -> str:
    return NAMESPACE if part == NAMESPACE else glob(part, r"[^/:@]*")


def _version(pattern: ImagePattern, *, ignore_tag: bool) -> str:
    """Beside a digest a tag proves nothing: it permits nothing, and forbids all the same."""
    if pattern.digest is not None:
        return rf"(?::[^@]*)?@{pattern.digest}"
    if not pattern.by_tag:
        return _ANY_VERSION
    tag = pattern.semver.expression if pattern.semver else glob(pattern.tag, r"[^@]*")
    return f":{tag}{'' if ignore_tag else '(?:@.*)?'}"
