"""Label selectors of namespaces, as Kubernetes has them (`metav1.LabelSelector`).

Whoever can update a Namespace can change its labels, except for `kubernetes.io/metadata.name`. The users of a namespace
cannot: the ClusterRoles `admin` and `edit` do not allow changes of Namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

# The API server sets this label, and nobody can change it.
NAME_LABEL: Final = "kubernetes.io/metadata.name"


class Operator(Enum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """What a selector requires of one label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def met(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels fulfil it; `NotIn` is fulfilled if the label is missing."""
        value = labels.get(self.key)
        if self.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
            return (value is not None) is (self.operator is Operator.EXISTS)
        return (value in self.values) is (self.operator is Operator.IN)

    def __str__(self) -> str:
        values = f" {', '.join(self.values)}" if self.values else ""
        return f"{self.key} {self.operator.value}{values}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Selects the namespaces that fulfil all requirements; without any, all namespaces."""

    requirements: tuple[LabelRequirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str] | None) -> bool | None:
        """Whether it selects a namespace; None if that depends on labels that are not known.

        Args:
            name: of the namespace; "" if it is not known.
            labels: None if they are not known.
        """
        if not name:
            return all(each.met({}) for each in self.requirements)
        with_name = {**(labels or {}), NAME_LABEL: name}
        known = [each for each in self.requirements if labels is not None or each.key == NAME_LABEL]
        if not all(each.met(with_name) for each in known):
            return False
        return True if len(known) == len(self.requirements) else None

    def __str__(self) -> str:
        return "; ".join(map(str, self.requirements))


class Labels(Protocol):
    """The labels of namespaces."""

    def of(self, namespace: str) -> Mapping[str, str] | None:
        """The labels of a namespace; None if they are not known."""


class KnownLabels:
    """Labels that never change."""

    def __init__(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        self._labels = labels

    def of(self, namespace: str) -> Mapping[str, str] | None:
        return self._labels.get(namespace)


NO_LABELS: Final = KnownLabels({})
EVERY: Final = Selector()
