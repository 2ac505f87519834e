"""A client of the registry that a file of tests starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.client import WireClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Trow


@pytest.fixture
def client(trow: Trow) -> Iterator[WireClient]:
    """Of whatever `trow` is there."""
    with WireClient(trow.host) as client:
        yield client
