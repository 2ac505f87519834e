"""Tokens of programs, and what commands beside the server have done."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from trow.access.identity import Grant
from trow.access.permissions import Permission
from trow.access.ports import RobotToken
from trow.lib.globs import RepositoryGlob
from trow.metadata import sql
from trow.registry.ports import PendingEvent
from trow.sql import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.sql.transaction import Row, Transaction


def add_robot_token(token: RobotToken) -> Transaction[None]:
    """Keep a new token. Locks nothing: its identifier is new."""
    grants = msgspec.json.encode(
        [_StoredGrant(g.repositories, sorted(p.value for p in g.permissions)) for g in token.grants], enc_hook=str
    )
    yield (
        sql.ADD_ROBOT,
        (
            token.id,
            token.name,
            token.secret_hash,
            grants.decode(),
            token.created_at,
            token.created_by,
            token.expires_at,
            token.revoked_at,
        ),
    )
    grants_said = "; ".join(
        f"{','.join(sorted(p.value for p in grant.permissions))} on {grant.repositories}" for grant in token.grants
    )
    yield from _note(token.created_at, token.created_by, f"robot token {token.id} ({token.name}) made: {grants_said}")


def robot_token(token: str) -> Transaction[RobotToken | None]:
    rows = yield sql.ROBOT, (token,)
    return _robot_token(rows[0]) if rows else None


def robot_tokens() -> Transaction[Sequence[RobotToken]]:
    """All tokens, oldest first."""
    rows = yield sql.ROBOTS, ()
    return [_robot_token(row) for row in rows]


def revoke_robot_token(token: str, at: float, by: str) -> Transaction[bool]:
    """Revoke a token; False when there is none, or it was revoked before. Locks nothing: one statement decides."""
    revoked = yield sql.REVOKE_ROBOT, (at, token)
    if revoked:
        yield from _note(at, by, f"robot token {token} revoked")
    return bool(revoked)


def _note(at: float, actor: str, detail: str) -> Transaction[None]:
    yield sql.ADD_PENDING_EVENT, (secrets.token_hex(16), at, actor, detail)


def pending_events() -> Transaction[Sequence[PendingEvent]]:
    """What waits for the audit trail, oldest first."""
    rows = yield sql.PENDING_EVENTS, ()
    return [
        PendingEvent(columns.text(row[0]), columns.number(row[1]), columns.text(row[2]), columns.text(row[3]))
        for row in rows
    ]


def drop_pending_events(events: Sequence[PendingEvent]) -> Transaction[None]:
    """Locks nothing: an event that is gone already does no harm."""
    for event in events:
        yield sql.DROP_PENDING_EVENT, (event.id,)


class _StoredGrant(msgspec.Struct):
    repositories: str
    permissions: list[str]


_GRANTS: Final = msgspec.json.Decoder(list[_StoredGrant])


def _robot_token(row: Row) -> RobotToken:
    token, name, secret_hash, grants, created_at, created_by, expires_at, revoked_at = row
    stored = _GRANTS.decode(columns.text(grants))
    return RobotToken(
        columns.text(token),
        columns.text(name),
        columns.text(secret_hash),
        tuple(Grant(RepositoryGlob(g.repositories), frozenset(map(Permission, g.permissions))) for g in stored),
        columns.number(created_at),
        columns.text(created_by),
        columns.optional_number(expires_at),
        columns.optional_number(revoked_at),
    )
