"""What pytest does for every test of the project."""

from __future__ import annotations

from conformance.summary import pytest_terminal_summary
from support.ids import pytest_make_parametrize_id
from support.kubernetes import cluster, kubeconfig, namespace, pytest_collection_modifyitems
from support.loop import pytest_pyfunc_call

__all__ = [
    "cluster",
    "kubeconfig",
    "namespace",
    "pytest_collection_modifyitems",
    "pytest_make_parametrize_id",
    "pytest_pyfunc_call",
    "pytest_terminal_summary",
]
