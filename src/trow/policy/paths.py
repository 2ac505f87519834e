"""Where custom resources name images: paths such as ``spec.template.spec`` and ``spec.steps[*][*].image``."""

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
# An object that names images has one of these; a path to another object would find no image, and check nothing.
_IMAGE_FIELDS: Final = frozenset({"image", "reference", "containers", "initContainers", "ephemeralContainers"})


class Path(tuple[str, ...]):
    """A path into an object: for each step a field, `MEMBERS` or `ENTRIES`."""

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
    """Where a value names images: all paths of a kind in one tree, so that an object is walked once.

    A shape may contain itself, as a template may contain templates.

    Attributes:
        ends: whether a path ends here.
        steps: the shapes of the values inside, by field, `MEMBERS` or `ENTRIES`.
    """

    __slots__ = ("ends", "steps")

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self.ends = False
        self.steps: dict[str, Shape] = {}
        for path in paths:
            self.at(path).ends = True

    def at(self, path: Iterable[str]) -> Shape:
        """The shape of the value at a path."""
        found = self
        for step in path:
            found = found.steps.setdefault(step, Shape())
        return found

    def nest(self, text: str, inner: Shape) -> Shape:
        """Set the shape of the value at a path; returns this shape."""
        *before, last = Path.parse(text)
        self.at(before).steps[last] = inner
        return self

    def images_in(self, item: Json, *, strict: bool) -> tuple[ImageUse, ...]:
        """The images in an object.

        At the end of a path, a text is an image, and an object is a container, an image volume or a PodSpec, or several
        of these in one.

        Args:
            item: any.
            strict: whether an object at the end of a path has to name an image. Operators complete some containers, so
                these may have none.

        Raises:
            UnreadableObject: the value at the end of a path is something else.
        """
        found: list[ImageUse] = []
        for number, (where, value) in enumerate(_values(item, self, "")):
            found += _images_at(where, value, strict=strict)
            if number >= MOST_ENTRIES:
                raise UnreadableObject(f"{where} and others are more than {MOST_ENTRIES} places for images")
            if len(found) > MOST_IMAGES:
                raise UnreadableObject(f"{where} and others name more than {MOST_IMAGES} images")
        return tuple(found)


def _values(value: object, shape: Shape, where: str) -> Iterator[tuple[str, object]]:
    if shape.ends:
        yield where, value
    for step, inner in shape.steps.items():
        for at, each in _step_into(value, step, where):
            yield from _values(each, inner, at)


def _step_into(value: object, step: str, where: str) -> Iterator[tuple[str, object]]:
    """The paths and values to which a step leads."""
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


def _images_at(where: str, value: object, *, strict: bool) -> Iterator[ImageUse]:
    if isinstance(value, str) and (value or strict):
        yield ImageUse(where, where, value, used_by=_used_by(where))
    elif isinstance(value, dict) and (not strict or not value or not _IMAGE_FIELDS.isdisjoint(value)):
        # A PodSpec has no field of a container, and a container none of a PodSpec, so both are read.
        uses = (*images_of_spec(value, where), *_container_images(value, where))
        yield from (use for use in uses if use.text or strict)
    elif value or strict:
        raise UnreadableObject(
            f"{where} is not an image, a container or a specification of Pods; see admission.extra_kinds"
        )


def _container_images(value: Json, where: str) -> Iterator[ImageUse]:
    for key, of_policy in (("image", "imagePullPolicy"), ("reference", "pullPolicy")):
        text, policy = value.get(key), value.get(of_policy) or ""
        if text is None:
            continue
        if not isinstance(text, str) or not isinstance(policy, str):
            raise UnreadableObject(f"{where}.{key} or its {of_policy} is not a text")
        used_by = UsedBy.VOLUMES if key == "reference" else _used_by(where)
        yield ImageUse(f"{where}.{key}", where, text, policy, used_by)


def _used_by(where: str) -> UsedBy:
    """A guess from the names of the fields: the Pods, in which it is known, are evaluated in any case."""
    members = re.findall(r"[A-Za-z]+", where)
    return next((each for each in UsedBy if each.value in members), UsedBy.CONTAINERS)
