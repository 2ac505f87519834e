"""Image policies: their parts, and the evaluation of their rules."""

from __future__ import annotations

import itertools
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
    """What a rule does with the images that it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


class Mode(Enum):
    """What a denial leads to, from the most lenient to the strictest mode; only `ENFORCE` rejects an object."""

    IGNORE = "ignore"
    AUDIT = "audit"
    WARN = "warn"
    ENFORCE = "enforce"

    def at_most(self, other: Mode) -> Mode:
        """The more lenient of both."""
        return min(self, other, key=[*Mode].index)

    @classmethod
    def strictest(cls, modes: Iterable[Mode]) -> Mode:
        """The strictest of the modes; `ENFORCE` if there are none."""
        return max(modes, key=[*cls].index, default=cls.ENFORCE)


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where an image is to run, as far as that is known. What is not known never allows an image.

    Attributes:
        namespace: "" if it is not known.
        used_by: None if it is not known.
    """

    namespace: str = ""
    used_by: UsedBy | None = None


UNKNOWN: Final = RunContext()


@dataclass(frozen=True, slots=True)
class ImageRule:
    """Images, and whether they are allowed.

    Attributes:
        used_by: the rule applies only to images that one of these uses; empty: to all images.
    """

    name: str
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    used_by: tuple[UsedBy, ...] = ()

    def applies_to(self, context: RunContext) -> bool:
        """Whether it applies to what uses the image; where that is not known, a rule that denies applies."""
        if not self.used_by:
            return True
        return self.effect is Effect.DENY if context.used_by is None else context.used_by in self.used_by


@dataclass(frozen=True, slots=True)
class StandingException:
    """An exception in `spec.exceptions` of a policy: it has no end and needs no approval.

    A digest that the policy denies stays denied, unless the exception names that digest.

    Attributes:
        namespaces: globs over the names of namespaces.
    """

    name: str
    reason: str
    patterns: tuple[ImagePattern, ...]
    namespaces: tuple[str, ...] = (ANY,)

    def covering(self, image: ImageReference, context: RunContext, *, ignore_tag: bool) -> ImagePattern | None:
        """The pattern that covers the image, one with a digest before others.

        Where the namespace is not known, the exception applies: a node has to pull what it exempts.
        """
        if context.namespace and not _matches_any(self.namespaces, context.namespace):
            return None
        covering = (each for each in self.patterns if each.covers(image, ignore_tag=ignore_tag))
        return min(covering, key=lambda each: each.digest is None, default=None)


@dataclass(frozen=True, slots=True)
class Mutations:
    """The changes that a policy asks for in the Pods to which it applies."""

    pin_digests: bool = False
    pull_through: bool = False

    @property
    def anything(self) -> bool:
        """Whether it asks for any change."""
        return self.pin_digests or self.pull_through


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Namespaces that are selected by globs over their names, and by their labels."""

    include: tuple[str, ...] = (ANY,)
    exclude: tuple[str, ...] = ()
    selector: Selector = EVERY

    def cover_name(self, namespace: str) -> bool:
        """Whether the globs select the namespace."""
        return _matches_any(self.include, namespace) and not _matches_any(self.exclude, namespace)

    def cover(self, namespace: str, labels: Mapping[str, str] | None = None) -> bool | None:
        """Whether globs and labels select the namespace; None if it depends on labels that are not known."""
        return self.selector.matches(namespace, labels) if self.cover_name(namespace) else False


def _matches_any(globs: Sequence[str], name: str) -> bool:
    return any(matches(glob, name) for glob in globs)


class RuleIndex:
    """Rules of one effect, indexed by the literal prefix of their patterns, so that many cost no more than few."""

    def __init__(self, rules: Iterable[ImageRule]) -> None:
        self._by_prefix: dict[tuple[str, str], list[tuple[int, ImagePattern, ImageRule]]] = defaultdict(list)
        for number, rule in enumerate(rules):
            for pattern in rule.patterns:
                registry = ANY if "*" in pattern.registry else pattern.registry
                literal = itertools.takewhile(
                    lambda part: "*" not in part and part != NAMESPACE, pattern.repository.split("/")
                )
                self._by_prefix[registry, "/".join(literal)].append((number, pattern, rule))

    def __bool__(self) -> bool:
        return bool(self._by_prefix)

    def find(self, image: ImageReference, context: RunContext, *, ignore_tag: bool) -> ImageRule | None:
        """The first rule that matches, in the order of the policy."""
        if not self._by_prefix:
            return None
        first: tuple[int, ImageRule] | None = None
        for number, pattern, rule in self._candidates(image):
            earlier = first is None or number < first[0]
            if (
                earlier
                and rule.applies_to(context)
                and pattern.covers(image, ignore_tag=ignore_tag, namespace=context.namespace)
            ):
                first = number, rule
        return first[1] if first else None

    def _candidates(self, image: ImageReference) -> Iterator[tuple[int, ImagePattern, ImageRule]]:
        for prefix in _prefixes(image.repository):
            yield from self._by_prefix.get((image.registry, prefix), ())
            yield from self._by_prefix.get((ANY, prefix), ())


def _prefixes(repository: str) -> Iterator[str]:
    """The prefixes that end where a component ends, from "" to the whole name."""
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
        default: the effect on images that no rule matches.
        namespace: of a namespaced policy; "" for the others.
        controllers: the strictest mode for objects that make Pods, such as Deployments (`mode_of`).
        require: what allowed images have to fulfil.
        trusts_tags: whether a tag beside a digest counts where it cannot be verified.
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
        """How messages show it, and how a `PolicyException` names it."""
        return self.name if self.kind == CONFIGURED else f"{self.kind}/{self.name}"

    def mode_of(self, stage: Stage) -> Mode:
        """The mode for objects of a stage.

        A Job whose Pods are denied tries again forever, and a CronJob makes one such Job after the other. So Jobs have
        the mode of Pods, unless `controllers` is `ignore`.
        """
        if stage is Stage.POD or (stage is Stage.JOB and self.controllers is not Mode.IGNORE):
            return self.mode
        return self.mode.at_most(self.controllers)

    def applies(self, namespace: str, labels: Mapping[str, str] | None = None) -> bool:
        """Whether it applies in this namespace, or may apply, depending on labels that are not known."""
        return self.surely_applies(namespace, labels) is not False

    def surely_applies(self, namespace: str, labels: Mapping[str, str] | None) -> bool | None:
        """Whether it applies in this namespace; None if it depends on labels that are not known."""
        if self.kind == NAMESPACED:
            return namespace == self.namespace
        return self.namespaces.cover(namespace, labels)

    def after_exceptions(
        self, image: ImageReference, context: RunContext = UNKNOWN, *, tag_verified: bool = False
    ) -> tuple[Policy, StandingException | None]:
        """The part of the policy that remains for an image, and the exception that applies, if any.

        Arguments as `evaluate`.
        """
        if not self.exceptions:
            return self, None
        ignore_tag = not (tag_verified or self.trusts_tags)
        covering = [
            (pattern, each)
            for each in self.exceptions
            if (pattern := each.covering(image, context, ignore_tag=ignore_tag)) is not None
        ]
        if not covering:
            return self, None
        pattern, exception = min(covering, key=lambda pair: pair[0].digest is None)
        return (self.digest_denials if pattern.digest is None else self._allow_all), exception

    def evaluate(
        self, image: ImageReference, context: RunContext = UNKNOWN, *, tag_verified: bool = False
    ) -> tuple[Effect, ImageRule | None]:
        """The effect of the rules, and the rule that decides; None if the default decides. Deny wins over allow.

        Args:
            image: any.
            context: where it is to run.
            tag_verified: whether its tag points at the digest beside it, or once did.
        """
        if rule := self._denying.find(image, context, ignore_tag=False):
            return Effect.DENY, rule
        if rule := self._allowing.find(image, context, ignore_tag=not (tag_verified or self.trusts_tags)):
            return Effect.ALLOW, rule
        return self.default, None

    def denies_some_digest_of(self, image: ImageReference, context: RunContext = UNKNOWN) -> bool:
        """Whether the policy denies a digest at which the tag of the image may point."""
        return image.digest is None and self._denied_digests.find(image, context, ignore_tag=False) is not None

    @cached_property
    def needs(self) -> frozenset[Need]:
        """The facts that its requirements need."""
        return frozenset(need for each in self.require for need in each.needs)

    @cached_property
    def needs_lookup(self) -> bool:
        """Whether it needs facts about images that have either a tag or a digest."""
        return bool(self.needs or self._denied_digests)

    @cached_property
    def denies_digests(self) -> bool:
        """Whether a rule denies by digest."""
        return next(_by_digest(self.rules), None) is not None

    @cached_property
    def depends_on_tags(self) -> bool:
        """Whether it allows or exempts images by tag, so that a tag beside a digest has to be verified."""
        allowing = (rule.patterns for rule in self.rules if rule.effect is Effect.ALLOW)
        exempting = (each.patterns for each in self.exceptions)
        return any(pattern.by_tag for patterns in (*allowing, *exempting) for pattern in patterns)

    @cached_property
    def by_name_only(self) -> Policy:
        """The part of the policy that can be evaluated without a registry."""
        require = tuple(each for each in self.require if not each.needs)
        return replace(self, require=require, trusts_tags=True)

    @cached_property
    def when_pinned(self) -> Policy:
        """The policy for images that will be pinned: without the requirements that pinning fulfils."""
        return replace(self, require=tuple(each for each in self.require if not each.met_by_pinning))

    @cached_property
    def digest_denials(self) -> Policy:
        """The policy with nothing but the rules that deny by digest, and the exceptions."""
        return replace(self, default=Effect.ALLOW, rules=tuple(_by_digest(self.rules)), require=())

    @cached_property
    def _allow_all(self) -> Policy:
        return replace(self, default=Effect.ALLOW, rules=(), require=(), exceptions=())

    @cached_property
    def _denied_digests(self) -> RuleIndex:
        """The rules that deny by digest, with patterns that cover any digest."""
        return RuleIndex(
            replace(rule, patterns=tuple(each.any_digest() for each in rule.patterns))
            for rule in _by_digest(() if self.trusts_tags else self.rules)
        )

    @cached_property
    def _denying(self) -> RuleIndex:
        return RuleIndex(rule for rule in self.rules if rule.effect is Effect.DENY)

    @cached_property
    def _allowing(self) -> RuleIndex:
        return RuleIndex(rule for rule in self.rules if rule.effect is Effect.ALLOW)


def _by_digest(rules: Iterable[ImageRule]) -> Iterator[ImageRule]:
    """The rules that deny, with only those of their patterns that have a digest."""
    for rule in rules:
        patterns = tuple(each for each in rule.patterns if each.digest is not None)
        if patterns and rule.effect is Effect.DENY:
            yield replace(rule, patterns=patterns)
