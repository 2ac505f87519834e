"""What commands do to the database beside a server, which may be running or not."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from trow.lib.datadir import DATABASE, DataDirectoryError, is_of_a_server, require_registry, was_used
from trow.lib.errors import DamagedError, DatabaseError, StartError
from trow.metadata.store import SCHEMA
from trow.metadata.transactions import repositories, robots
from trow.sql.connections import is_empty
from trow.sql.sqlite import run_offline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trow.access.ports import RobotToken
    from trow.oci.names import Repository
    from trow.sql.transaction import Factory


class OfflineMetadata:
    """Each method is a transaction of its own, and concerns only what no server keeps in memory.

    Each raises DatabaseError, OSError, Unavailable: nothing was read or changed.

    Args:
        run: runs a transaction, and returns what it returns.
    """

    def __init__(self, run: Callable[[Factory[Any]], Any]) -> None:
        self._run = run

    def add_robot_token(self, token: RobotToken) -> None:
        """Keep a new token."""
        self._run(partial(robots.add_robot_token, token))

    def robot_tokens(self) -> Sequence[RobotToken]:
        """All tokens, oldest first."""
        tokens: Sequence[RobotToken] = self._run(robots.robot_tokens)
        return tokens

    def revoke_robot_token(self, token: str, at: float, by: str) -> bool:
        """Revoke a token; False when there was none to revoke."""
        return bool(self._run(partial(robots.revoke_robot_token, token, at, by)))

    def has_repository(self, name: Repository) -> bool:
        """Whether the repository has a manifest."""
        return self._run(partial(repositories.repository, name)) is not None


@contextlib.contextmanager
def offline_metadata(directory: Path) -> Iterator[OfflineMetadata]:
    """The metadata of a data directory, for a command beside a server that may be running.

    Raises:
        StartError: the database cannot be used; the message says what to do.
    """
    require_registry(directory)
    try:
        yield OfflineMetadata(lambda make: run_offline(directory / DATABASE, SCHEMA, make))
    except (OSError, DatabaseError) as error:
        raise StartError(f"cannot use {directory}: {error}; give the server's --data-dir") from error


def check_database(directory: Path, *, new: bool) -> None:
    """See whether the database is there that belongs to what else is in the directory.

    A start never takes the remains of a registry for an empty one.

    Args:
        directory: the data directory, held.
        new: whether an empty database is wanted in place of one that is lost.

    Raises:
        DataDirectoryError: it is lost or damaged; the message says what to do.
    """
    path = directory / DATABASE
    if is_of_a_server(directory):
        raise DataDirectoryError(
            f"the metadata of {directory} is in PostgreSQL; set metadata: postgres, or give another --data-dir"
        )
    try:
        lost = is_empty(path, SCHEMA)
    except DamagedError as error:
        raise DataDirectoryError(damaged(path, error)) from None
    if lost and not new and was_used(directory):
        what = "holds nothing" if path.exists() else "is missing"
        raise DataDirectoryError(
            f"{path} {what}, although a registry was here: put the database back from a backup, or begin with an empty "
            f"one (trow serve --new-database); docs/how-to/recover.md has both"
        )


def damaged(path: Path, error: DamagedError) -> str:
    """What to do about a database that cannot be read."""
    return (
        f"{path} is damaged ({error}): trow fsck says what is lost, and docs/how-to/recover.md how to get the rest back"
    )
