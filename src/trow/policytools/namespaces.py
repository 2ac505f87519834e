"""The labels of namespaces that are among the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "Namespace"


def is_namespace(item: object) -> TypeGuard[dict[str, object]]:
    """Whether an object is a Namespace."""
    return isinstance(item, dict) and item.get("kind") == KIND and item.get("apiVersion") == "v1"


class NamespaceLabels:
    """See `trow.policy.selectors.Labels`."""

    def __init__(self) -> None:
        self._labels: dict[str, Mapping[str, str]] = {}

    def learn(self, item: object) -> None:
        """Remember the labels, if it is a Namespace."""
        metadata = item.get("metadata") if is_namespace(item) else None
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if isinstance(metadata, dict) and isinstance(name, str):
            labels = metadata.get("labels")
            found = labels.items() if isinstance(labels, dict) else ()
            self._labels[name] = {key: value for key, value in found if isinstance(value, str)}

    def of(self, namespace: str) -> Mapping[str, str] | None:
        """Its labels; None where no file has the Namespace."""
        return self._labels.get(namespace)
