"""Servers of PostgreSQL, and replicas of a registry on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.postgres import PostgresServer
from support.replicas import Replicas
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["newest"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """The newest PostgreSQL, or the oldest that Trow knows (`indirect` with "oldest")."""
    programs = Path(tool("pg_ctl")).parent if request.param == "oldest" else None
    with PostgresServer.start(programs) as started:
        yield started


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.whole_database() as made:
        yield made


@pytest.fixture
def replicas(url: str, tmp_path: Path) -> Iterator[Replicas]:
    """Two of them, open to everybody."""
    with Replicas.start(tmp_path, url) as started:
        yield started
