"""What tests of image policies need of the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.policies import install_crds

if TYPE_CHECKING:
    from support.cluster import Cluster


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> None:
    """The control plane knows the kinds of policy.trow.io. Nothing guards exceptions: `exceptions.yaml` is left out."""
    install_crds(cluster)
