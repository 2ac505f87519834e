"""All tests of this folder run in the worker that has the control plane, also those that start another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.kubernetes import GROUP


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group(GROUP))
