"""Which node can pull: for the HTTP API with the rights of Trow, for a command with those of a kubeconfig file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trow.app.kubernetes import client_of
from trow.controllers.nodes import NodeReader, NodeReadiness
from trow.lib.errors import StartError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.config import Config
    from trow.http.metrics import Metrics

__all__ = ["NodeReadiness", "node_reader_of", "nodes_of_cluster"]


@contextlib.asynccontextmanager
async def node_reader_of(config: Config, metrics: Metrics) -> AsyncIterator[NodeReader | None]:
    """What reads the cluster's nodes; None where no namespace of node agents is set.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    if config.kubernetes.node_agents is None:
        yield None
        return
    from trow.kube.objects import Objects  # noqa: PLC0415 - the client takes as much memory as all else

    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        yield NodeReader(Objects(client), config.kubernetes.node_agents)


def nodes_of_cluster(kubeconfig: Path | None, context: str, namespace: str) -> Sequence[NodeReadiness]:
    """Every node of a cluster.

    Args:
        kubeconfig: the file; None takes those that kubectl would.
        context: its name there; "" is the current one.
        namespace: of the node agents; "" looks in all.

    Raises:
        StartError: the cluster cannot be asked.
    """
    # The client takes as much memory as all else: it is loaded where it is used.
    from trow.kube.access import AccessError  # noqa: PLC0415
    from trow.kube.client import KubeClient  # noqa: PLC0415
    from trow.kube.kubeconfig import cluster_access_of, kubeconfig_files  # noqa: PLC0415
    from trow.kube.objects import Objects  # noqa: PLC0415
    from trow.oci.errors import Unavailable  # noqa: PLC0415

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
