"""Three live registries for each worker, and a home of its own for each test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from clients.box import Box
from clients.registry import ALICE, Registry
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """HTTP, open to everybody."""
    with Trow.start(tmp_path_factory.mktemp("plain")) as trow:
        yield Registry(trow)


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """TLS with an authority of its own, open to everybody."""
    with Trow.start(tmp_path_factory.mktemp("secure"), tls=True) as trow:
        yield Registry(trow)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """TLS with an authority of its own, and a password."""
    user = (ALICE.name, ALICE.password)
    with Trow.start(tmp_path_factory.mktemp("private"), tls=True, user=user) as trow:
        yield Registry(trow, ALICE)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "auth.json").write_text("{}", encoding="utf-8")
    return Box(tmp_path)


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses, so that tests can share a registry."""
    words = re.findall(r"[a-z0-9]+", f"{request.path.stem} {request.node.name}".lower())
    return f"clients/{'-'.join(words)}"
