"""Policies over images as values: builders, and strategies over a world so small that things often meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from trow.lib.globs import NAMESPACE
from trow.policy.images import parse
from trow.policy.patterns import ImagePattern
from trow.policy.pods import ImageUse, Stage, UsedBy
from trow.policy.requirements import (
    AlwaysPulled,
    Exists,
    ForbidPullPolicyNever,
    MaxAge,
    Platforms,
    Requirement,
    WithDigest,
)
from trow.policy.rules import (
    CLUSTER,
    CONFIGURED,
    NAMESPACED,
    Effect,
    ImageRule,
    Mode,
    Namespaces,
    Policy,
    RunContext,
    StandingException,
)
from trow.policy.verdict import ImageRequest, PolicyException

if TYPE_CHECKING:
    from trow.policy.images import ImageReference

SHA256: Final = "sha256:" + "a" * 64
OTHER: Final = "sha256:" + "b" * 64
SHA512: Final = "sha512:" + "c" * 128
NOW: Final = 1_800_000_000.0
HOUR: Final = 3600.0
OURS: Final = ImagePattern.parse("registry.example.com")


def pattern(registry: str, repository: str = "**", tag: str = "*", digest: str = "", semver: str = "") -> ImagePattern:
    return ImagePattern.parse(registry, repository, tag, digest, semver)


def allow(name: str, *patterns: ImagePattern, used_by: tuple[UsedBy, ...] = ()) -> ImageRule:
    return ImageRule(name, Effect.ALLOW, patterns, used_by)


def deny(name: str, *patterns: ImagePattern, used_by: tuple[UsedBy, ...] = ()) -> ImageRule:
    return ImageRule(name, Effect.DENY, patterns, used_by)


def required(
    *,
    digest: bool = False,
    exists: bool = False,
    max_age: float | None = None,
    never_forbidden: bool = False,
    always_pulled: bool = False,
    platforms: tuple[str, ...] = (),
) -> tuple[Requirement, ...]:
    """Requirements, in the order in which they are read."""
    given = (
        (WithDigest(), digest),
        (ForbidPullPolicyNever(), never_forbidden),
        (AlwaysPulled(), always_pulled),
        (Exists(), exists),
        (MaxAge(max_age or 0.0), max_age is not None),
        (Platforms(platforms), bool(platforms)),
    )
    return tuple(each for each, wanted in given if wanted)


def cluster_policy(
    *rules: ImageRule,
    name: str = "only-ours",
    default: Effect = Effect.DENY,
    require: tuple[Requirement, ...] = (),
    mode: Mode = Mode.ENFORCE,
    controllers: Mode = Mode.WARN,
    exceptions: tuple[StandingException, ...] = (),
) -> Policy:
    return Policy(
        CLUSTER,
        name,
        default,
        rules,
        mode=mode,
        controllers=controllers,
        require=require,
        exceptions=exceptions,
    )


def standing(
    *patterns: ImagePattern, name: str = "vendor", namespaces: tuple[str, ...] = ("team-a",)
) -> StandingException:
    return StandingException(name, "the vendor has a registry of its own", patterns, namespaces)


def policy_exception(
    *patterns: ImagePattern,
    name: str = "incident",
    requester: str = "alice",
    approver: str = "bob",
    begins: float = NOW,
    duration: float = HOUR,
    namespaces: frozenset[str] = frozenset({"team-a"}),
    policies: frozenset[str] = frozenset({"ClusterImagePolicy/only-ours"}),
) -> PolicyException:
    reason = "the registry is down"
    return PolicyException(name, reason, requester, approver, begins, duration, namespaces, policies, patterns)


def pod(
    *texts: str,
    namespace: str = "team-a",
    pull_policy: str = "",
    stage: Stage = Stage.POD,
    used_by: UsedBy | None = UsedBy.CONTAINERS,
) -> ImageRequest:
    """A Pod whose containers c0, c1 ... run these images."""
    uses = [
        ImageUse(f"spec.containers[{number}].image", f"container c{number}", text, pull_policy, used_by)
        for number, text in enumerate(texts)
    ]
    return ImageRequest(namespace, tuple(uses), stage)


# the small world

NAMESPACES: Final = st.sampled_from(["team-a", "team-b", "kube-system"])
COMPONENTS: Final = st.sampled_from(["a", "b", "ab", "app", "team-a"])
REPOSITORIES: Final = st.lists(COMPONENTS, min_size=1, max_size=3).map("/".join)
HOSTS: Final = st.sampled_from(
    ["docker.io", "quay.io", "a.example.com", "b.example.com:5000", "example.com", "localhost:5000", "[::1]:5000"]
)
VERSIONS: Final = st.sampled_from(["", ":1", ":v2", ":1.4.0", f"@{SHA256}", f":1@{SHA256}", f":v2@{OTHER}"])
TEXTS: Final = st.tuples(HOSTS, REPOSITORIES, VERSIONS).map(lambda parts: f"{parts[0]}/{parts[1]}{parts[2]}")
IMAGES: Final[st.SearchStrategy[ImageReference]] = TEXTS.map(parse)

_GLOB_PARTS: Final = st.sampled_from(["a", "b", "ab", "app", "*", "a*", "*p", "**", NAMESPACE])
GLOBS: Final = st.lists(_GLOB_PARTS, min_size=1, max_size=3).map("/".join)
HOST_GLOBS: Final = st.one_of(HOSTS, st.sampled_from(["*", "*.io", "*.example.com", "*.example.com:*", "*:5000"]))
PATTERNS: Final = st.one_of(
    st.builds(pattern, HOST_GLOBS, GLOBS, st.sampled_from(["*", "1", "v*", "latest"])),
    st.builds(pattern, HOST_GLOBS, GLOBS, st.just("*"), st.sampled_from([SHA256, OTHER])),
    st.builds(pattern, HOST_GLOBS, GLOBS, semver=st.sampled_from([">=1.2 <2", "^2.0.0"])),
)
RULES: Final = st.builds(
    ImageRule,
    st.text("abc", min_size=1, max_size=3),
    st.sampled_from(Effect),
    st.lists(PATTERNS, min_size=1, max_size=3).map(tuple),
    st.sampled_from([(), (), (), (UsedBy.CONTAINERS,), (UsedBy.INIT_CONTAINERS, UsedBy.VOLUMES)]),
)
PLACES: Final = st.builds(RunContext, st.one_of(st.just(""), NAMESPACES), st.sampled_from([None, *UsedBy]))
_REQUIREMENTS: Final = st.builds(
    required,
    digest=st.booleans(),
    exists=st.booleans(),
    max_age=st.sampled_from([None, HOUR]),
    never_forbidden=st.booleans(),
    always_pulled=st.sampled_from([False, False, True]),
    platforms=st.sampled_from([(), ("linux/amd64",)]),
)
STANDING: Final = st.builds(standing, PATTERNS, namespaces=st.sampled_from([("*",), ("team-*",), ("team-b",)]))
POLICIES: Final = st.builds(
    Policy,
    kind=st.sampled_from([CLUSTER, NAMESPACED, CONFIGURED]),
    name=st.sampled_from(["one", "two"]),
    default=st.sampled_from(Effect),
    rules=st.lists(RULES, max_size=4).map(tuple),
    namespace=NAMESPACES,
    mode=st.sampled_from([Mode.AUDIT, Mode.WARN, Mode.ENFORCE]),
    controllers=st.sampled_from([Mode.IGNORE, Mode.WARN, Mode.ENFORCE]),
    namespaces=st.sampled_from([Namespaces(), Namespaces(("team-*",)), Namespaces(exclude=("kube-*",))]),
    require=_REQUIREMENTS,
    exceptions=st.lists(STANDING, max_size=2).map(tuple),
)
EXCEPTIONS: Final = st.builds(
    policy_exception,
    PATTERNS,
    name=st.sampled_from(["incident", "other"]),
    approver=st.sampled_from(["", "alice", "bob"]),
    begins=st.sampled_from([NOW - 2 * HOUR, NOW, NOW + HOUR]),
    duration=st.sampled_from([0.0, HOUR, 25 * HOUR]),
    namespaces=st.frozensets(NAMESPACES, max_size=2),
    policies=st.frozensets(st.sampled_from(["ClusterImagePolicy/one", "ImagePolicy/two", CONFIGURED]), max_size=2),
)
