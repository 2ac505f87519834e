"""The metadata of the embedded default, as the composition root opens it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.uploads import LocalUploads
from trow.sql.sqlite import SqliteEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class EmbeddedMetadata(SqlMetadata):
    """Metadata in a file."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        observe: Callable[[float], None] = lambda _: None,
        history: int = 10,
    ) -> None:
        self.engine = SqliteEngine(path, SCHEMA, observe)
        super().__init__(self.engine, ManifestCache(), history, clock)
        self.uploads = LocalUploads(self.engine)

    def close(self) -> None:
        self.engine.close()
