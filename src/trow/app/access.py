"""What `trow access can-i` asks: would this be allowed, and why."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from trow.app.identity import authorizer_of, issuers_of, passwords_of, reviews_of, users_of
from trow.app.stores import offline_metadata
from trow.identity.impersonation import Impersonated, KnownIdentities
from trow.lib.datadir import DATABASE
from trow.lib.errors import StartError
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Identity
    from trow.access.permissions import Permission
    from trow.access.ports import RobotToken
    from trow.access.rules import Decision
    from trow.config import Config
    from trow.oci.names import Repository


def can_i(config: Config, who: Impersonated, permission: Permission, repository: Repository) -> Decision:
    """Decide as the server would.

    Raises:
        StartError: it cannot be decided; the message says what to do.
    """

    def robot_tokens() -> Sequence[RobotToken]:
        with offline_metadata(config) as metadata:
            return metadata.robot_tokens()

    try:
        known = KnownIdentities(
            lambda: passwords_of(config, users_of(config)), lambda: issuers_of(config).values(), robot_tokens
        )
        return asyncio.run(_decide(config, known.identity_of(who, time.time()), permission, repository))
    except (OciError, ValueError) as error:
        raise StartError(str(error)) from error


async def _decide(config: Config, identity: Identity, permission: Permission, repository: Repository) -> Decision:
    async def exists(name: Repository) -> bool:
        if not (config.data_dir / DATABASE).exists():
            return False
        with offline_metadata(config) as metadata:
            return metadata.has_repository(name)

    async with reviews_of(config.kubernetes) as reviews:
        return await authorizer_of(config, exists, reviews).decide(identity, permission, repository)
