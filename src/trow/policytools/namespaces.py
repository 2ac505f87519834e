"""The labels of namespaces whose Namespace objects are among the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

from trow.lib.kube_objects import labels, metadata, text

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND: Final = "Namespace"


def is_namespace(item: object) -> TypeGuard[dict[str, object]]:
    """Whether an object is a Namespace."""
    return isinstance(item, dict) and item.get("kind") == KIND and item.get("apiVersion") == "v1"


class NamespaceLabels:
    """Implements `trow.policy.selectors.Labels`."""

    def __init__(self) -> None:
        self._labels: dict[str, Mapping[str, str]] = {}

    def learn(self, item: object) -> None:
        """Remember the labels, if it is a Namespace."""
        if is_namespace(item) and (name := text(metadata(item).get("name"))):
            self._labels[name] = labels(item)

    def of(self, namespace: str) -> Mapping[str, str] | None:
        """The labels of a namespace; None if its object is not among the files."""
        return self._labels.get(namespace)
