"""The cluster's own rights: Role and RoleBinding decide.

The API server is asked (SubjectAccessReview). Its answers are remembered for less than a minute, so that a pull asks
once, and so that pulls go on for that long when it is down.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

import msgspec

from trow.access.identity import Identity, Method
from trow.access.permissions import Permission
from trow.access.prefixes import EVERYWHERE
from trow.access.rules import Decision
from trow.identity import remedies
from trow.lib.caches import TtlCache
from trow.lib.dns_names import is_label
from trow.lib.shares import Bounds, Shares
from trow.lib.single_flight import SingleFlight
from trow.oci.errors import OciError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence

    from trow.access.identity import Extra
    from trow.access.reviews import SubjectAccessReviewStatus
    from trow.oci.names import Repository

# Questions under way, of all and of one user: the API server answers others too, and names can be made up.
_REVIEWS: Final = Bounds(total=24, each=8, waiting=2048, waiting_each=256, patience=5.0)
_GROUP: Final = "registry.trow.io"
_ALLOWED_SECONDS: Final = 30.0
_DENIED_SECONDS: Final = 5.0
_MOST_REMEMBERED: Final = 10_000
_REVIEWS_AT_ONCE: Final = 16
# Repositories of a list that are looked at in one go, which takes some milliseconds of the event loop.
_AT_ONCE: Final = 100
_LONGEST_REASON: Final = 1024

_Key = TypeVar("_Key", bound="Hashable")


class AccessReviews(Protocol):
    """Finds out who may do what. Raises `Unavailable`."""

    async def access(
        self, user: str, uid: str, groups: Sequence[str], extra: Extra, attributes: Mapping[str, str]
    ) -> SubjectAccessReviewStatus: ...


class RbacResource(NamedTuple):
    """What a repository is to RBAC; ``namespace`` "" is the whole cluster."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class RepositoryMap:
    """Where repositories belong.

    The first component is the namespace and the rest the name: ``team-a/web/api`` is ``web/api`` in ``team-a``. Where
    the namespace comes from elsewhere the name is the whole repository, so that no two repositories share one.

    Attributes:
        namespaces: the namespaces of repositories at and below some prefixes, for layouts that existed before.
        default_namespace: that of repositories of one component; "" denies them.
        proxied: prefixes of copies from elsewhere: cluster-wide ``proxiedrepositories``, named as they are there.
        shared: prefixes that belong to no namespace: cluster-wide ``repositories``, named by the whole repository.

    Raises:
        ValueError: a prefix stands for two things, or a namespace cannot exist.
    """

    namespaces: Mapping[str, str] = field(default_factory=dict)
    default_namespace: str = ""
    proxied: tuple[str, ...] = ("f",)
    shared: tuple[str, ...] = ("shared",)

    def __post_init__(self) -> None:
        """See Raises."""
        prefixes = [*self.namespaces, *self.proxied, *self.shared]
        for prefix in prefixes:
            if prefixes.count(prefix) > 1 or not prefix or prefix.strip("/") != prefix:
                raise ValueError(f"the prefix {prefix!r} stands twice or is none; write components, such as old/team")
        for namespace in filter(None, (*self.namespaces.values(), self.default_namespace)):
            if not is_label(namespace):
                raise ValueError(f"{namespace!r} is not the name of a namespace: write a-z, 0-9 and '-'")

    def locate(self, repository: Repository) -> RbacResource | None:
        """What a repository is to RBAC; None when it belongs to no namespace."""
        whole = str(repository)
        components = whole.split("/")
        # The longest prefix counts, by components: team is not a prefix of team-a/web.
        for length in range(len(components), 0, -1):
            prefix, rest = "/".join(components[:length]), "/".join(components[length:])
            if prefix in self.namespaces:
                return RbacResource("repositories", self.namespaces[prefix], whole)
            if prefix in self.proxied and rest:
                return RbacResource("proxiedrepositories", "", rest)
            if prefix in self.shared:
                return RbacResource("repositories", "", whole)
        if len(components) > 1:
            return RbacResource("repositories", components[0], "/".join(components[1:]))
        return RbacResource("repositories", self.default_namespace, whole) if self.default_namespace else None


class ResourceAttributes(NamedTuple):
    """What is asked about: the API calls it so, too."""

    verb: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        """In the words of a Role."""
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        name = f' "{self.name}"' if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {resource}{name} {where}"

    def as_given(self) -> Mapping[str, str]:
        """As the API server wants it."""
        given = {"group": _GROUP, "version": "v1"} | self._asdict()
        return {key: value for key, value in given.items() if value}


_OF_ALL: Final[Mapping[Permission, ResourceAttributes]] = {
    Permission.AUDIT: ResourceAttributes("get", "registries", "audit"),
    Permission.ADMIN: ResourceAttributes("update", "registries"),
    Permission.LIST: ResourceAttributes("list", "repositories"),
}
_GLOBAL: Final = frozenset({Permission.AUDIT, Permission.ADMIN})


class _Subject(NamedTuple):
    """Somebody in the cluster's words."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: Extra


class _Answer(NamedTuple):
    allowed: bool
    vetoed: bool
    reason: str


_ANONYMOUS: Final = _Subject("system:anonymous", "", ("system:unauthenticated",), ())
_READING: Final = frozenset({Permission.PULL, Permission.LIST})
_VERBS: Final[Mapping[Permission, tuple[str, str]]] = {
    Permission.PULL: ("get", "content"),
    Permission.TAG_OVERWRITE: ("update", "tags"),
    Permission.DELETE: ("delete", "content"),
}


class RbacAuthorizer:
    """Asks the cluster whether somebody may do something to what it calls ``repositories`` of `registry.trow.io`.

    What an identity's own grants and delegation allow is not looked at here.

    Args:
        reviews: whom to ask.
        repositories: where repositories belong.
        exists: whether a repository is there already; making one is another right than writing to it.
        anonymous: whether the cluster is asked for those without credentials at all, and then only to pull and list.
        clock: seconds.
    """

    def __init__(
        self,
        reviews: AccessReviews,
        repositories: RepositoryMap,
        exists: Callable[[Repository], Awaitable[bool]],
        *,
        anonymous: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reviews = reviews
        self._map = repositories
        self._exists = exists
        self._anonymous = anonymous
        self._clock = clock
        # Two caches, so that many denials do not displace what is allowed.
        self._allowed: TtlCache[bytes, _Answer] = TtlCache(_MOST_REMEMBERED)
        self._denied: TtlCache[bytes, _Answer] = TtlCache(_MOST_REMEMBERED)
        self._flights: SingleFlight[_Answer] = SingleFlight()
        self._shares = Shares(_REVIEWS, "questions to the cluster about rights")

    async def decide(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        if permission is Permission.OPEN:
            return Decision(allowed=True, reason="open to everybody")
        subject = self._subject_of(identity)
        if subject is None or (identity.anonymous and permission not in _READING):
            return Decision(
                allowed=False, reason=f"{identity.name or 'who is not logged in'} has no rights in the cluster"
            )
        if permission is Permission.PING:
            return Decision(allowed=True, reason="logged in")
        questions = await self._questions(permission, repository)
        if not questions:
            reason = f"repository {repository!r} belongs to no namespace"
            return Decision(allowed=False, reason=reason, fix="name it NAMESPACE/NAME")
        first, *others = questions
        answer = await self._ask(subject, first)
        for question in others:
            if answer.allowed or answer.vetoed:
                break
            answer = await self._ask(subject, question)
        if answer.allowed:
            return Decision(allowed=True, reason=answer.reason)
        return self._denial(identity, permission, repository, answer.reason)

    async def visible(self, identity: Identity, repositories: Sequence[Repository]) -> Sequence[bool]:
        subject = self._subject_of(identity)
        if subject is None:
            return [False] * len(repositories)
        shown: list[bool] = []
        for start in range(0, len(repositories), _AT_ONCE):
            targets = [self._map.locate(repository) for repository in repositories[start : start + _AT_ONCE]]
            seen = await self._visible(subject, {target for target in targets if target is not None})
            shown += [target in seen for target in targets]
            await asyncio.sleep(0)  # what is remembered waits for nothing, and others have to get their turn
        return shown

    def prefixes(self, identity: Identity) -> Sequence[str]:
        """The cluster can be asked about names only, not for them."""
        return () if self._subject_of(identity) is None else EVERYWHERE

    def _subject_of(self, identity: Identity) -> _Subject | None:
        if identity.anonymous:
            return _ANONYMOUS if self._anonymous else None
        if identity.method is Method.KUBERNETES:
            return _Subject(identity.name, identity.uid, identity.groups, identity.extra)
        # Only the cluster itself says who is system:…; certificates and issuers could claim to be its masters.
        if identity.name.startswith("system:"):
            return None
        groups = tuple(group for group in identity.groups if not group.startswith("system:"))
        return _Subject(identity.name, identity.uid, groups, identity.extra)

    async def _questions(self, permission: Permission, repository: Repository) -> Sequence[ResourceAttributes]:
        """What to ask, until one is allowed."""
        if permission in _GLOBAL or (permission is Permission.LIST and not repository):
            return (_OF_ALL[permission],)
        target = self._map.locate(repository) if repository else None
        if target is None:
            return ()
        if permission in (Permission.PUSH, Permission.ATTACH):
            exists = await self._exists(repository)
            push = _about(target, "update", "content") if exists else _about(target, "create")
            return (push, _about(target, "create", "referrers")) if permission is Permission.ATTACH else (push,)
        return (_plain(target, permission),)

    def _denial(self, identity: Identity, permission: Permission, repository: Repository, why: str) -> Decision:
        """The same for a repository that is there and for one that is not, whatever the cluster was asked."""
        target = self._map.locate(repository) if repository else None
        if target is None or permission in _GLOBAL:
            needed = str(_OF_ALL[permission])
        elif permission in (Permission.PUSH, Permission.ATTACH):
            needed = f"{_about(target, 'update', 'content')}, or {_about(target, 'create')} if it is new"
        else:
            needed = str(_plain(target, permission))
        reason = f"no RoleBinding lets them {needed}, API group {_GROUP}{why and f' ({why})'}"
        command = remedies.binding_command(identity, permission, target.namespace if target is not None else "")
        fix = f"run `{command}`" if command else "bind a ClusterRole that does, with a ClusterRoleBinding"
        return Decision(allowed=False, reason=reason, fix=fix)

    async def _ask(self, subject: _Subject, question: ResourceAttributes) -> _Answer:
        # A hash, because what an identity says of itself may be long.
        asked = (subject.user, subject.uid, sorted(subject.groups), subject.extra, question)
        key = hashlib.sha256(msgspec.msgpack.encode(asked)).digest()
        now = self._clock()
        answer = self._allowed.get(key, now) or self._denied.get(key, now)
        return answer or await self._flights.share(key, lambda: self._review(subject, question, key))

    async def _review(self, subject: _Subject, question: ResourceAttributes, key: bytes) -> _Answer:
        async with self._shares.hold(subject.user):
            status = await self._reviews.access(*subject, question.as_given())
        if status.evaluation_error and not (status.allowed or status.denied):
            # The cluster is not sure, so this is not a denial: the client should try again.
            raise Unavailable(
                f"the Kubernetes API server cannot tell whether {subject.user} may do this; try again later"
            )
        now, reason = self._clock(), status.reason[:_LONGEST_REASON]
        if status.allowed and not status.denied:
            answer = _Answer(allowed=True, vetoed=False, reason=reason or f"allowed to {question}")
            self._allowed.put(key, answer, now, now + _ALLOWED_SECONDS)
        else:
            answer = _Answer(allowed=False, vetoed=status.denied, reason=reason)
            self._denied.put(key, answer, now, now + _DENIED_SECONDS)
        return answer

    async def _visible(self, subject: _Subject, targets: Collection[RbacResource]) -> Collection[RbacResource]:
        """Those that may be listed and pulled, from the widest question to the narrowest."""
        areas = {(target.resource, target.namespace) for target in targets}
        clusters = {area: (area[0], "") for area in areas}
        everywhere = await self._listed(subject, set(clusters.values()))
        everywhere = await self._pullable(subject, everywhere)
        narrow = {area for area in areas if clusters[area] not in everywhere}
        listed = await self._listed(subject, narrow)
        whole = await self._pullable(subject, listed)
        single = {target for target in targets if target[:2] in listed - whole}
        named = await self._granted(subject, {target: _about(target, "get", "content") for target in single})
        wide = (areas - narrow) | whole
        return named | {target for target in targets if target[:2] in wide}

    async def _listed(self, subject: _Subject, areas: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        questions = {area: ResourceAttributes("list", area[0], namespace=area[1]) for area in areas}
        return await self._granted(subject, questions)

    async def _pullable(self, subject: _Subject, areas: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        return await self._granted(
            subject, {area: ResourceAttributes("get", area[0], "content", area[1]) for area in areas}
        )

    async def _granted(self, subject: _Subject, questions: Mapping[_Key, ResourceAttributes]) -> set[_Key]:
        gate = asyncio.Semaphore(_REVIEWS_AT_ONCE)

        async def allowed(question: ResourceAttributes) -> bool:
            async with gate:
                return (await self._ask(subject, question)).allowed

        try:
            async with asyncio.TaskGroup() as group:
                tasks = {key: group.create_task(allowed(question)) for key, question in questions.items()}
        except BaseExceptionGroup as errors:
            known = [error for error in errors.exceptions if isinstance(error, OciError)]
            if known:
                raise known[0] from None
            raise
        return {key for key, task in tasks.items() if task.result()}


def _about(target: RbacResource, verb: str, subresource: str = "") -> ResourceAttributes:
    return ResourceAttributes(verb, target.resource, subresource, target.namespace, target.name)


def _plain(target: RbacResource, permission: Permission) -> ResourceAttributes:
    if permission is Permission.LIST:
        return ResourceAttributes("list", target.resource, namespace=target.namespace)
    return _about(target, *_VERBS[permission])
