"""Failed logins, which all replicas count together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.access.ports import LoginFailures
from trow.metadata import sql
from trow.sql import columns

if TYPE_CHECKING:
    from trow.sql.transaction import Transaction


def failed_logins(source: str, user: str) -> Transaction[LoginFailures | None]:
    rows = yield sql.FAILED_LOGINS, (source, user)
    if not rows:
        return None
    since, failures, last_at = rows[0]
    return LoginFailures(columns.number(since), columns.integer(failures), columns.number(last_at))


def add_failed_login(source: str, user: str, at: float, window: float) -> Transaction[None]:
    """Locks nothing: one statement counts."""
    yield sql.ADD_FAILED_LOGIN, (source, user, at, at, at - window, at - window)


def forget_failed_logins(source: str, user: str) -> Transaction[None]:
    """Locks nothing: what is counted at the same time is a guess of later."""
    yield sql.FORGET_FAILED_LOGINS, (source, user)


def drop_failed_logins(before: float, most: int) -> Transaction[None]:
    """Locks nothing: nobody asks for what is past, and rows that come meanwhile are counted the next time."""
    yield sql.DROP_FAILED_LOGINS, (before,)
    yield sql.DROP_SURPLUS_FAILED_LOGINS, (most,)
