"""What commands do to the database beside a server, which may be running or not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trow.metadata.store import SCHEMA
from trow.metadata.transactions import repositories, robots
from trow.sql.sqlite import run_offline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trow.access.ports import RobotToken
    from trow.oci.names import Repository


class OfflineMetadata:
    """Each method is a transaction of its own, and concerns only what no server keeps in memory.

    Each raises DatabaseError, OSError: nothing was read or changed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add_robot_token(self, token: RobotToken) -> None:
        """Keep a new token."""
        run_offline(self._path, SCHEMA, partial(robots.add_robot_token, token))

    def robot_tokens(self) -> Sequence[RobotToken]:
        """All tokens, oldest first."""
        return run_offline(self._path, SCHEMA, robots.robot_tokens)

    def revoke_robot_token(self, token: str, at: float, by: str) -> bool:
        """Revoke a token; False when there was none to revoke."""
        return run_offline(self._path, SCHEMA, partial(robots.revoke_robot_token, token, at, by))

    def has_repository(self, name: Repository) -> bool:
        """Whether the repository has a manifest."""
        return run_offline(self._path, SCHEMA, partial(repositories.repository, name)) is not None
