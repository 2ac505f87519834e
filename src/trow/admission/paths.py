"""Where images are in kinds that others have defined: ``spec.template.spec``, ``spec.steps[*].image``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Self

from trow.policy.pods import MOST_IMAGES, ImageUse, UnreadableObject, images_of_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.policy.pods import Json

_STEP: Final = re.compile(r"([A-Za-z0-9_-]+)((?:\[\*\])?)")
_MOST_STEPS: Final = 32
# What makes an object one that names images; a path to anything else would find none, and let everything through.
_MEMBERS: Final = frozenset({"image", "containers", "initContainers", "ephemeralContainers"})


class Path(tuple[tuple[str, bool], ...]):
    """Members of objects, each with whether it is a list of which every entry is meant."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a path as an operator wrote it.

        Raises:
            ValueError: it is none.
        """
        steps = [_STEP.fullmatch(part) for part in text.removeprefix("$").removeprefix(".").split(".")]
        if len(steps) > _MOST_STEPS or None in steps:
            raise ValueError(f"{text!r} is no path; write members with dots, and [*] for every entry of a list")
        return cls((step[1], bool(step[2])) for step in steps if step)


def images_at(item: Json, path: Path) -> tuple[ImageUse, ...]:
    """The images at a path: a text is one, an object is a specification of Pods or a container, which has an `image`.

    Raises:
        UnreadableObject: what is there is something else.
    """
    found: list[ImageUse] = []
    for where, value in _values(item, path, ""):
        found += _read(where, value)
        if len(found) > MOST_IMAGES:
            raise UnreadableObject(f"{where} and others name more than {MOST_IMAGES} images")
    return tuple(found)


def _values(value: object, path: tuple[tuple[str, bool], ...], where: str) -> Iterator[tuple[str, object]]:
    if not path:
        yield where, value
        return
    (name, every), *rest = path
    if not isinstance(value, dict):
        raise UnreadableObject(f"{where or 'the object'} is not an object")
    found = value.get(name)
    at = f"{where}.{name}" if where else name
    if found is None:
        return
    if not every:
        yield from _values(found, tuple(rest), at)
        return
    if not isinstance(found, list):
        raise UnreadableObject(f"{at} is not a list")
    for number, entry in enumerate(found):
        yield from _values(entry, tuple(rest), f"{at}[{number}]")


def _read(where: str, value: object) -> tuple[ImageUse, ...]:
    if isinstance(value, str):
        return (ImageUse(where, where, value),)
    if isinstance(value, dict) and (not value or not _MEMBERS.isdisjoint(value)):
        # Read as a container, a specification has no image, and the other way round: nothing is left out.
        return (*images_of_spec(value, where), *_of_container(value, where))
    raise UnreadableObject(f"{where} is no image, container or specification of Pods; correct admission.extra_kinds")


def _of_container(value: Json, where: str) -> tuple[ImageUse, ...]:
    image, policy = value.get("image"), value.get("imagePullPolicy") or ""
    if image is None:
        return ()
    if not isinstance(image, str) or not isinstance(policy, str):
        raise UnreadableObject(f"{where}.image or its imagePullPolicy is not a text")
    return (ImageUse(f"{where}.image", where, image, policy),)
