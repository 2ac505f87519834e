"""Who is who and who may do what, as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.app.kubernetes import client_of
from trow.app.stores import offline_metadata
from trow.config import read_password
from trow.identity import keys
from trow.identity.authenticator import AuthenticatorChain, Verifiers
from trow.identity.authorizer import AuthorizerChain
from trow.identity.impersonation import Impersonated, KnownIdentities
from trow.identity.rbac import RbacAuthorizer, RepositoryMap
from trow.identity.robots import RobotVerifier
from trow.identity.service_accounts import ServiceAccountTokens
from trow.identity.throttle import SharedThrottle
from trow.identity.tokens import RegistryTokens
from trow.identity.users import AnyPasswords, SingleUser, UsersFile
from trow.lib.background import every, in_background
from trow.lib.datadir import DATABASE
from trow.lib.errors import StartError
from trow.lib.file_watch import keep_fresh
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from trow.access.identity import Identity
    from trow.access.permissions import Permission
    from trow.access.ports import RobotToken
    from trow.access.rules import Decision
    from trow.app.stores import Stores
    from trow.config import Config, Kubernetes
    from trow.identity.oidc import TrustedIssuer
    from trow.identity.users import Passwords
    from trow.kube.reviews import Reviews
    from trow.lib.background import Loop
    from trow.oci.names import Repository


_HOUSEKEEPING_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Identities:
    """Who is who, who may do what, and tokens. ``authenticator`` is None where nobody has to log in."""

    authenticator: AuthenticatorChain | None
    authorizer: AuthorizerChain
    tokens: RegistryTokens


@contextlib.asynccontextmanager
async def identities_of(
    config: Config, stores: Stores, observe: Callable[[str, float], None]
) -> AsyncIterator[Identities]:
    """Build it all; files of users and keys are read again when they change.

    Raises:
        ValueError: a file or a setting cannot be used; the message says what to do.
    """
    async with reviews_of(config.kubernetes, observe) as reviews:
        signing_keys, users = keys.load_or_create(config.keys_folder), users_of(config)
        tokens = RegistryTokens(signing_keys, config.tokens.service, config.tokens.lifetime)
        authenticator, shared = None, SharedThrottle(stores.shared) if stores.shared is not None else None
        if config.authenticated:
            audiences = config.kubernetes.audiences
            authenticator = AuthenticatorChain(
                Verifiers(
                    tokens=tokens,
                    robots=RobotVerifier(stores.robots),
                    passwords=passwords_of(config, users),
                    issuers=issuers_of(config),
                    kubernetes=ServiceAccountTokens(reviews, audiences) if reviews and audiences else None,
                ),
                shared=shared,
            )

        async def exists(repository: Repository) -> bool:
            return await stores.metadata.repository(repository) is not None

        looks = [signing_keys.look, *([users.look] if users is not None else [])]
        loops: list[Loop] = [lambda: keep_fresh(*looks)]
        if shared is not None:
            loops.append(every(_HOUSEKEEPING_SECONDS, shared.drop_old))
        async with in_background(*loops):
            yield Identities(authenticator, authorizer_of(config, exists, reviews), tokens)


def try_identities(config: Config) -> None:
    """See whether the files of `identities_of` can be used; nothing is made. Raises like that."""
    keys.try_to_load(config.keys_folder)
    passwords_of(config, users_of(config))
    issuers_of(config)


@contextlib.asynccontextmanager
async def reviews_of(
    kubernetes: Kubernetes, observe: Callable[[str, float], None] | None = None
) -> AsyncIterator[Reviews | None]:
    """The API server, None where the settings do not ask it anything."""
    if not kubernetes.audiences and not kubernetes.authorization:
        yield None
        return
    from trow.kube.reviews import Reviews  # noqa: PLC0415 - see trow.app.kubernetes

    async with client_of(kubernetes, observe) as client:
        yield Reviews(client)


def users_of(config: Config) -> UsersFile | None:
    """The users of the file; None without one."""
    return UsersFile(config.auth.users_file) if config.auth.users_file is not None else None


def passwords_of(config: Config, users: UsersFile | None) -> Passwords | None:
    """Who logs in with a password; None where nobody does."""
    sources: list[Passwords] = []
    password = read_password(config)
    if config.auth.user is not None and password is not None:
        sources.append(SingleUser(config.auth.user, password))
    if users is not None:
        sources.append(users)
    return AnyPasswords(*sources) if sources else None


def issuers_of(config: Config) -> dict[str, TrustedIssuer]:
    """The issuers whose tokens are believed, by their ``iss``."""
    if not config.auth.oidc:
        return {}
    from trow.identity.oidc import IssuerSettings, TrustedIssuer, conflict_between  # noqa: PLC0415 - see trow.app.kubernetes

    settings = [
        IssuerSettings(**{name: getattr(each, name) for name in each.__struct_fields__}) for each in config.auth.oidc
    ]
    if wrong := conflict_between(settings):
        raise ValueError(wrong)
    return {each.issuer: TrustedIssuer(each) for each in settings}


def authorizer_of(
    config: Config, exists: Callable[[Repository], Awaitable[bool]], reviews: Reviews | None
) -> AuthorizerChain:
    """Who may do what by these settings; ``exists`` tells whether a repository is there already."""
    kubernetes, rbac = config.kubernetes, None
    if reviews is not None and kubernetes.authorization:
        repositories = RepositoryMap(
            namespaces=kubernetes.namespaces,
            default_namespace=kubernetes.default_namespace or "",
            proxied=kubernetes.proxied_prefixes,
            shared=kubernetes.shared_prefixes,
        )
        rbac = RbacAuthorizer(reviews, repositories, exists, anonymous=kubernetes.anonymous)
    return AuthorizerChain(
        config.rules, anonymous=config.auth.anonymous or "none", external=rbac, open_to_all=config.open_to_all
    )


def can_i(config: Config, who: Impersonated, permission: Permission, repository: Repository) -> Decision:
    """Decide as the server would.

    Raises:
        StartError: it cannot be decided; the message says what to do.
    """

    def robot_tokens() -> Sequence[RobotToken]:
        with offline_metadata(config) as metadata:
            return metadata.robot_tokens()

    def has_repository(name: Repository) -> bool:
        if config.metadata == "sqlite" and not (config.data_dir / DATABASE).exists():
            return False
        with offline_metadata(config) as metadata:
            return metadata.has_repository(name)

    async def exists(name: Repository) -> bool:
        return await asyncio.to_thread(has_repository, name)

    async def decide(identity: Identity) -> Decision:
        async with reviews_of(config.kubernetes) as reviews:
            return await authorizer_of(config, exists, reviews).decide(identity, permission, repository)

    known = KnownIdentities(
        lambda: passwords_of(config, users_of(config)), lambda: issuers_of(config).values(), robot_tokens
    )
    try:
        return asyncio.run(decide(known.identity_of(who, time.time())))
    except (OciError, ValueError) as error:
        raise StartError(str(error)) from error
