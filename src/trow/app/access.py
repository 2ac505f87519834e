"""What `trow access can-i` asks: would this be allowed, and why."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from trow.access.identity import ANONYMOUS, Identity, Method
from trow.app.identity import guard_of, issuers_of, passwords_of, reviews_of, users_of
from trow.app.stores import offline_metadata
from trow.identity.service_accounts import account
from trow.lib.datadir import DATABASE
from trow.lib.errors import StartError
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.access.permissions import Permission
    from trow.access.rules import Decision
    from trow.config import Config
    from trow.identity.oidc import OidcIssuer
    from trow.oci.names import Repository

_SYSTEM: Final = "system:"
_ROBOT: Final = "robot:"
_CERTIFICATE: Final = "certificate:"


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody as a command line describes them.

    Attributes:
        name: as rules and records have it; "" is nobody.
        groups: beside those that the server knows.
        issuer: the OIDC issuer; "" finds it by the name's prefix.
        claims: what its token says beside the name.
    """

    name: str = ""
    groups: tuple[str, ...] = ()
    issuer: str = ""
    claims: Mapping[str, Sequence[str]] = field(default_factory=dict)


def can_i(config: Config, who: Who, permission: Permission, repository: Repository) -> Decision:
    """Decide as the server would.

    Raises:
        StartError: it cannot be decided; the message says what to do.
    """
    try:
        return asyncio.run(_decide(config, identity_of(config, who), permission, repository))
    except (OciError, ValueError) as error:
        raise StartError(str(error)) from error


def identity_of(config: Config, who: Who) -> Identity:
    """Who that is to the server, made by the code that the server makes identities with.

    Raises:
        StartError, ValueError, Unauthorized: the server lets in nobody of this name.
    """
    if not who.name:
        return ANONYMOUS
    found = _known(config, who)
    return replace(found, groups=tuple(dict.fromkeys((*found.groups, *who.groups))))


def _known(config: Config, who: Who) -> Identity:
    if who.name.startswith(_SYSTEM):
        return account(who.name)
    if who.name.startswith(_ROBOT):
        return _robot(config, who.name)
    if who.name.startswith(_CERTIFICATE):
        return Identity(who.name, Method.CERTIFICATE)
    issuer = _issuer(config, who)
    if issuer is not None:
        return _subject(issuer, who)
    passwords = passwords_of(config, users_of(config))
    found = None if passwords is None else passwords.find(who.name)
    # Somebody who is still to be made: the rules can be tried before.
    return found or Identity(who.name, Method.PASSWORD)


def _issuer(config: Config, who: Who) -> OidcIssuer | None:
    issuers = issuers_of(config).values()
    if not who.issuer:
        return next((each for each in issuers if who.name.startswith(each.settings.user_prefix)), None)
    found = next((each for each in issuers if each.settings.name == who.issuer), None)
    if found is None:
        raise StartError(f"auth.oidc has no issuer {who.issuer!r}; name one of its entries, or add it")
    if not who.name.startswith(found.settings.user_prefix):
        raise StartError(
            f"the names of issuer {who.issuer} begin with {found.settings.user_prefix!r}; write it before the name"
        )
    return found


def _subject(issuer: OidcIssuer, who: Who) -> Identity:
    claims: dict[str, object] = {
        name: values[0] if len(values) == 1 else list(values) for name, values in who.claims.items()
    }
    claims[issuer.settings.username_claim] = who.name.removeprefix(issuer.settings.user_prefix)
    return issuer.identity_of(claims)


def _robot(config: Config, name: str) -> Identity:
    """A robot's rights are those of its tokens that are good."""
    with offline_metadata(config) as metadata:
        named = [token for token in metadata.robot_tokens() if f"{_ROBOT}{token.name}" == name]
    now = time.time()
    good = [token for token in named if token.revoked_at is None and (token.expires_at or math.inf) > now]
    if not good:
        raise StartError(f"there is no good token of {name}; `trow token list` shows which there are")
    grants = tuple(grant for token in good for grant in token.grants)
    return Identity(name, Method.ROBOT, credential=", ".join(token.id for token in good), grants=grants)


async def _decide(config: Config, identity: Identity, permission: Permission, repository: Repository) -> Decision:
    async def exists(name: Repository) -> bool:
        if not (config.data_dir / DATABASE).exists():
            return False
        with offline_metadata(config) as metadata:
            return metadata.has_repository(name)

    async with reviews_of(config.kubernetes) as reviews:
        return await guard_of(config, exists, reviews).decide(identity, permission, repository)
