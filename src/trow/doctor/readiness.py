"""Which node of a cluster can pull, asked with the rights of a kubeconfig file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.controllers.nodes import NodeReader, NodeReadiness
from trow.kube.command import ask_cluster

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["NodeReadiness", "nodes_of_cluster"]


def nodes_of_cluster(kubeconfig: Path | None, context: str, namespace: str) -> Sequence[NodeReadiness]:
    """Every node of a cluster; ``namespace`` is that of the node agents, "" looks in all. See `ask_cluster`."""
    return ask_cluster(kubeconfig, context, lambda objects: NodeReader(objects, namespace).read())
