"""Who is who and who may do what, as the settings say."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.access.permissions import EVERYTHING, Permission, expand
from trow.access.rules import Rule, Subjects
from trow.app.kubernetes import client_of
from trow.config import read_password
from trow.identity import keys
from trow.identity.authenticator import AuthenticatorChain, Verifiers
from trow.identity.authorizer import AuthorizerChain
from trow.identity.rbac import RbacAuthorizer, RepositoryMap
from trow.identity.robots import RobotVerifier
from trow.identity.service_accounts import ServiceAccountTokens
from trow.identity.tokens import RegistryTokens
from trow.identity.users import AnyPasswords, SingleUser, UsersFile
from trow.lib.background import in_background
from trow.lib.file_watch import keep_fresh
from trow.lib.globs import RepositoryGlob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from trow.access.ports import RobotTokens
    from trow.config import AccessRule, Config, Kubernetes
    from trow.config import OidcIssuer as OidcSettings
    from trow.identity.oidc import IssuerSettings, OidcIssuer
    from trow.identity.users import Passwords
    from trow.kube.reviews import Reviews
    from trow.oci.names import Repository
    from trow.registry.ports import Metadata


@dataclass(frozen=True, slots=True)
class Identities:
    """Who is who, who may do what, and tokens. ``authenticator`` is None where nobody has to log in."""

    authenticator: AuthenticatorChain | None
    authorizer: AuthorizerChain
    tokens: RegistryTokens


def keys_folder(config: Config) -> Path:
    """Where the keys of tokens are."""
    return config.tokens.keys or config.data_dir / "keys"


@contextlib.asynccontextmanager
async def identities_of(
    config: Config, metadata: Metadata, robots: RobotTokens, observe: Callable[[str, float], None]
) -> AsyncIterator[Identities]:
    """Build it all; files of users and keys are read again when they change.

    Raises:
        ValueError: a file or a setting cannot be used; the message says what to do.
    """
    async with reviews_of(config.kubernetes, observe) as reviews:
        signing_keys, users = keys.load_or_create(keys_folder(config)), users_of(config)
        tokens = RegistryTokens(signing_keys, config.tokens.service, config.tokens.lifetime)
        authenticator = None
        if config.authenticated:
            authenticator = AuthenticatorChain(
                Verifiers(
                    tokens=tokens,
                    robots=RobotVerifier(robots),
                    passwords=passwords_of(config, users),
                    issuers=issuers_of(config),
                    kubernetes=_service_accounts(config.kubernetes, reviews),
                )
            )

        async def exists(repository: Repository) -> bool:
            return await metadata.repository(repository) is not None

        looks = [signing_keys.look, *([users.look] if users is not None else [])]
        async with in_background(lambda: keep_fresh(*looks)):
            yield Identities(authenticator, authorizer_of(config, exists, reviews), tokens)


def try_identities(config: Config) -> None:
    """See whether the files of `identities_of` can be used; nothing is made. Raises like that."""
    keys.try_to_load(keys_folder(config))
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


def issuers_of(config: Config) -> dict[str, OidcIssuer]:
    """The issuers whose tokens are believed, by their ``iss``."""
    if not config.auth.oidc:
        return {}
    from trow.identity.oidc import OidcIssuer, conflict_between  # noqa: PLC0415 - like the API server's client

    settings = [_issuer_settings(each) for each in config.auth.oidc]
    if wrong := conflict_between(settings):
        raise ValueError(wrong)
    return {each.url: OidcIssuer(each) for each in settings}


def _issuer_settings(issuer: OidcSettings) -> IssuerSettings:
    from trow.identity.oidc import IssuerSettings  # noqa: PLC0415 - see above

    return IssuerSettings(
        name=issuer.name,
        url=issuer.issuer,
        audiences=issuer.audiences,
        algorithms=issuer.algorithms,
        username_claim=issuer.username_claim,
        username_prefix=issuer.username_prefix,
        groups_claim=issuer.groups_claim or "",
        groups_prefix=issuer.groups_prefix,
        required=issuer.required_claims,
        jwks_uri=issuer.jwks_uri or "",
        ca_file=issuer.ca_file,
    )


def _service_accounts(kubernetes: Kubernetes, reviews: Reviews | None) -> ServiceAccountTokens | None:
    if reviews is None or not kubernetes.audiences:
        return None
    return ServiceAccountTokens(reviews, kubernetes.audiences)


def authorizer_of(
    config: Config, exists: Callable[[Repository], Awaitable[bool]], reviews: Reviews | None
) -> AuthorizerChain:
    """Who may do what by these settings; ``exists`` tells whether a repository is there already."""
    return AuthorizerChain(
        list(rules_of(config)),
        anonymous=config.auth.anonymous or "none",
        external=_rbac(config.kubernetes, exists, reviews),
        open_to_all=config.open_to_all,
    )


def _rbac(
    kubernetes: Kubernetes, exists: Callable[[Repository], Awaitable[bool]], reviews: Reviews | None
) -> RbacAuthorizer | None:
    if reviews is None or not kubernetes.authorization:
        return None
    repositories = RepositoryMap(
        namespaces=kubernetes.namespaces,
        default_namespace=kubernetes.default_namespace or "",
        proxied=kubernetes.proxied_prefixes,
        shared=kubernetes.shared_prefixes,
    )
    return RbacAuthorizer(reviews, repositories, exists, anonymous=kubernetes.anonymous)


def rules_of(config: Config) -> Iterator[Rule]:
    """The rules of the configuration; the one user who needs none comes first."""
    if config.auth.user is not None:
        everything = (RepositoryGlob("**"),)
        yield Rule("auth.user", Subjects(users=frozenset({config.auth.user})), everything, EVERYTHING)
    for number, rule in enumerate(config.access.rules):
        name = f"access.rules[{number}]" + (f" ({rule.name})" if rule.name else "")
        yield Rule(name, _subjects(rule), rule.repositories, expand([Permission(action) for action in rule.actions]))


def _subjects(rule: AccessRule) -> Subjects:
    return Subjects(
        users=frozenset(rule.users),
        groups=frozenset(rule.groups),
        issuer=rule.issuer,
        claims=tuple(sorted(rule.claims.items())),
        anonymous=rule.anonymous,
    )
