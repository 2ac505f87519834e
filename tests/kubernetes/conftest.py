"""The tests of each file run in one worker, also those that start a control plane of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.kubernetes import group_of
from support.policies import install_crds

if TYPE_CHECKING:
    from support.cluster import Cluster


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(group_of(item))


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """The control plane knows the kinds of policy.trow.io. Nothing guards exceptions: `exceptions.yaml` is left out."""
    install_crds(cluster)
