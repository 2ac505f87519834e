"""A cluster that a command asks something, with the rights of a kubeconfig file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from trow.kube.access import AccessError
from trow.kube.client import KubeClient
from trow.kube.errors import KubeRefused
from trow.kube.kubeconfig import access_of_command
from trow.kube.objects import Objects
from trow.lib.errors import StartError
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_Answer = TypeVar("_Answer")


def ask_cluster(kubeconfig: Path | None, context: str, question: Callable[[Objects], Awaitable[_Answer]]) -> _Answer:
    """What a cluster answers.

    Args:
        kubeconfig: the file; None takes those that kubectl would.
        context: its name there; "" is the current one.
        question: what to ask.

    Raises:
        StartError: the cluster cannot be asked.
    """

    async def asked() -> _Answer:
        client = KubeClient(access)
        try:
            return await question(Objects(client))
        finally:
            await client.close()

    try:
        access = access_of_command(kubeconfig, context)
        return asyncio.run(asked())
    except (AccessError, KubeRefused, Unavailable) as error:
        raise StartError(f"the cluster cannot be asked: {error}") from None
