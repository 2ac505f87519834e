"""Where images are in kinds that others have defined: ``spec.template.spec``, ``spec.steps[*][*].image``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from trow.policy.pods import MOST_ENTRIES, MOST_IMAGES, ImageUse, UnreadableObject, UsedBy, images_of_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trow.policy.pods import Json

# Every entry of a list, and every member of an object.
ENTRIES: Final = "[*]"
MEMBERS: Final = "*"
_PART: Final = re.compile(r"([A-Za-z0-9_-]+|\*)((?:\[\*\])*)")
_MOST_STEPS: Final = 32
# What makes an object one that names images; a path to anything else would find none, and let everything through.
_NAMING: Final = frozenset({"image", "reference", "containers", "initContainers", "ephemeralContainers"})


class Path(tuple[str, ...]):
    """Names of members, `MEMBERS` or `ENTRIES`, one for each step into an object."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a path as an operator wrote it.

        Raises:
            ValueError: it is not a path.
        """
        parts = [_PART.fullmatch(part) for part in text.removeprefix("$").removeprefix(".").split(".")]
        steps = [step for part in parts if part for step in (part[1], *[ENTRIES] * (len(part[2]) // len(ENTRIES)))]
        if len(steps) > _MOST_STEPS or None in parts:
            raise ValueError(
                f"{text!r} is not a path; write members with dots, [*] for every entry of a list and * for every member"
            )
        return cls(steps)


class Shape:
    """Where images are in a value: all paths of a kind together, so that it is walked once.

    A shape may be a part of itself, as a template may hold templates.

    Attributes:
        ends: whether a path ends here.
        steps: the shapes of what is further in, by member, `MEMBERS` or `ENTRIES`.
    """

    __slots__ = ("ends", "steps")

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.ends = False
        self.steps: dict[str, Shape] = {}
        for path in paths:
            self.at(path).ends = True

    def at(self, path: Iterable[str]) -> Shape:
        """The shape of what is at a path."""
        found = self
        for step in path:
            found = found.steps.setdefault(step, Shape())
        return found

    def holding(self, text: str, part: Shape) -> Shape:
        """Let what is at a path have this shape."""
        *before, last = Path.parse(text)
        self.at(before).steps[last] = part
        return self

    def images_in(self, item: Json, *, strict: bool) -> tuple[ImageUse, ...]:
        """The images in an object.

        At the end of a path, a text is an image, and an object is a container, an image volume or a specification of
        Pods, or several of these in one.

        Args:
            item: any.
            strict: whether an object at the end of a path has to name an image; else it may leave that to others, as
                the containers do which operators put together with their own.

        Raises:
            UnreadableObject: what is there is something else.
        """
        found: list[ImageUse] = []
        for number, (where, value) in enumerate(_values(item, self, "")):
            found += _read(where, value, strict=strict)
            if number >= MOST_ENTRIES:
                raise UnreadableObject(f"{where} and others are more than {MOST_ENTRIES} places for images")
            if len(found) > MOST_IMAGES:
                raise UnreadableObject(f"{where} and others name more than {MOST_IMAGES} images")
        return tuple(found)


def _values(value: object, shape: Shape, where: str) -> Iterator[tuple[str, object]]:
    if shape.ends:
        yield where, value
    for step, further in shape.steps.items():
        for at, each in _entered(value, step, where):
            yield from _values(each, further, at)


def _entered(value: object, step: str, where: str) -> Iterator[tuple[str, object]]:
    """What a step leads to, and where that is."""
    if step == ENTRIES:
        if not isinstance(value, list):
            raise UnreadableObject(f"{where} is not a list")
        if len(value) > MOST_ENTRIES:
            raise UnreadableObject(f"{where} has {len(value)} entries, more than {MOST_ENTRIES}")
        yield from ((f"{where}[{number}]", each) for number, each in enumerate(value))
        return
    if not isinstance(value, dict):
        raise UnreadableObject(f"{where or 'the object'} is not an object")
    if step == MEMBERS and len(value) > MOST_ENTRIES:
        raise UnreadableObject(f"{where} has {len(value)} members, more than {MOST_ENTRIES}")
    for name in value if step == MEMBERS else (step,):
        if value.get(name) is not None:
            yield f"{where}.{name}" if where else name, value[name]


def _read(where: str, value: object, *, strict: bool) -> Iterator[ImageUse]:
    if isinstance(value, str) and (value or strict):
        yield ImageUse(where, where, value, used_by=_used_by(where))
    elif isinstance(value, dict) and (not strict or not value or not _NAMING.isdisjoint(value)):
        # Read as a container, a specification has no image, and the other way round: nothing is left out.
        uses = (*images_of_spec(value, where), *_of_container(value, where))
        yield from (use for use in uses if use.text or strict)
    elif value or strict:
        raise UnreadableObject(
            f"{where} is not an image, a container or a specification of Pods; see admission.extra_kinds"
        )


def _of_container(value: Json, where: str) -> Iterator[ImageUse]:
    for key, of_policy in (("image", "imagePullPolicy"), ("reference", "pullPolicy")):
        text, policy = value.get(key), value.get(of_policy) or ""
        if text is None:
            continue
        if not isinstance(text, str) or not isinstance(policy, str):
            raise UnreadableObject(f"{where}.{key} or its {of_policy} is not a text")
        used_by = UsedBy.VOLUMES if key == "reference" else _used_by(where)
        yield ImageUse(f"{where}.{key}", where, text, policy, used_by)


def _used_by(where: str) -> UsedBy:
    """What its controller is taken to make of it: the Pods, in which that is to be seen, are judged in any case."""
    members = re.findall(r"[A-Za-z]+", where)
    return next((each for each in UsedBy if each.value in members), UsedBy.CONTAINERS)
