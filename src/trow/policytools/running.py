"""Whether an object of a cluster runs anything now, and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.kube_objects import listing, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDED: Final = frozenset({"Succeeded", "Failed", "Error"})
# Of Jobs, and of what has `status.completionTime` otherwise.
_OVER: Final = frozenset({"Complete", "Failed"})


def runs(item: Mapping[str, object]) -> bool:
    """Whether it runs, or makes something run: not what is scaled to nothing, suspended, finished or only kept."""
    spec, status = mapping(item.get("spec")), mapping(item.get("status"))
    if spec.get("replicas") == 0 or spec.get("suspend") is True:
        return False
    if status.get("phase") in _ENDED or status.get("completionTime") or status.get("finishedAt"):
        return False
    conditions = [each for each in listing(status.get("conditions")) if isinstance(each, dict)]
    return not any(each.get("type") in _OVER and each.get("status") == "True" for each in conditions)


def pods_of(item: Mapping[str, object]) -> int:
    """How many Pods it makes at once, as it says; one where it does not."""
    spec, status = mapping(item.get("spec")), mapping(item.get("status"))
    said = (spec.get("replicas"), status.get("desiredNumberScheduled"), spec.get("parallelism"))
    return next((number for number in said if isinstance(number, int) and number > 0), 1)
