"""Who somebody would be to the server, for questions about what they may do."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from trow.access.identity import ANONYMOUS, Identity, Method
from trow.identity.service_accounts import account
from trow.lib.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from trow.access.ports import RobotToken
    from trow.identity.oidc import TrustedIssuer
    from trow.identity.users import Passwords

_SYSTEM: Final = "system:"
_ROBOT: Final = "robot:"
_CERTIFICATE: Final = "certificate:"


@dataclass(frozen=True, slots=True)
class Impersonated:
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


@dataclass(frozen=True, slots=True)
class KnownIdentities:
    """What the server knows identities from; each is read when it is needed.

    Attributes:
        passwords: None where nobody logs in with one.
    """

    passwords: Callable[[], Passwords | None]
    issuers: Callable[[], Collection[TrustedIssuer]]
    robot_tokens: Callable[[], Sequence[RobotToken]]

    def identity_of(self, who: Impersonated, now: float) -> Identity:
        """Who that is, made by the code that the server makes identities with; ``now`` is in seconds since 1970.

        Raises:
            StartError, ValueError, Unauthorized: the server knows nobody of this name.
        """
        if not who.name:
            return ANONYMOUS
        found = self._find(who, now)
        return replace(found, groups=tuple(dict.fromkeys((*found.groups, *who.groups))))

    def _find(self, who: Impersonated, now: float) -> Identity:
        if who.name.startswith(_SYSTEM):
            return account(who.name)
        if who.name.startswith(_ROBOT):
            return self._robot(who.name, now)
        if who.name.startswith(_CERTIFICATE):
            return Identity(who.name, Method.CERTIFICATE)
        issuer = self._issuer(who)
        if issuer is not None:
            claims: dict[str, object] = {
                name: values[0] if len(values) == 1 else list(values) for name, values in who.claims.items()
            }
            claims[issuer.settings.username_claim] = who.name.removeprefix(issuer.settings.user_prefix)
            return issuer.identity_of(claims)
        passwords = self.passwords()
        found = None if passwords is None else passwords.find(who.name)
        # Users who do not exist yet: rules can be tried before.
        return found or Identity(who.name, Method.PASSWORD)

    def _issuer(self, who: Impersonated) -> TrustedIssuer | None:
        if not who.issuer:
            return next((each for each in self.issuers() if who.name.startswith(each.settings.user_prefix)), None)
        found = next((each for each in self.issuers() if each.settings.name == who.issuer), None)
        if found is None:
            raise StartError(f"auth.oidc has no issuer {who.issuer!r}; name one of its entries, or add it")
        if not who.name.startswith(found.settings.user_prefix):
            raise StartError(
                f"the names of issuer {who.issuer} begin with {found.settings.user_prefix!r}; write it before the name"
            )
        return found

    def _robot(self, name: str, now: float) -> Identity:
        """A robot's rights are those of its valid tokens."""
        valid = [
            token
            for token in self.robot_tokens()
            if f"{_ROBOT}{token.name}" == name and token.revoked_at is None and (token.expires_at or math.inf) > now
        ]
        if not valid:
            raise StartError(f"there is no valid token of {name}; see `trow token list` for those that there are")
        grants = tuple(grant for token in valid for grant in token.grants)
        return Identity(name, Method.ROBOT, credential=", ".join(token.id for token in valid), grants=grants)
