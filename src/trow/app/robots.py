"""Robot tokens from the command line, beside a server that may be running."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from trow.lib.datadir import DATABASE, DataDirectoryError, require_registry
from trow.lib.errors import StartError
from trow.metadata.store import SCHEMA
from trow.metadata.transactions import robots
from trow.sql.engine import DatabaseError
from trow.sql.sqlite import run_beside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.ports import RobotToken
    from trow.config import Config
    from trow.sql.transaction import Factory

Result = TypeVar("Result")


def add_robot_token(config: Config, token: RobotToken) -> None:
    """Keep a new token.

    Raises:
        StartError: the database cannot be used; the message says what to do.
    """
    run(config, partial(robots.add_robot_token, token))


def robot_tokens(config: Config) -> Sequence[RobotToken]:
    """All tokens, oldest first. Raises like `add_robot_token`."""
    return run(config, robots.robot_tokens)


def revoke_robot_token(config: Config, token: str, at: float, by: str) -> bool:
    """Let a token be good no more; False when there was none to revoke. Raises like `add_robot_token`."""
    return run(config, partial(robots.revoke_robot_token, token, at, by))


def run(config: Config, make: Factory[Result]) -> Result:
    """Run one transaction beside the server. Raises like `add_robot_token`."""
    try:
        require_registry(config.data_dir)
        return run_beside(config.data_dir / DATABASE, SCHEMA, make)
    except DataDirectoryError as error:
        raise StartError(str(error)) from None
    except (OSError, DatabaseError) as error:
        raise StartError(f"cannot use {config.data_dir}: {error}; give the server's --data-dir") from error
