"""Whether an object of a cluster runs anything now, and how many Pods it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.kube_objects import listing, mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENDED: Final = frozenset({"Succeeded", "Failed", "Error"})
# Conditions of Jobs and of kinds like Jobs.
_FINISHED: Final = frozenset({"Complete", "Failed"})


def runs(item: Mapping[str, object]) -> bool:
    """Whether it runs, or its controller makes something run: it is not scaled to zero, suspended or finished."""
    spec, status = mapping(item.get("spec")), mapping(item.get("status"))
    if spec.get("replicas") == 0 or spec.get("suspend") is True:
        return False
    if status.get("phase") in _ENDED or status.get("completionTime") or status.get("finishedAt"):
        return False
    conditions = [each for each in listing(status.get("conditions")) if isinstance(each, dict)]
    return not any(each.get("type") in _FINISHED and each.get("status") == "True" for each in conditions)


def pods_of(item: Mapping[str, object]) -> int:
    """The number of Pods that it makes at once; one if it does not say."""
    spec, status = mapping(item.get("spec")), mapping(item.get("status"))
    numbers = (spec.get("replicas"), status.get("desiredNumberScheduled"), spec.get("parallelism"))
    return next((number for number in numbers if isinstance(number, int) and number > 0), 1)
