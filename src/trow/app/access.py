"""What `trow access can-i` asks: would this be allowed, and why."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from trow.app.identity import guard_of, reviews_of
from trow.app.robots import DATABASE, robot_tokens, run
from trow.errors import StartError
from trow.metadata import transactions
from trow.oci.errors import OciError
from trow.policy.identity import Method

if TYPE_CHECKING:
    from trow.config import Config
    from trow.oci.names import Repository
    from trow.policy.access import Decision, Permission
    from trow.policy.identity import Identity


def can_i(config: Config, identity: Identity, permission: Permission, repository: Repository) -> Decision:
    """Decide as the server would.

    Raises:
        StartError: it cannot be decided; the message says what to do.
    """
    try:
        return asyncio.run(_decide(config, _with_grants(config, identity), permission, repository))
    except (OciError, ValueError) as error:
        raise StartError(str(error)) from error


def _with_grants(config: Config, identity: Identity) -> Identity:
    """A robot's rights are those of its tokens that are good."""
    if identity.method is not Method.ROBOT:
        return identity
    named = [token for token in robot_tokens(config) if f"robot:{token.name}" == identity.name]
    now = time.time()
    good = [token for token in named if token.revoked_at is None and (token.expires_at or math.inf) > now]
    if not good:
        raise StartError(f"there is no good token of {identity.name}; `trow token list` shows which there are")
    grants = tuple(grant for token in good for grant in token.grants)
    return replace(identity, credential=", ".join(token.id for token in good), grants=grants)


async def _decide(config: Config, identity: Identity, permission: Permission, repository: Repository) -> Decision:
    async def exists(name: Repository) -> bool:
        return (config.data_dir / DATABASE).exists() and run(config, transactions.repository(name)) is not None

    async with reviews_of(config.kubernetes) as reviews:
        return await guard_of(config, exists, reviews).decide(identity, permission, repository)
