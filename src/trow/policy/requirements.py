"""What a policy asks of the images that its rules allow: one class for each field of `spec.require`.

A class says everything that there is to know of its requirement: how it is written, what has to be known of an image,
when an image does not fulfil it, and whether the API server can tell. All others go through `REQUIREMENTS`, so that a
further one is a class here, a field in the definitions of the cluster and a row in the reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, NamedTuple, Self

from msgspec import UNSET, Meta, UnsetType

from trow.lib.times import parse_duration
from trow.policy.facts import Need

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.policy.facts import ImageConfig, ImageFacts
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse

_PREFIX: Final = "require."
# Seconds, between whoever built an image and this machine.
_CLOCKS_DIFFER: Final = 3600.0
_PLATFORM: Final = r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_.]+)?\Z"


class Objection(NamedTuple):
    """What is the matter with an image.

    Attributes:
        rule: what a finding names: a rule, a requirement or the default.
        reason: in words, after the name of the image.
        remedy: what would make it pass, in words.
        unknown: what was not found out, on which it depends; None: it is certain.
    """

    rule: str
    reason: str
    remedy: str
    unknown: Need | None = None


class Candidate(NamedTuple):
    """An image that is asked about.

    Attributes:
        use: the field that names it.
        image: how that is read.
        facts: what is known of it; None: nothing.
        now: seconds of Unix time.
    """

    use: ImageUse
    image: ImageReference
    facts: ImageFacts | None
    now: float


class Requirement(ABC):
    """Something that is asked of an image.

    Attributes:
        name: what messages call it, which is its path in `spec`.
        type_: of the values of the field, as msgspec reads them.
        absent: the value of a field that is not written.
        values: what can be written, for messages; "" where that goes without saying.
        needs: what has to be looked up; nothing where name and pull policy decide.
        reason, remedy: see `Objection`; those that the API server gives, where it can tell.
        cel: whether an image ``u`` does not fulfil it, as an expression of the API server (`vap.program`); "" where it
            cannot tell.
        unknown: what the API server would have to know.
        met_by_pinning: whether an image fulfils it once it is pinned to a digest.
    """

    name: ClassVar[str]
    type_: ClassVar[object] = bool
    absent: ClassVar[object] = False
    values: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    reason: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    cel: ClassVar[str] = ""
    unknown: ClassVar[str] = ""
    met_by_pinning: ClassVar[bool] = False

    @classmethod
    def field(cls) -> str:
        """Its field in `spec.require`."""
        return cls.name.removeprefix(_PREFIX)

    @classmethod
    def read(cls, value: object) -> Self | None:
        """The requirement that a value of the field stands for; None where nothing is asked.

        Raises:
            ValueError: the value means nothing.
        """
        return cls() if value else None

    @abstractmethod
    def unmet(self, candidate: Candidate) -> Objection | None:
        """Why the image does not fulfil it, or why nobody knows; None where it does."""

    def explain(self, candidate: Candidate) -> str:
        """Whether the image fulfils it, as far as that is known without a registry, in words."""
        if self.needs:
            return "known to the registry alone"
        return "not fulfilled" if self.unmet(candidate) else "fulfilled"

    def _unmet(self, reason: str = "", remedy: str = "") -> Objection:
        return Objection(self.name, reason or self.reason, remedy or self.remedy)


class _OfContainer(Requirement):
    """About the pull policy, which is the container's and not the image's."""

    def explain(self, candidate: Candidate) -> str:  # noqa: ARG002 - that of an image alone is not known
        return "depends on the container's imagePullPolicy"


class _OfConfig(Requirement):
    """About what the configuration of an image says; one that is not in this registry has none."""

    needs = frozenset({Need.EXISTENCE, Need.CONFIG})

    def unmet(self, candidate: Candidate) -> Objection | None:
        facts = candidate.facts
        if facts is None:
            return _UNKNOWN
        if not facts.exists:
            return _ABSENT
        return _UNKNOWN if facts.config is None else self._unmet_by(facts.config, candidate.now)

    @abstractmethod
    def _unmet_by(self, config: ImageConfig, now: float) -> Objection | None: ...


@dataclass(frozen=True, slots=True)
class WithDigest(Requirement):
    """The image is named with a digest."""

    name = "require.digest"
    reason = "has no digest"
    remedy = "write it with @sha256:..."
    cel = "!u[2].contains('@')"
    met_by_pinning = True

    def unmet(self, candidate: Candidate) -> Objection | None:
        image = candidate.image
        return self._unmet(remedy=f"write {image}@sha256:...") if image.digest is None else None


@dataclass(frozen=True, slots=True)
class ForbidPullPolicyNever(_OfContainer):
    """The image is not run with `imagePullPolicy: Never`."""

    name = "require.forbidPullPolicyNever"
    reason = "is never pulled, so nobody knows what it is"
    remedy = "use an imagePullPolicy other than Never"
    cel = "u[1] == 'Never'"

    def unmet(self, candidate: Candidate) -> Objection | None:
        return self._unmet() if candidate.use.pull_policy == "Never" else None


@dataclass(frozen=True, slots=True)
class AlwaysPulled(_OfContainer):
    """The image is run with `imagePullPolicy: Always`, or with none that anybody wrote."""

    name = "require.imagePullPolicy"
    type_ = Literal["Always"] | UnsetType
    absent = UNSET
    values = "Always"
    reason = "has an imagePullPolicy other than Always"
    remedy = "write imagePullPolicy: Always"
    cel = "u[1] != '' && u[1] != 'Always'"

    def unmet(self, candidate: Candidate) -> Objection | None:
        return self._unmet() if candidate.use.pull_policy not in ("", "Always") else None


@dataclass(frozen=True, slots=True)
class Exists(Requirement):
    """The image is in this registry."""

    name = "require.exists"
    needs = frozenset({Need.EXISTENCE})
    unknown = "which images are in this registry"

    def unmet(self, candidate: Candidate) -> Objection | None:
        if candidate.facts is None:
            return _UNKNOWN
        return None if candidate.facts.exists else _ABSENT


@dataclass(frozen=True, slots=True)
class MaxAge(_OfConfig):
    """The image was made at most this many seconds ago."""

    name = "require.maxAge"
    type_ = Annotated[str, Meta(min_length=1)]
    absent = ""
    unknown = "when an image was made"

    seconds: float

    @classmethod
    def read(cls, value: object) -> Self | None:
        return cls(age_of(str(value))) if value else None

    def _unmet_by(self, config: ImageConfig, now: float) -> Objection | None:
        if config.created is None:
            return self._unmet("does not say when it was made", "build it with a date of creation")
        if now - self.seconds <= config.created <= now + _CLOCKS_DIFFER:
            return None
        return self._unmet("is too old, or dated in the future", "build it again")


@dataclass(frozen=True, slots=True)
class Platforms(_OfConfig):
    """The image is for at least one of these, such as ``linux/amd64``; ``linux/arm`` stands for all its variants."""

    name = "require.platforms"
    type_ = tuple[Annotated[str, Meta(pattern=_PLATFORM)], ...]
    absent = ()
    values = "OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64"
    unknown = "what an image is for"

    wanted: tuple[str, ...]

    @classmethod
    def read(cls, value: object) -> Self | None:
        return cls(value) if value and isinstance(value, tuple) else None

    def _unmet_by(self, config: ImageConfig, now: float) -> Objection | None:  # noqa: ARG002
        if _offers(config.platforms, self.wanted):
            return None
        wanted = ", ".join(self.wanted)
        return self._unmet(f"is not for any of the allowed platforms ({wanted})", f"build it for {wanted}")


# All that there are, in the order in which an image is asked.
REQUIREMENTS: Final[tuple[type[Requirement], ...]] = (
    WithDigest,
    ForbidPullPolicyNever,
    AlwaysPulled,
    Exists,
    MaxAge,
    Platforms,
)
_UNKNOWN: Final = Objection(
    Exists.name, "is not known: this registry could not be asked about it", "try again", Need.EXISTENCE
)
_ABSENT: Final = Objection(Exists.name, "is not in this registry", "push it first")


def unmet(requirements: Sequence[Requirement], candidate: Candidate) -> Objection | None:
    """The first requirement that is not fulfilled; where all are, the first that is not known to be."""
    found = [each for requirement in requirements if (each := requirement.unmet(candidate)) is not None]
    return min(found, key=lambda each: each.unknown is not None, default=None)


def age_of(text: str) -> float:
    """Seconds of an age such as ``90d``.

    Raises:
        ValueError: it is none.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0
    if not seconds:
        fix = "write a number and s, m, h, d or w, such as 90d"
        raise ValueError(f"spec.require.maxAge: {text!r} is not an age; {fix}")
    return float(seconds)


def _offers(offered: Collection[str], wanted: Sequence[str]) -> bool:
    """Whether one of the platforms is wanted."""
    return any(each == want or each.startswith(f"{want}/") for each in offered for want in wanted)
