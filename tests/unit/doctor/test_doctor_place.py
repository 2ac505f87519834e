"""Which Trow of a cluster the doctor looks at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from trow.doctor.findings import NotCheckedError
from trow.doctor.place import Options, Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Cluster(Place):
    """One in which each of some namespaces has a Pod that says it is Trow."""

    def __init__(self, home: Path, namespaces: Sequence[str], namespace: str = "") -> None:
        super().__init__(Options(environment={}, home=home, namespace=namespace))
        self._namespaces = namespaces

    async def pods(self) -> Sequence[dict[str, Any]]:
        labels = {"app.kubernetes.io/name": "trow"}
        return [
            {"metadata": {"namespace": each, "labels": labels}, "spec": {"containers": [{"name": "trow"}]}}
            for each in self._namespaces
        ]


@pytest.mark.parametrize(
    ("namespaces", "given", "found"),
    [
        (["registry"], "", ["registry"]),
        (["a-tenant", "trow"], "", ["trow"]),
        (["a-tenant", "registry"], "registry", ["registry"]),
        ([], "", []),
    ],
)
def test_a_pod_of_a_tenant_is_not_taken_for_trow(
    tmp_path: Path, namespaces: list[str], given: str, found: list[str]
) -> None:
    """The names of registries beside it would stand in the commands that people copy, such as `docker login`."""
    pods = asyncio.run(Cluster(tmp_path, namespaces, given).trows())
    assert [pod["metadata"]["namespace"] for pod in pods] == found  # type: ignore[index]


def test_of_two_strange_ones_none_is_believed(tmp_path: Path) -> None:
    with pytest.raises(NotCheckedError, match="Pods in a-tenant, registry say that they are Trow; give --namespace"):
        asyncio.run(Cluster(tmp_path, ["registry", "a-tenant"]).trows())
