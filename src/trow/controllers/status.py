"""The status that Trow writes to objects: conditions, as the API conventions define them.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.lib.kube_objects import generation, listing, mapping, metadata
from trow.lib.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.kube.objects import Manifest

LONGEST_CONDITION_MESSAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about an object; ``reason`` is a word for programs, ``message`` a sentence for people."""

    type: str
    holds: bool
    reason: str
    message: str


def status_update(item: Manifest, conditions: Sequence[Condition], now: float, **further: object) -> Manifest | None:
    """The object with the status it should have, as `Objects.apply_status` takes it; None where it has that already.

    Args:
        item: the object as it is.
        conditions: what is to be said of it.
        now: seconds of Unix time; a condition that holds as before keeps the time since when it does.
        further: other members of the status; none that the definition of the kind does not have.
    """
    found, present = metadata(item), mapping(item.get("status"))
    before = {each.get("type"): each for each in map(mapping, listing(present.get("conditions")))}
    wanted: dict[str, object] = {
        "conditions": [_condition(each, before.get(each.type, {}), generation(item), now) for each in conditions],
        **further,
    }
    if all(present.get(key) == value for key, value in wanted.items()):
        return None
    names = {key: found[key] for key in ("name", "namespace") if key in found}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": names, "status": wanted}


def _condition(wanted: Condition, before: Mapping[str, object], observed: int | None, now: float) -> Manifest:
    status = "True" if wanted.holds else "False"
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {
        "type": wanted.type,
        "status": status,
        "reason": wanted.reason,
        "message": wanted.message[:LONGEST_CONDITION_MESSAGE],
        "lastTransitionTime": since or rfc3339(now),
        "observedGeneration": observed,
    }
