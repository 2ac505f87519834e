"""Robot tokens, the credentials of programs: ``trow_ID_SECRET``. Only a hash of the secret is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from typing import TYPE_CHECKING, Final

from trow.access.identity import Identity, Method
from trow.access.permissions import Permission
from trow.access.ports import RobotToken
from trow.identity.credentials import Stale
from trow.lib.times import rfc3339
from trow.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.access.identity import Grant
    from trow.access.ports import RobotTokens

PREFIX: Final = "trow_"
ID: Final = re.compile(r"[a-z2-7]{12}")
_TEXT: Final = re.compile(r"trow_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_MOST_GRANTS: Final = 100
# Grants travel in registry tokens, and those in a header.
_LONGEST_GLOBS: Final = 2048
_GLOBAL: Final = frozenset({Permission.ADMIN, Permission.AUDIT})
# What a token that does not exist is compared with: no secret has this hash, as far as anybody knows.
_NOBODY: Final = "0" * 64


def new_token(
    name: str, grants: Sequence[Grant], expires_at: float | None, created_by: str, now: float
) -> tuple[str, RobotToken]:
    """Create a token: the text that its holder gets once, and what is stored.

    Raises:
        ValueError: such a token would allow nothing, or too much.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a token's name has up to 64 lower-case letters, digits, and '.', '_', '-' between them")
    if expires_at is not None and expires_at <= now:
        raise ValueError("the token would expire before it is created; give a later time")
    _check_grants(grants)
    id = base64.b32encode(secrets.token_bytes(8)).decode()[:12].lower()  # noqa: A001 - as the port calls it
    secret = secrets.token_urlsafe(32)
    token = RobotToken(id, name, _hash(secret), tuple(grants), now, created_by, expires_at)
    return f"{PREFIX}{id}_{secret}", token


class RobotVerifier:
    """Verifies robot tokens against the stored ones, each time again: a revoked token stops working at once."""

    def __init__(self, tokens: RobotTokens, clock: Callable[[], float] = time.time) -> None:
        self._tokens = tokens
        self._clock = clock

    async def verify(self, token: str) -> Identity:
        text = _TEXT.fullmatch(token)
        if text is None:
            raise Unauthorized("the robot token is malformed; send all of it, from trow_ on")
        stored = await self._tokens.robot_token(text[1])
        expected = _NOBODY if stored is None else stored.secret_hash
        if not hmac.compare_digest(_hash(text[2]).encode(), expected.encode()) or stored is None:
            raise Unauthorized("the robot token is not known here; make one with `trow token create` for this registry")
        # Only those who have the secret learn this.
        if stored.revoked_at is not None:
            raise Stale(f"the robot token {stored.id} was revoked; ask for another one")
        if stored.expires_at is not None and self._clock() >= stored.expires_at:
            when = rfc3339(stored.expires_at)
            raise Stale(f"the robot token {stored.id} expired at {when}; make another with `trow token create`")
        return Identity(f"robot:{stored.name}", Method.ROBOT, stored.id, credential=stored.id, grants=stored.grants)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_grants(grants: Sequence[Grant]) -> None:
    if not any(grant.permissions for grant in grants):
        raise ValueError("the token would allow nothing; give it repositories and actions")
    if len(grants) > _MOST_GRANTS or sum(len(grant.repositories) for grant in grants) > _LONGEST_GLOBS:
        raise ValueError(
            f"the token would name more than {_MOST_GRANTS} repositories, or {_LONGEST_GLOBS} characters of them;"
            " use * or **, or several tokens"
        )
    for grant in grants:
        if grant.permissions & _GLOBAL and grant.repositories != "**":
            raise ValueError("admin and audit concern all repositories: grant them on '**' alone")
