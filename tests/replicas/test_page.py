"""The page about PostgreSQL is followed, with a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import ROOT
from support.reader import Reader, steps

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import PostgresServer

pytestmark = pytest.mark.slow

PAGE: Final = ROOT / "docs" / "how-to" / "run-on-postgresql.md"


@pytest.mark.parametrize("server", ["oldest"], indirect=True)  # of which psql is for both
def test_page_can_be_followed(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    replaced = {
        "postgresql://postgres@postgres.example.com:5432": f"postgresql://trow@127.0.0.1:{server.port}",
        "postgres.example.com:5432": f"127.0.0.1:{server.port}",
    }
    with Reader(tmp_path, "crane", "pg_ctl", replaced=replaced) as reader:
        for block, shown in steps(PAGE):
            reader.follow(block, shown)
        assert (tmp_path / "registry.dump").stat().st_size > 0
        assert any(line.startswith("trow_") for _, said, _ in reader.heard for line in said.splitlines())
