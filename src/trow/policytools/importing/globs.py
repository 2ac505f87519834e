"""Translates globs over whole image names, as other programs have them, to patterns over the parts of a name.

In such a glob ``*`` matches any characters, also ``/``, ``:`` and ``@``. In a pattern each part has its own glob, and
``*`` does not match ``/``, so one glob often becomes several patterns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import TYPE_CHECKING, Final

from trow.lib.globs import NAMESPACE
from trow.policy.images import DOCKER_HUB, HUB_NAMES, split_host
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.resources import IMAGES_AT_MOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A star in a host, as in `*.example.com`, matches up to this many labels beside its own.
_MORE_LABELS: Final = 3
_STARS: Final = re.compile(r"\*+")
# At least one character, which is the same as a star: no part of a name is empty.
_SOMETHING: Final = re.compile(r"(?:^|(?<=[/:@]))(?:\?\*|\*\?)(?=$|[/:@])")
_UNSUPPORTED: Final = frozenset("?[]{}\\!|&<>$ ")
# The end of a digest, after a star.
_IN_A_DIGEST: Final = re.compile(r"\*[0-9a-fhs]+(?:[*:]|$)")
_WHOLE_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


class NameForm(Enum):
    """The form of the image name with which the source compares a glob.

    Attributes:
        WRITTEN: as the Pod has it, such as ``nginx``.
        HOSTED: with the registry, and a tag or a digest, such as ``docker.io/nginx:latest``.
        FULL: with all defaults, such as ``docker.io/library/nginx:latest``.
    """

    WRITTEN = "written"
    HOSTED = "hosted"
    FULL = "full"


class NotTranslatable(ValueError):
    """No pattern can express the glob; the message says why."""


class MatchesNothing(NotTranslatable):
    """The glob matches no image name, so to leave it out changes nothing."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The patterns of a glob.

    Attributes:
        patterns: together they cover what the glob covers, except for the remarks.
        remarks: the differences.
    """

    patterns: tuple[ImagePattern, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Parts:
    """The globs of host, repository, tag and digest; in the host a star may match dots."""

    host: str
    path: str
    tag: str
    digest: str

    @property
    def is_short(self) -> bool:
        """Whether it covers official images of Docker Hub without `library/`."""
        return self.host in HUB_NAMES and "/" not in self.path and self.path != "**"


def translation_of(glob: str, form: NameForm, *, for_allow: bool, in_namespaces: bool = False) -> Translation:
    """Translate a glob.

    Args:
        glob: over whole names.
        form: the form of these names.
        for_allow: whether the patterns allow images. Those that allow may cover fewer images, those that deny more.
        in_namespaces: whether `NAMESPACE` in the glob is the namespace of the Pod.

    Raises:
        NotTranslatable: no pattern can express it.
    """
    text = _SOMETHING.sub("*", _STARS.sub("*", glob))
    if in_namespaces and NAMESPACE in text and not for_allow:
        raise NotTranslatable(f"{glob!r} denies by the namespace of the Pod, which rules here cannot do")
    literal = text.replace(NAMESPACE, "") if in_namespaces else text
    if unsupported := sorted(set(literal) & _UNSUPPORTED):
        raise NotTranslatable(f"{glob!r} has {' '.join(unsupported)}, which a pattern here cannot express")
    splits = _splits(text, form, for_allow=for_allow)
    parts = [
        _Parts(host_glob, path_glob, tag, digest)
        for host, path in splits
        for repository, tag, digest in _versions(path, form)
        for host_glob in _hosts(host)
        for path_glob in _repositories(repository)
    ]
    if form is NameForm.FULL:
        parts = [each for each in parts if not each.is_short]
    patterns, wrong = _patterns(parts)
    if not patterns:
        raise NotTranslatable(wrong) if wrong else MatchesNothing(f"{glob!r} matches no image's name")
    remarks = [wrong] if wrong else []
    for host, path in splits:
        remarks += _remarks(text, host, path, form, for_allow=for_allow)
    return Translation(patterns, tuple(dict.fromkeys(remarks)))


def _patterns(parts: Sequence[_Parts]) -> tuple[tuple[ImagePattern, ...], str]:
    if len(parts) > IMAGES_AT_MOST:
        raise NotTranslatable(f"it would need {len(parts)} patterns; write it with fewer stars")
    found: dict[ImagePattern, None] = {}
    wrong = ""
    for each in parts:
        try:
            found[ImagePattern.parse(each.host, each.path, each.tag, each.digest)] = None
        except ValueError as error:
            wrong = str(error)
    return tuple(found), wrong


def _splits(text: str, form: NameForm, *, for_allow: bool) -> Sequence[tuple[str, str]]:
    """Globs of the host and of the rest. The host ends at the first slash, which a star may match too."""
    first, slash, rest = text.partition("/")
    name, _, port = first.partition(":")
    if form is NameForm.WRITTEN and not (first.startswith("*") or (split_host(text)[0] if slash else _is_host(name))):
        # A star in a glob that allows is intended for names of Docker Hub, not for registries with such a prefix.
        others = () if for_allow or "*" not in first else _hosted(text, name, port, rest, for_allow=False)
        return [(DOCKER_HUB, text), *others]
    if "*" not in first and not (rest and (_is_host(name) or port)):
        if form is NameForm.WRITTEN and not slash:
            return [(DOCKER_HUB, text)]
        raise MatchesNothing(f"{text!r} does not begin with a registry, and there it is compared with names that do")
    return _hosted(text, name, port, rest, for_allow=for_allow)


def _hosted(text: str, name: str, port: str, rest: str, *, for_allow: bool) -> Sequence[tuple[str, str]]:
    if "*" not in name and "*" in port and (port != "*" or not rest):
        # A pattern has a whole port, or any port.
        digits = port.removesuffix("*")
        if not for_allow:
            return [(f"{name}:*", rest or "*")]
        if rest or not digits.isdecimal():
            raise NotTranslatable(f"{text!r} has a part of a port; write the whole port, or * for any port")
        return [(f"{name}:{digits}", "*")]
    found = list(_ends(text))
    if not for_allow or "*" not in name:
        return found
    if not rest and not name.startswith("*"):
        if not _is_host(name.removesuffix("*")) or port or name.count("*") > 1:
            raise NotTranslatable(f"{text!r} would allow every registry whose name begins like that, whoever owns it")
        return [(name.removesuffix("*"), "*")]
    if name.startswith("*"):
        # `*.example.com/x` is intended to allow registries, not repositories with such a name in other registries.
        return found[:1] if _is_host(name) and rest else [split for split in found if split[0] in (ANY, name)]
    return found


def _ends(text: str) -> Iterator[tuple[str, str]]:
    first, slash, rest = text.partition("/")
    if slash and not first.endswith("*"):
        yield first, rest
    for at, character in enumerate(first if slash else first.partition(":")[0].partition("@")[0]):
        if character == "*":
            host, tail = text[: at + 1], text[at + 1 :]
            yield host, "*" if tail in ("", "/*") else f"**{tail}" if tail.startswith("/") else f"*{tail}"


def _is_host(text: str) -> bool:
    """Whether the first component of a name is a host."""
    return "." in text or text == "localhost"


def _versions(path: str, form: NameForm) -> Sequence[tuple[str, str, str]]:
    """Repository, tag and digest; the tag is "*" if it may be any."""
    head, at, digest = path.partition("@")
    start = head.rfind("/") + 1
    name, colon, tag = head[start:].partition(":")
    if at and not _WHOLE_DIGEST.fullmatch(digest):
        raise NotTranslatable(
            f"{path!r} requires a digest, which only a whole policy can; write require: {{digest: true}}"
        )
    if at or colon:
        return [(head[:start] + name, ANY if at else tag, digest)]
    if path.endswith("*"):
        return [(path, ANY, ""), *_up_to_stars(path, start)]
    found = [(path, "latest", "")] if form is NameForm.WRITTEN else []
    if not found and "*" not in name:
        raise MatchesNothing(
            f"{path!r} has no tag, and there it is compared with names that have one; write :* at its end"
        )
    return [*found, *_up_to_stars(path, start)]


def _up_to_stars(path: str, start: int) -> Iterator[tuple[str, str, str]]:
    """A star in the last component may match the end of the repository and the beginning of the tag."""
    for at in range(start, len(path) - 1):
        if path[at] == "*":
            yield path[: at + 1], path[at:], ""


def _hosts(glob: str) -> Iterator[str]:
    """The globs by labels: a star may match dots too, and at the end a port."""
    if glob == ANY or "*" not in glob.removesuffix(":*"):
        yield glob
        return
    port = ":*" if glob.endswith("*") else ""
    first, *others = glob.removesuffix(":*").split("*")
    for more in product(range(_MORE_LABELS + 1), repeat=len(others)):
        if sum(more) <= _MORE_LABELS:
            stars = ("*" + ".*" * labels for labels in more)
            yield first + "".join(f"{star}{other}" for star, other in zip(stars, others, strict=True)) + port


def _repositories(glob: str) -> Iterator[str]:
    """The globs by components: a star may match slashes too."""
    *parts, last = glob.split("/")
    before: list[Sequence[str]] = []
    for part in parts:
        if part in ("*", "**"):
            before.append(("*/**",) if part == "*" else (part,))
        else:
            before.append([f"{core}*/**" if part.endswith("*") else core for core in _cores(part)])
    ends: Sequence[str] = ("**",)
    if last != "*":
        tails = ("*", "*/**") if last.endswith("*") else ("",)
        ends = [f"{core}{tail}" for core in _cores(last) for tail in tails]
    for chosen in product(*before, ends):
        yield "/".join(chosen)


def _cores(part: str) -> Sequence[str]:
    """The component without a star at its end; a star in front or in the middle may match further components."""
    first, *others = part.removesuffix("*").split("*")
    if part.startswith("*"):
        first, others = f"**/*{others[0]}", others[1:]
    found = [first]
    for other in others:
        found = [f"{before}{joint}{other}" for before in found for joint in ("*", "*/**/*")]
    return found


def _remarks(text: str, host: str, path: str, form: NameForm, *, for_allow: bool) -> Iterator[str]:
    repository, tag, digest = _versions(path, form)[0]
    first = text.partition("/")[0]
    if host in HUB_NAMES - {DOCKER_HUB} and form is not NameForm.WRITTEN:
        yield f"{host} is Docker Hub, so it covers all images of {DOCKER_HUB} here"
    if for_allow and "*" not in host and ("*" in first.partition(":")[0] or first == f"{host}*"):
        yield f"it covers {host} only, no longer registries whose names begin with that"
    elif for_allow and host == ANY and "*" in first.partition(":")[0][1:]:
        yield "it covers repositories, no longer registries of that name"
    elif host.endswith(":*"):
        yield f"it is about {host.removesuffix(':*')} on every port"
    elif "*" in host and host != ANY:
        yield "a star in a registry matches at most four labels here"
    if tag == ANY and not digest and ":" in path and not repository.endswith("*"):
        yield "it also covers images that are named by a digest only"
    name, colon, start = path.rpartition("/")[2].partition(":")
    # A star at the end may match the end of a tag and the digest after it.
    cut = start not in ("", "*") and start.endswith("*") if colon else "*" in name[:-1] and name.endswith("*")
    if for_allow and form is not NameForm.HOSTED and cut:
        yield "it does not allow images that have a tag and a digest: nothing vouches for the tag"
    if not for_allow and _IN_A_DIGEST.search(text):
        yield "a part of a digest is ignored"
