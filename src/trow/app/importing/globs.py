"""Globs over whole image names, as other programs have them, made into patterns over the parts of an image.

In such a glob ``*`` stands for any characters, also for ``/``, ``:`` and ``@``. Here every part has a glob of its own,
and ``*`` ends where a component ends, so that one of theirs is often several of ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, Final

from trow.policy.images import DOCKER_HUB, HUB_NAMES, split_host
from trow.policy.patterns import ANY, ImagePattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Labels that a star in a host may stand for beyond its own: `*.example.com` is tried with up to so many more.
_MORE_LABELS: Final = 3
_MOST_PATTERNS: Final = 64
_STARS: Final = re.compile(r"\*+")
_STRANGE: Final = frozenset("?[]{}\\!|&<> ")
_WHOLE_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


class Form(Enum):
    """What the name of an image looks like where the glob is compared with it.

    Attributes:
        WRITTEN: as the Pod has it, such as ``nginx``.
        HOSTED: with the registry and either a tag or a digest, such as ``docker.io/nginx:latest``.
        FULL: with everything that is left out: ``docker.io/library/nginx:latest``.
    """

    WRITTEN = "written"
    HOSTED = "hosted"
    FULL = "full"


class Inexpressible(ValueError):
    """A glob that no patterns of ours are equal to; the message says what is in the way."""


class Nothing(Inexpressible):
    """A glob that is like no image's name, so that leaving it out changes nothing."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a glob means here.

    Attributes:
        patterns: together they cover what it covers, as far as no remark says otherwise.
        remarks: where they do not.
    """

    patterns: tuple[ImagePattern, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Parts:
    """Globs of the registry, in which a star may stand for dots, of the repository, and of the rest."""

    host: str
    path: str
    tag: str
    digest: str

    @property
    def is_short(self) -> bool:
        """Whether it names an official image of Docker Hub without `library/`."""
        return self.host in HUB_NAMES and "/" not in self.path and self.path != "**"


def meaning_of(glob: str, form: Form, *, trusting: bool) -> Meaning:
    """Patterns for a glob.

    Args:
        glob: over whole names.
        form: of the names that it is compared with.
        trusting: whether something is permitted by it.

    Raises:
        Inexpressible: there are none.
    """
    text = _STARS.sub("*", glob)
    if strange := sorted(set(text) & _STRANGE):
        raise Inexpressible(f"{glob!r} has {' '.join(strange)}, which no pattern here can say")
    splits = _splits(text, form, trusting=trusting)
    parts = [parts for host, path in splits for parts in _variants(host, path, form)]
    if form is Form.FULL:
        parts = [each for each in parts if not each.is_short]
    patterns, wrong = _patterns(parts)
    if not patterns:
        raise Nothing(wrong or f"{glob!r} is like no image's name")
    remarks = [wrong] if wrong else []
    for host, path in splits:
        remarks += _remarks(text, host, path, form, trusting=trusting)
    return Meaning(patterns, tuple(dict.fromkeys(remarks)))


def _patterns(parts: Sequence[_Parts]) -> tuple[tuple[ImagePattern, ...], str]:
    if len(parts) > _MOST_PATTERNS:
        raise Inexpressible(f"it would take {len(parts)} patterns; write it with fewer stars")
    found: dict[ImagePattern, None] = {}
    wrong = ""
    for each in parts:
        try:
            found[ImagePattern.parse(each.host, each.path, each.tag, each.digest)] = None
        except ValueError as error:
            wrong = str(error)
    return tuple(found), wrong


# Where the host ends


def _splits(text: str, form: Form, *, trusting: bool) -> Sequence[tuple[str, str]]:
    """Globs of the host and what follows it; more than one where a star may be on both sides."""
    first, slash, rest = text.partition("/")
    if first.startswith("*"):
        return _of_star(text, first, rest)
    if split_host(text)[0] or (form is not Form.WRITTEN and slash):
        return _hosted(text, first, rest)
    if first.endswith("*") and not slash:
        return _of_beginning(text, form, trusting=trusting)
    if form is not Form.WRITTEN:
        raise Nothing(f"{text!r} {_NO_REGISTRY}")
    return [(DOCKER_HUB, text)]


_NO_REGISTRY: Final = "begins with no registry, as every name does that it is compared with"


def _of_star(text: str, first: str, rest: str) -> Sequence[tuple[str, str]]:
    """A star that begins a glob takes in the host, and as many components as it likes."""
    if not rest:
        return [(ANY, text)]
    if first == "*":
        return [(ANY, rest if rest == "*" else f"**/{rest}")]
    return [(first, rest)] if _is_host(first) else [(ANY, text), (first, rest)]


def _hosted(text: str, host: str, path: str) -> Sequence[tuple[str, str]]:
    if not path or not (_is_host(host) or "*" in host):
        raise Nothing(f"{text!r} {_NO_REGISTRY}")
    return [(host, path)]


def _of_beginning(text: str, form: Form, *, trusting: bool) -> Sequence[tuple[str, str]]:
    """A glob without a slash that ends with a star: names of Docker Hub, or of registries that begin so."""
    beginning = text.removesuffix("*")
    name, port, _ = beginning.partition(":")
    host = f"{name}:*" if port else text
    if _is_host(beginning) and (form is not Form.WRITTEN or _is_host(name)):
        return [(beginning if trusting else host, "*")]
    if form is Form.WRITTEN:
        # Whoever wrote it to allow something meant the former.
        both = not trusting and (not port or port.isdecimal())
        return [(DOCKER_HUB, text), (host, "*")] if both else [(DOCKER_HUB, text)]
    if port:
        raise Nothing(f"{text!r} {_NO_REGISTRY}")
    if trusting:
        raise Inexpressible(f"{text!r} is about every registry whose name begins so, whoever has it")
    return [(text, "*")]


def _is_host(text: str) -> bool:
    name, colon, port = text.partition(":")
    return ("." in name or name == "localhost" or bool(colon)) and (not colon or port.isdecimal())


# What one glob is in parts


def _variants(host: str, path: str, form: Form) -> Iterator[_Parts]:
    repository, tag, digest = _version(path, form)
    for each in _hosts(host):
        for glob in _repositories(repository):
            yield _Parts(each, glob, tag, digest)


def _version(path: str, form: Form) -> tuple[str, str, str]:
    """Repository, tag and digest; the tag is "*" where there may be any."""
    head, at, digest = path.partition("@")
    start = head.rfind("/") + 1
    name, colon, tag = head[start:].partition(":")
    repository = head[:start] + name
    if at and not _WHOLE_DIGEST.fullmatch(digest):
        raise Inexpressible(f"{path!r} asks for any digest; require: {{digest: true}} does, of a whole policy")
    if at or colon:
        return repository, ANY if at else tag, digest
    if path.endswith("*"):
        return repository, ANY, ""
    if form is not Form.WRITTEN:
        raise Nothing(f"{path!r} has no tag, as every name has that it is compared with; write :* behind it")
    return repository, "latest", ""


def _hosts(glob: str) -> Sequence[str]:
    """The glob by labels: a star may stand for dots too, and at the end for a port."""
    if glob == ANY or "*" not in glob.removesuffix(":*"):
        return (glob,)
    port = ":*" if glob.endswith("*") else ""
    return [glob.replace("*", "*" + ".*" * more, 1) + port for more in range(_MORE_LABELS + 1)]


def _repositories(glob: str) -> Iterator[str]:
    """The glob by components: a star may stand for slashes too."""
    *parts, last = glob.split("/")
    for chosen in product(*map(_inside, parts), _at_the_end(last)):
        yield "/".join(chosen)


def _inside(part: str) -> Sequence[str]:
    if part in ("*", "**"):
        return ("*/**",) if part == "*" else (part,)
    return [f"{core}*/**" if part.endswith("*") else core for core in _cores(part)]


def _at_the_end(part: str) -> Sequence[str]:
    if part == "*":
        return ("**",)
    if not part.endswith("*"):
        return _cores(part)
    return [f"{core}{end}" for core in _cores(part) for end in ("*", "*/**")]


def _cores(part: str) -> Sequence[str]:
    """The component without a star at its end: one in front or in its middle may stand for further components."""
    first, *others = part.removesuffix("*").split("*")
    if part.startswith("*"):
        first, others = f"**/*{others[0]}", others[1:]
    found = [first]
    for other in others:
        found = [f"{before}{joint}{other}" for before in found for joint in ("*", "*/**/*")]
    return found


# Where the patterns are not the same


def _remarks(text: str, host: str, path: str, form: Form, *, trusting: bool) -> Iterator[str]:
    repository, tag, digest = _version(path, form)
    if host in HUB_NAMES - {DOCKER_HUB} and form is not Form.WRITTEN:
        yield f"{host} is Docker Hub, so that it is about all images of {DOCKER_HUB} here"
    if "/" not in text and trusting and text.endswith("*") and host != ANY and ":" not in path:
        yield f"it is about {host} alone, no longer about registries whose names begin so"
    elif host.endswith(":*"):
        yield f"it is about {host.removesuffix(':*')} at every port"
    elif "*" in host and host != ANY:
        yield "a star in a registry stands for at most four labels or any port here, and for no slash"
    if tag == ANY and not digest and ":" in path and not repository.endswith("*"):
        yield "it covers images that are named by a digest alone, too"
    if trusting and form is not Form.HOSTED and tag != ANY and tag.endswith("*"):
        yield "images that are named with a digest beside the tag are not allowed by it: nothing vouches for the tag"
