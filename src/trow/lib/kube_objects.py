"""Members of Kubernetes objects, read from values that may have any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a Pod has is one; whoever sends an object may write any number.
_MOST_OWNERS: Final = 100


class Owner(NamedTuple):
    """An object that manages another one, as ``metadata.ownerReferences`` has it."""

    api_version: str
    kind: str
    name: str
    uid: str


def mapping(value: object) -> Mapping[str, object]:
    """The value, if it is an object of JSON; otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: object) -> list[object]:
    """The value, if it is a list; otherwise an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """The value, if it is a text; otherwise ""."""
    return value if isinstance(value, str) else ""


def objects_in(item: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    """The objects in a member that is a list of them."""
    return [mapping(each) for each in listing(item.get(key))]


def metadata(item: Mapping[str, object]) -> Mapping[str, object]:
    """The metadata of an object."""
    return mapping(item.get("metadata"))


def object_name(item: Mapping[str, object]) -> str:
    """The name of an object; "" where it has none."""
    return text(metadata(item).get("name"))


def object_namespace(item: Mapping[str, object]) -> str:
    """Its namespace; "" where it has none."""
    return text(metadata(item).get("namespace"))


def condition_of(status: Mapping[str, object], kind: str) -> Mapping[str, object]:
    """The condition of this type in a status; empty where there is none."""
    return next((each for each in objects_in(status, "conditions") if each.get("type") == kind), {})


def labels(item: Mapping[str, object]) -> Mapping[str, str]:
    """The labels of an object."""
    found = mapping(metadata(item).get("labels"))
    return {key: value for key, value in found.items() if isinstance(value, str)}


def generation(item: Mapping[str, object]) -> int | None:
    """The number of the specification, which the API server counts up with each change."""
    found = metadata(item).get("generation")
    return found if isinstance(found, int) else None


def controller_of(metadata: Mapping[str, object]) -> Owner | None:
    """The one owner that manages an object, such as the ReplicaSet of a Pod.

    Args:
        metadata: of the object.
    """
    for each in listing(metadata.get("ownerReferences"))[:_MOST_OWNERS]:
        owner = mapping(each)
        if owner.get("controller") is True:
            found = Owner(*(text(owner.get(key)) for key in ("apiVersion", "kind", "name", "uid")))
            if all(found):
                return found
    return None
