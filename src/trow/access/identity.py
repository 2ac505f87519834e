"""Who sends a request, as far as rules and records care."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.permissions import Permission
    from trow.lib.globs import RepositoryGlob
    from trow.oci.names import Repository

Extra: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

# Keys under which the API server tells where a bound ServiceAccount token lives (KEP-4193, stable since 1.32).
_POD: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_NODE: Final = "authentication.kubernetes.io/node-name"
_NODE_UID: Final = "authentication.kubernetes.io/node-uid"
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"


class Method(Enum):
    """How somebody was authenticated."""

    NONE = "none"
    PASSWORD = "password"  # noqa: S105 - a word, not a secret
    ROBOT = "robot"
    OIDC = "oidc"
    CERTIFICATE = "certificate"
    KUBERNETES = "kubernetes"
    # Not at all, here: an AdmissionReview says it, and whoever reaches the webhooks may send one.
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Workload:
    """Where in the cluster a credential lives; "" is unknown."""

    namespace: str = ""
    service_account: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    node_uid: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """Permissions on the repositories that a glob covers."""

    repositories: RepositoryGlob
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class Delegation:
    """What a token of our own carries: some of its holder's rights, for minutes.

    Attributes:
        id: the token's ``jti``.
        issued_at: seconds since 1970.
        grants: permissions by repository.
        lists: names of lists that concern no one repository (``catalog``, ``audit``).
        generation: the number of the repository that was made last when the token was. It is for none that is younger:
            a repository may have had a namesake before. No clock could say that for sure.
    """

    id: str
    issued_at: float
    grants: tuple[tuple[Repository, frozenset[Permission]], ...] = ()
    lists: frozenset[str] = frozenset()
    generation: int = 0

    def covers(self, permission: Permission, repository: Repository) -> bool:
        """Whether the token carries the permission for this very repository."""
        for name, granted in self.grants:  # noqa: SIM110 - asked for every request, and twice as fast
            if name == repository and permission in granted:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request.

    Attributes:
        name: unique over all methods: a robot is ``robot:NAME``, an OIDC subject has its issuer's prefix, a
            ServiceAccount is ``system:serviceaccount:NAMESPACE:NAME``, a certificate ``certificate:NAME``; "" is
            anonymous.
        method: how that was shown.
        uid: an identifier that is never used again, where the method knows one.
        groups: what rules may name instead of the name.
        extra: further facts by key, sorted: claims of an OIDC token, ``extra`` of a TokenReview.
        credential: an identifier of the credential (never the credential itself).
        grants: what the credential may do by itself; None leaves it to the rules.
        delegation: set when the request came with a token of our own; it limits what may be done.
    """

    name: str
    method: Method = Method.NONE
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Extra = ()
    credential: str = ""
    grants: tuple[Grant, ...] | None = None
    delegation: Delegation | None = None

    def __hash__(self) -> int:
        """Cheap, because identities are looked up for every request."""
        return hash((self.name, self.credential))

    @property
    def anonymous(self) -> bool:
        """Whether no credentials were shown."""
        return not self.name

    def values(self, key: str) -> Sequence[str]:
        """The values of an extra key."""
        return next((values for name, values in self.extra if name == key), ())

    def undelegated(self) -> Self:
        """The holder itself, without the limits of a token."""
        return self if self.delegation is None else replace(self, delegation=None)

    @property
    def workload(self) -> Workload | None:
        """The workload behind a ServiceAccount's token; None for everybody else."""
        if not self.name.startswith(_SERVICE_ACCOUNT):
            return None
        namespace, _, account = self.name.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return Workload(
            namespace, account, self._one(_POD), self._one(_POD_UID), self._one(_NODE), self._one(_NODE_UID)
        )

    def _one(self, key: str) -> str:
        return next(iter(self.values(key)), "")


ANONYMOUS: Final = Identity("")
