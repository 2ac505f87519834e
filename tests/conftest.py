"""What pytest does for every test of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.summary import pytest_terminal_summary
from support.fast import leave_out, pytest_addoption, pytest_configure
from support.ids import pytest_make_parametrize_id
from support.kubernetes import cluster, kubeconfig, namespace, node_cluster
from support.loop import pytest_pyfunc_call
from support.order import longest_first
from support.own import own_image

if TYPE_CHECKING:
    import pytest

__all__ = [
    "cluster",
    "kubeconfig",
    "namespace",
    "node_cluster",
    "own_image",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_make_parametrize_id",
    "pytest_pyfunc_call",
    "pytest_terminal_summary",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    longest_first(items)
    if config.getoption("--fast"):
        leave_out(config, items)
