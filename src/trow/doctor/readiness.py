"""Which node of a cluster can pull, asked with the rights of a kubeconfig file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trow.controllers.nodes import NodeReader, NodeReadiness
from trow.kube.access import AccessError
from trow.kube.client import KubeClient
from trow.kube.kubeconfig import cluster_access_of, kubeconfig_files
from trow.kube.objects import Objects
from trow.lib.errors import StartError
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NodeReadiness", "nodes_of_cluster"]


def nodes_of_cluster(kubeconfig: Path | None, context: str, namespace: str) -> Sequence[NodeReadiness]:
    """Every node of a cluster.

    Args:
        kubeconfig: the file; None takes those that kubectl would.
        context: its name there; "" is the current one.
        namespace: of the node agents; "" looks in all.

    Raises:
        StartError: the cluster cannot be asked.
    """

    async def read() -> Sequence[NodeReadiness]:
        client = KubeClient(cluster_access_of(files, context, run_plugins=True))
        try:
            return await NodeReader(Objects(client), namespace).read()
        finally:
            await client.close()

    files = [kubeconfig] if kubeconfig is not None else kubeconfig_files(os.environ, Path.home())
    try:
        return asyncio.run(read())
    except (AccessError, Unavailable) as error:
        raise StartError(f"the cluster cannot be asked: {error}") from None
