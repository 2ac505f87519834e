"""Policies over images: what they are made of, and how the rules of one are looked up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from trow.lib.globs import NAMESPACE, matches
from trow.policy.patterns import ANY
from trow.policy.pods import Stage
from trow.policy.selectors import EVERY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trow.policy.facts import Need
    from trow.policy.images import ImageReference
    from trow.policy.patterns import ImagePattern
    from trow.policy.pods import UsedBy
    from trow.policy.requirements import Requirement
    from trow.policy.selectors import Selector

CLUSTER: Final = "ClusterImagePolicy"
NAMESPACED: Final = "ImagePolicy"
# The policy of the configuration file.
CONFIGURED: Final = "image_validation"


class Effect(Enum):
    """What a rule does with the images it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


class Mode(Enum):
    """What comes of a denial: nothing is refused but in `ENFORCE`."""

    IGNORE = "ignore"
    AUDIT = "audit"
    WARN = "warn"
    ENFORCE = "enforce"

    def at_most(self, other: Mode) -> Mode:
        """The milder of both."""
        return min(self, other, key=_MILDEST.index)


_MILDEST: Final = (Mode.IGNORE, Mode.AUDIT, Mode.WARN, Mode.ENFORCE)


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where an image is to run, as far as that is known: what is not known lets nothing in.

    Attributes:
        namespace: "" where nobody knows.
        used_by: None where nobody knows.
    """

    namespace: str = ""
    used_by: UsedBy | None = None


UNKNOWN: Final = RunContext()


@dataclass(frozen=True, slots=True)
class ImageRule:
    """Images, and whether they are allowed.

    Attributes:
        used_by: it is about images that one of these uses; empty: whatever does.
    """

    name: str
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    used_by: tuple[UsedBy, ...] = ()

    def concerns(self, where: RunContext) -> bool:
        """Whether it is about this use; about one that nobody knows it is if it denies."""
        if not self.used_by:
            return True
        return self.effect is Effect.DENY if where.used_by is None else where.used_by in self.used_by


@dataclass(frozen=True, slots=True)
class StandingException:
    """Images that a policy has nothing against, as long as it says so itself: whoever writes it needs no approval.

    What is denied by digest stays denied, unless the exception names that digest.

    Attributes:
        namespaces: where, by names in which ``*`` stands for anything.
    """

    name: str
    reason: str
    patterns: tuple[ImagePattern, ...]
    namespaces: tuple[str, ...] = (ANY,)

    def covering(self, image: ImageReference, where: RunContext, *, ignore_tag: bool) -> ImagePattern | None:
        """The pattern by which it is about the image, one with a digest before others.

        RunContext nobody knows the namespace it is about any: what it lets in has to be pulled.
        """
        if where.namespace and not _any(self.namespaces, where.namespace):
            return None
        found = (each for each in self.patterns if each.covers(image, ignore_tag=ignore_tag))
        return min(found, key=lambda each: each.digest is None, default=None)


@dataclass(frozen=True, slots=True)
class Mutations:
    """What is written into the Pods that the policy is about."""

    pin_digests: bool = False
    pull_through: bool = False

    @property
    def anything(self) -> bool:
        """Whether something is."""
        return self.pin_digests or self.pull_through


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Namespaces by name, in which ``*`` stands for anything, and by labels."""

    include: tuple[str, ...] = (ANY,)
    exclude: tuple[str, ...] = ()
    selector: Selector = EVERY

    def cover_name(self, namespace: str) -> bool:
        """Whether it is one of those meant, as far as names tell."""
        return _any(self.include, namespace) and not _any(self.exclude, namespace)

    def cover(self, namespace: str, labels: Mapping[str, str] | None = None) -> bool | None:
        """Whether the namespace is one of those meant; see `Selector.matches`."""
        if not self.cover_name(namespace):
            return False
        return self.selector.matches(namespace, labels)


def _any(globs: Sequence[str], name: str) -> bool:
    return any(matches(glob, name) for glob in globs)


class Index:
    """Rules of one effect, found by the literal beginning of their patterns: many cost no more than few."""

    def __init__(self, rules: Iterable[ImageRule]) -> None:
        self._found: dict[tuple[str, str], list[tuple[int, ImagePattern, ImageRule]]] = defaultdict(list)
        for number, rule in enumerate(rules):
            for pattern in rule.patterns:
                registry = ANY if "*" in pattern.registry else pattern.registry
                self._found[registry, _literal(pattern.repository)].append((number, pattern, rule))

    def __bool__(self) -> bool:
        return bool(self._found)

    def find(self, image: ImageReference, where: RunContext, *, ignore_tag: bool) -> ImageRule | None:
        """The first rule that matches, in the order of the policy."""
        if not self._found:
            return None
        first: tuple[int, ImageRule] | None = None
        for number, pattern, rule in self._candidates(image):
            earlier = first is None or number < first[0]
            if (
                earlier
                and rule.concerns(where)
                and pattern.covers(image, ignore_tag=ignore_tag, namespace=where.namespace)
            ):
                first = number, rule
        return first[1] if first else None

    def _candidates(self, image: ImageReference) -> Iterator[tuple[int, ImagePattern, ImageRule]]:
        for beginning in _beginnings(image.repository):
            yield from self._found.get((image.registry, beginning), ())
            yield from self._found.get((ANY, beginning), ())


def _literal(glob: str) -> str:
    """The components in front of the first that may be this or that."""
    literal: list[str] = []
    for part in glob.split("/"):
        if "*" in part or part == NAMESPACE:
            break
        literal.append(part)
    return "/".join(literal)


def _beginnings(repository: str) -> Iterator[str]:
    yield ""
    end = repository.find("/")
    while end >= 0:
        yield repository[:end]
        end = repository.find("/", end + 1)
    yield repository


@dataclass(frozen=True)
class Policy:
    """One policy: where it applies, what it allows, how strict it is.

    Attributes:
        kind: `CLUSTER`, `NAMESPACED` or `CONFIGURED`.
        namespace: where a namespaced policy is; "" for the others.
        controllers: at most so strict with objects that only make Pods, such as Deployments (`mode_of`).
        default: for images that no rule matches.
        trusts_tags: whether a tag counts beside any digest, where nobody can look up what it points at.
        require: what is asked of images that are allowed.
        exceptions: see `after_exceptions`.
    """

    kind: str
    name: str
    default: Effect
    rules: tuple[ImageRule, ...] = ()
    namespace: str = ""
    mode: Mode = Mode.ENFORCE
    controllers: Mode = Mode.WARN
    namespaces: Namespaces = Namespaces()
    require: tuple[Requirement, ...] = ()
    mutate: Mutations = Mutations()
    trusts_tags: bool = False
    exceptions: tuple[StandingException, ...] = ()

    @property
    def title(self) -> str:
        """What people call it, and what exceptions name it by."""
        return self.name if self.kind == CONFIGURED else f"{self.kind}/{self.name}"

    def mode_of(self, stage: Stage) -> Mode:
        """How strict it is with an object.

        A Job that may not have its Pods tries forever, and a CronJob makes one after the other: Jobs are held to the
        mode of Pods, unless what makes Pods is left alone altogether.
        """
        if stage is Stage.POD or (stage is Stage.RUN and self.controllers is not Mode.IGNORE):
            return self.mode
        return self.mode.at_most(self.controllers)

    def applies(self, namespace: str, labels: Mapping[str, str] | None = None) -> bool:
        """Whether it applies in this namespace, or may: that can depend on labels that are not known."""
        return self.surely_applies(namespace, labels) is not False

    def surely_applies(self, namespace: str, labels: Mapping[str, str] | None) -> bool | None:
        """The same; None where it depends on labels that are not known."""
        if self.kind == NAMESPACED:
            return namespace == self.namespace
        return self.namespaces.cover(namespace, labels)

    def after_exceptions(
        self, image: ImageReference, where: RunContext = UNKNOWN, *, tag_verified: bool = False
    ) -> tuple[Policy, StandingException | None]:
        """What is left of the policy for an image, and the exception that applies, if any; arguments as `evaluate`."""
        if not self.exceptions:
            return self, None
        ignore_tag = not (tag_verified or self.trusts_tags)
        found = [
            (pattern, each)
            for each in self.exceptions
            if (pattern := each.covering(image, where, ignore_tag=ignore_tag)) is not None
        ]
        for pattern, exception in sorted(found, key=lambda pair: pair[0].digest is None):
            return (self.digest_denials if pattern.digest is None else self._nothing), exception
        return self, None

    def evaluate(
        self, image: ImageReference, where: RunContext = UNKNOWN, *, tag_verified: bool = False
    ) -> tuple[Effect, ImageRule | None]:
        """The effect of the rules, and the rule that decides; None where the default does. Deny wins over allow.

        Args:
            image: any.
            where: it is to run.
            tag_verified: whether its tag, beside a digest, points at that digest or once did.
        """
        if rule := self._denying.find(image, where, ignore_tag=False):
            return Effect.DENY, rule
        if rule := self._allowing.find(image, where, ignore_tag=not (tag_verified or self.trusts_tags)):
            return Effect.ALLOW, rule
        return self.default, None

    def denies_some_digest_of(self, image: ImageReference, where: RunContext = UNKNOWN) -> bool:
        """Whether the digest of the image has to be looked up: a digest that its name may stand for is denied."""
        return image.digest is None and self._denied_digests.find(image, where, ignore_tag=False) is not None

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What has to be looked up of each image that it allows."""
        return frozenset(need for each in self.require for need in each.needs)

    @cached_property
    def needs_lookup(self) -> bool:
        """Whether something has to be looked up of images that are named by a tag or a digest alone."""
        return bool(self.needs or self._denied_digests)

    @cached_property
    def denies_digests(self) -> bool:
        """Whether a rule denies by digest."""
        return next(_by_digest(self.rules), None) is not None

    @cached_property
    def depends_on_tags(self) -> bool:
        """Whether only the registry knows if a tag that is allowed points at the digest beside it."""
        allowing = (rule.patterns for rule in self.rules if rule.effect is Effect.ALLOW)
        excepting = (each.patterns for each in self.exceptions)
        return any(pattern.by_tag for patterns in (*allowing, *excepting) for pattern in patterns)

    @cached_property
    def by_name_only(self) -> Policy:
        """The part of the policy that can be decided without a registry."""
        require = tuple(each for each in self.require if not each.needs)
        return replace(self, require=require, trusts_tags=True)

    @cached_property
    def when_pinned(self) -> Policy:
        """The policy of images that will be pinned: without the requirements that pinning fulfils."""
        return replace(self, require=tuple(each for each in self.require if not each.met_by_pinning))

    @cached_property
    def digest_denials(self) -> Policy:
        """The policy with its denials by digest alone; it keeps its exceptions."""
        return replace(self, default=Effect.ALLOW, rules=tuple(_by_digest(self.rules)), require=())

    @cached_property
    def _nothing(self) -> Policy:
        return replace(self, default=Effect.ALLOW, rules=(), require=(), exceptions=())

    @cached_property
    def _denied_digests(self) -> Index:
        """The rules that deny by digest, as if they denied whatever has the name."""
        return Index(
            replace(rule, patterns=tuple(each.any_digest() for each in rule.patterns))
            for rule in _by_digest(() if self.trusts_tags else self.rules)
        )

    @cached_property
    def _denying(self) -> Index:
        return Index(rule for rule in self.rules if rule.effect is Effect.DENY)

    @cached_property
    def _allowing(self) -> Index:
        return Index(rule for rule in self.rules if rule.effect is Effect.ALLOW)


def _by_digest(rules: Iterable[ImageRule]) -> Iterator[ImageRule]:
    """The rules that deny, as far as they name digests."""
    for rule in rules:
        patterns = tuple(each for each in rule.patterns if each.digest is not None)
        if patterns and rule.effect is Effect.DENY:
            yield replace(rule, patterns=patterns)
