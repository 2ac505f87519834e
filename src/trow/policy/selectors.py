"""Namespaces by their labels, as Kubernetes selects them (`metav1.LabelSelector`).

Whoever may update a Namespace may change its labels, but for `kubernetes.io/metadata.name`, which the API server keeps.
The owners of what is in a namespace are not among them: the roles `admin` and `edit` do not reach Namespaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

# The API server sets it, and nobody can change it.
NAME_LABEL: Final = "kubernetes.io/metadata.name"


class Operator(Enum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """What a label has to be."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def met(self, labels: Mapping[str, str]) -> bool:
        """Whether it is so; a label that is not there is not among any values."""
        value = labels.get(self.key)
        if self.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST):
            return (value is not None) is (self.operator is Operator.EXISTS)
        return (value in self.values) is (self.operator is Operator.IN)

    def __str__(self) -> str:
        values = f" {', '.join(self.values)}" if self.values else ""
        return f"{self.key} {self.operator.value}{values}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Namespaces that are like this in every label; without any requirement, all of them."""

    requirements: tuple[LabelRequirement, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str] | None) -> bool | None:
        """Whether a namespace is one of those meant; None if its labels, which are not known, decide it.

        Args:
            name: of the namespace; "" where it is not known which it is.
            labels: None where they are not known.
        """
        if not name:
            return all(each.met({}) for each in self.requirements)
        named = {**(labels or {}), NAME_LABEL: name}
        told = [each for each in self.requirements if labels is not None or each.key == NAME_LABEL]
        if not all(each.met(named) for each in told):
            return False
        return True if len(told) == len(self.requirements) else None

    def __str__(self) -> str:
        return "; ".join(map(str, self.requirements))


class Labels(Protocol):
    """The labels of namespaces."""

    def of(self, namespace: str) -> Mapping[str, str] | None:
        """Its labels; None where they are not known."""


class KnownLabels:
    """Labels that stay the same."""

    def __init__(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        self._labels = labels

    def of(self, namespace: str) -> Mapping[str, str] | None:
        return self._labels.get(namespace)


NO_LABELS: Final = KnownLabels({})
EVERY: Final = Selector()
