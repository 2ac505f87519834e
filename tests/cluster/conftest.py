"""A test that fails while it breaks nodes breaks no other test of the same cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.nodes import NodeCluster


@pytest.fixture(autouse=True)
def nodes_are_up(request: pytest.FixtureRequest) -> None:
    """A node that was left broken is booted before the next test."""
    if "node_cluster" in request.fixturenames:
        cluster: NodeCluster = request.getfixturevalue("node_cluster")
        cluster.repair()
