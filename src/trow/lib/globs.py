"""Globs over repository names: by components, never by raw prefix (gatekeeper-library issues 80 and 529).

``*`` stands for anything within one component, ``**`` for any number of whole components; at the end of a glob for at
least one. ``team-a/**`` covers what is below ``team-a`` and never ``team-abc/x``. In policies over images a component
may be ``$namespace``: the namespace of what wants to run.

Clients choose the names that are matched, so matching takes no longer than the product of both lengths: no regular
expression, which a glob of many stars would send back and forth endlessly.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.oci.names import Repository

# No component of a repository's name has a dollar sign, so that nothing else can be meant.
NAMESPACE: Final = "$namespace"
_COMPONENT: Final = re.compile(r"\*\*|[a-z0-9._*-]+")
_LONGEST: Final = 255
_Part = TypeVar("_Part")


class RepositoryGlob(str):
    """A glob over repository names. `parse` is its only constructor."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str, *, in_namespaces: bool = False) -> Self:
        """Read a glob as an operator wrote it.

        Args:
            text: the glob.
            in_namespaces: whether it is about what runs in namespaces, and `NAMESPACE` may be one of its components.

        Raises:
            ValueError: no repository name could ever match it.
        """
        parts = text.split("/")
        literal = [part for part in parts if part != NAMESPACE] if in_namespaces else parts
        if in_namespaces and any("$" in part for part in literal):
            raise ValueError(f"{text!r} has a $, which stands in {NAMESPACE} alone, a whole component: {NAMESPACE}/**")
        if len(text) > _LONGEST or not all(_COMPONENT.fullmatch(part) for part in literal):
            raise ValueError(
                f"{text!r} is not a glob of repositories: write lower-case components separated by '/', with * for"
                " anything in one component and ** for any components, such as team-a/**"
            )
        if any("**" in part and part != "**" for part in parts):
            raise ValueError(f"{text!r} mixes ** with other characters; ** stands for whole components")
        return cls(text)

    @property
    def beginning(self) -> str:
        """The text that every matching repository begins with."""
        return self.partition("*")[0]

    def below(self, path: Repository) -> Self:
        """The same globs of what is below a path."""
        return type(self)(f"{path}/{self}")

    def covers(self, repository: Repository, namespace: str = "") -> bool:
        """Whether the repository matches.

        Args:
            repository: any.
            namespace: what `NAMESPACE` stands for, compared literally, stars too. "": for nothing.
        """

        def like(part: str, component: str) -> bool:
            return component == namespace if part == NAMESPACE else matches(part, component)

        return _fits(_parts(self), repository.split("/"), "**", like)


@functools.lru_cache(maxsize=4096)
def _parts(glob: str) -> Sequence[str]:
    parts = glob.split("/")
    return [*parts[:-1], "*", "**"] if parts[-1] == "**" else parts


def matches(pattern: str, text: str) -> bool:
    """Whether the text matches the pattern, in which ``*`` matches any characters, also none."""
    if "*" not in pattern:
        return pattern == text
    if pattern == "*":
        return True
    return _fits(pattern, text, "*", str.__eq__)


def _fits(pattern: Sequence[_Part], given: Sequence[_Part], star: _Part, like: Callable[[_Part, _Part], bool]) -> bool:
    """Greedy matching: only the last star that was met ever has to take more than it did."""
    at = here = 0
    last_star, taken = -1, 0
    while here < len(given):
        if at < len(pattern) and pattern[at] == star:
            last_star, taken = at, here
            at += 1
        elif at < len(pattern) and like(pattern[at], given[here]):
            at += 1
            here += 1
        elif last_star >= 0:
            taken += 1
            at, here = last_star + 1, taken
        else:
            return False
    return all(part == star for part in pattern[at:])
