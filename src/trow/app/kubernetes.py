"""The API server, reached as the settings say."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trow.config.schema import Kubernetes
    from trow.controllers.nodes import NodeReader
    from trow.http.metrics import Metrics
    from trow.kube.client import KubeClient


@contextlib.asynccontextmanager
async def client_of(
    settings: Kubernetes, observe: Callable[[str, float], None] | None = None
) -> AsyncIterator[KubeClient]:
    """A client, closed in the end.

    Raises:
        AccessError: a file of the settings cannot be used.
    """
    # The client takes as much memory as all else: it is loaded where it is used.
    from trow.kube.access import ClusterAccess  # noqa: PLC0415
    from trow.kube.client import KubeClient  # noqa: PLC0415
    from trow.kube.kubeconfig import cluster_access_of  # noqa: PLC0415

    if settings.kubeconfig is not None:
        access = cluster_access_of([settings.kubeconfig])
    elif settings.api_server is not None:
        access = ClusterAccess(settings.api_server, settings.ca_file, settings.token_file or "")
    else:
        access = ClusterAccess.in_pod(os.environ)
    client = KubeClient(access, total_seconds=settings.timeout, observe=observe)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def node_reader_of(settings: Kubernetes, metrics: Metrics) -> AsyncIterator[NodeReader | None]:
    """What reads which nodes can pull; None where no namespace of node agents is set. Raises AccessError."""
    if settings.node_agents is None:
        yield None
        return
    from trow.controllers.nodes import NodeReader  # noqa: PLC0415
    from trow.kube.objects import Objects  # noqa: PLC0415

    async with client_of(settings, metrics.kubernetes) as client:
        yield NodeReader(Objects(client), settings.node_agents)
