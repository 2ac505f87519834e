"""What a policy requires of the images that its rules allow: one class for each field of `spec.require`.

A class holds everything about its requirement: how its field is read, which facts it needs, when an image violates it,
and whether it can be compiled. Other modules use `REQUIREMENTS`, so a new requirement is a class here, a field in the
CustomResourceDefinitions and a row in the reference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, NamedTuple, Self

from msgspec import UNSET, Meta, UnsetType

from trow.lib.times import parse_duration
from trow.policy.facts import Need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.policy.facts import ImageConfig, ImageFacts
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse

_PREFIX: Final = "require."
# Seconds by which the clock of the builder may be ahead of that of this machine.
_CLOCK_SKEW: Final = 3600.0
_PLATFORM: Final = r"^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9_.]+)?\Z"


class Violation(NamedTuple):
    """Why a policy does not allow an image.

    Attributes:
        rule: the rule, requirement or default that a finding names.
        reason: the end of a sentence that begins with the image.
        remedy: what would be allowed, for people.
        unknown: the missing fact on which the violation depends; None if it is certain.
    """

    rule: str
    reason: str
    remedy: str
    unknown: Need | None = None


class Candidate(NamedTuple):
    """An image that is evaluated.

    Attributes:
        use: the field that names the image.
        image: the parsed name.
        facts: what the registry knows of it; None if that is not known.
        now: seconds of Unix time.
    """

    use: ImageUse
    image: ImageReference
    facts: ImageFacts | None
    now: float


class Requirement(ABC):
    """Something that a policy requires of an image.

    Attributes:
        name: its path in `spec`, which messages show.
        type_: the type of the field, for msgspec.
        absent: the default of the field.
        values: the values that the field can have, for messages; "" for a Boolean.
        needs: the facts that it depends on; empty where name and pull policy decide.
        reason, remedy: see `Violation`; the API server shows them too, if the requirement can be compiled.
        cel: a CEL expression: whether an image ``u`` violates it (`vap.program`); "" if it cannot be compiled.
        unknown: what the API server would have to know to evaluate it.
        met_by_pinning: whether every image that is pinned to a digest fulfils it.
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
        """The requirement that a value of the field stands for; None if it requires nothing.

        Raises:
            ValueError: the value is not valid.
        """
        return cls() if value else None

    @abstractmethod
    def unmet(self, candidate: Candidate) -> Violation | None:
        """Why the image does not fulfil it, or why that is unknown; None if it does."""

    def explain(self, candidate: Candidate) -> str:
        """Whether the image fulfils it, as far as that is known without a registry, for people."""
        if self.needs:
            return "known to the registry alone"
        return "not fulfilled" if self.unmet(candidate) else "fulfilled"

    def _violation(self, reason: str = "", remedy: str = "") -> Violation:
        return Violation(self.name, reason or self.reason, remedy or self.remedy)


class _ContainerRequirement(Requirement):
    """About the pull policy, which belongs to the container and not to the image."""

    def explain(self, candidate: Candidate) -> str:  # noqa: ARG002 - an image alone has no pull policy
        return "depends on the container's imagePullPolicy"


class _ConfigRequirement(Requirement):
    """About the configuration of an image, which has to be in this registry."""

    needs = frozenset({Need.EXISTENCE, Need.CONFIG})

    def unmet(self, candidate: Candidate) -> Violation | None:
        facts = candidate.facts
        if facts is None:
            return _UNKNOWN
        if not facts.exists:
            return _ABSENT
        return _UNKNOWN if facts.config is None else self._violation_of(facts.config, candidate.now)

    @abstractmethod
    def _violation_of(self, config: ImageConfig, now: float) -> Violation | None: ...


@dataclass(frozen=True, slots=True)
class WithDigest(Requirement):
    """The name of the image has a digest."""

    name = "require.digest"
    reason = "has no digest"
    remedy = "write it with @sha256:..."
    cel = "!u[2].contains('@')"
    met_by_pinning = True

    def unmet(self, candidate: Candidate) -> Violation | None:
        image = candidate.image
        return self._violation(remedy=f"write {image}@sha256:...") if image.digest is None else None


@dataclass(frozen=True, slots=True)
class ForbidPullPolicyNever(_ContainerRequirement):
    """The image is not run with `imagePullPolicy: Never`."""

    name = "require.forbidPullPolicyNever"
    reason = "is never pulled, so its content is unknown"
    remedy = "use an imagePullPolicy other than Never"
    cel = "u[1] == 'Never'"

    def unmet(self, candidate: Candidate) -> Violation | None:
        return self._violation() if candidate.use.pull_policy == "Never" else None


@dataclass(frozen=True, slots=True)
class AlwaysPulled(_ContainerRequirement):
    """The image is run with `imagePullPolicy: Always`, or the field is not set."""

    name = "require.imagePullPolicy"
    type_ = Literal["Always"] | UnsetType
    absent = UNSET
    values = "Always"
    reason = "has an imagePullPolicy other than Always"
    remedy = "write imagePullPolicy: Always"
    cel = "u[1] != '' && u[1] != 'Always'"

    def unmet(self, candidate: Candidate) -> Violation | None:
        return self._violation() if candidate.use.pull_policy not in ("", "Always") else None


@dataclass(frozen=True, slots=True)
class Exists(Requirement):
    """The image is in this registry."""

    name = "require.exists"
    needs = frozenset({Need.EXISTENCE})
    unknown = "which images are in this registry"

    def unmet(self, candidate: Candidate) -> Violation | None:
        if candidate.facts is None:
            return _UNKNOWN
        return None if candidate.facts.exists else _ABSENT


@dataclass(frozen=True, slots=True)
class MaxAge(_ConfigRequirement):
    """The image was built at most this many seconds ago."""

    name = "require.maxAge"
    type_ = Annotated[str, Meta(min_length=1)]
    absent = ""
    unknown = "when an image was made"

    seconds: float

    @classmethod
    def read(cls, value: object) -> Self | None:
        return cls(age_of(str(value))) if value else None

    def _violation_of(self, config: ImageConfig, now: float) -> Violation | None:
        if config.created is None:
            return self._violation("does not say when it was made", "build it with a date of creation")
        if now - self.seconds <= config.created <= now + _CLOCK_SKEW:
            return None
        return self._violation("is too old, or dated in the future", "build it again")


@dataclass(frozen=True, slots=True)
class Platforms(_ConfigRequirement):
    """The image runs on at least one of these, such as ``linux/amd64``; ``linux/arm`` includes all its variants."""

    name = "require.platforms"
    type_ = tuple[Annotated[str, Meta(pattern=_PLATFORM)], ...]
    absent = ()
    values = "OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64"
    unknown = "what an image is for"

    wanted: tuple[str, ...]

    @classmethod
    def read(cls, value: object) -> Self | None:
        return cls(value) if value and isinstance(value, tuple) else None

    def _violation_of(self, config: ImageConfig, now: float) -> Violation | None:  # noqa: ARG002
        if any(each == want or each.startswith(f"{want}/") for each in config.platforms for want in self.wanted):
            return None
        wanted = ", ".join(self.wanted)
        return self._violation(f"is not for any of the allowed platforms ({wanted})", f"build it for {wanted}")


# All requirements, in the order in which they are evaluated.
REQUIREMENTS: Final[tuple[type[Requirement], ...]] = (
    WithDigest,
    ForbidPullPolicyNever,
    AlwaysPulled,
    Exists,
    MaxAge,
    Platforms,
)
_UNKNOWN: Final = Violation(
    Exists.name, "is not known: this registry could not be asked about it", "try again", Need.EXISTENCE
)
_ABSENT: Final = Violation(Exists.name, "is not in this registry", "push it first")


def unmet(requirements: Sequence[Requirement], candidate: Candidate) -> Violation | None:
    """The first violation that is certain; otherwise the first that is unknown; None if there is none."""
    violations = [each for requirement in requirements if (each := requirement.unmet(candidate)) is not None]
    return min(violations, key=lambda each: each.unknown is not None, default=None)


def age_of(text: str) -> float:
    """Seconds of an age such as ``90d``.

    Raises:
        ValueError: it is not an age.
    """
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0
    if not seconds:
        fix = "write a number and s, m, h, d or w, such as 90d"
        raise ValueError(f"spec.require.maxAge: {text!r} is not an age; {fix}")
    return float(seconds)
