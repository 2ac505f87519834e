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
class Where:
    """Where an image is to run, as far as that is known: what is not known lets nothing in.

    Attributes:
        namespace: "" where nobody knows.
        used_by: None where nobody knows.
    """

    namespace: str = ""
    used_by: UsedBy | None = None


UNKNOWN: Final = Where()


@dataclass(frozen=True, slots=True)
class Rule:
    """Images, and whether they are allowed.

    Attributes:
        used_by: it is about images that one of these uses; empty: whatever does.
    """

    name: str
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    used_by: tuple[UsedBy, ...] = ()

    def concerns(self, where: Where) -> bool:
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

    def covering(self, image: ImageReference, where: Where, *, trusting: bool) -> ImagePattern | None:
        """The pattern by which it is about the image, one with a digest before others.

        Where nobody knows the namespace it is about any: what it lets in has to be pulled.
        """
        if where.namespace and not _any(self.namespaces, where.namespace):
            return None
        found = (each for each in self.patterns if each.covers(image, trusting=trusting))
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

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._found: dict[tuple[str, str], list[tuple[int, ImagePattern, Rule]]] = defaultdict(list)
        for number, rule in enumerate(rules):
            for pattern in rule.patterns:
                registry = ANY if "*" in pattern.registry else pattern.registry
                self._found[registry, _literal(pattern.repository)].append((number, pattern, rule))

    def __bool__(self) -> bool:
        return bool(self._found)

    def find(self, image: ImageReference, where: Where, *, trusting: bool) -> Rule | None:
        """The first rule that matches, in the order of the policy."""
        if not self._found:
            return None
        first: tuple[int, Rule] | None = None
        for number, pattern, rule in self._candidates(image):
            earlier = first is None or number < first[0]
            if earlier and rule.concerns(where) and pattern.covers(image, trusting=trusting, namespace=where.namespace):
                first = number, rule
        return first[1] if first else None

    def _candidates(self, image: ImageReference) -> Iterator[tuple[int, ImagePattern, Rule]]:
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
        believes_tags: whether tags are taken at their word, where nobody can look up which digests they stand for.
        require: what is asked of images that are allowed.
        exceptions: see `facing`.
    """

    kind: str
    name: str
    default: Effect
    rules: tuple[Rule, ...] = ()
    namespace: str = ""
    mode: Mode = Mode.ENFORCE
    controllers: Mode = Mode.WARN
    namespaces: Namespaces = Namespaces()
    require: tuple[Requirement, ...] = ()
    mutate: Mutations = Mutations()
    believes_tags: bool = False
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
        """Whether it is about what is in this namespace: also where that depends on labels that are not known."""
        return self.surely_applies(namespace, labels) is not False

    def surely_applies(self, namespace: str, labels: Mapping[str, str] | None) -> bool | None:
        """The same; None where it depends on labels that are not known."""
        if self.kind == NAMESPACED:
            return namespace == self.namespace
        return self.namespaces.cover(namespace, labels)

    def facing(
        self, image: ImageReference, where: Where = UNKNOWN, *, vouched: bool = False
    ) -> tuple[Policy, StandingException | None]:
        """What is left of the policy for an image, and the exception by which it is not all of it; like `decide`."""
        if not self.exceptions:
            return self, None
        trusting = not (vouched or self.believes_tags)
        found = [
            (pattern, each)
            for each in self.exceptions
            if (pattern := each.covering(image, where, trusting=trusting)) is not None
        ]
        for pattern, exception in sorted(found, key=lambda pair: pair[0].digest is None):
            return (self.recalls if pattern.digest is None else self._nothing), exception
        return self, None

    def decide(
        self, image: ImageReference, where: Where = UNKNOWN, *, vouched: bool = False
    ) -> tuple[Effect, Rule | None]:
        """What the rules say, and the one that says it; None where it is the default. Deny wins over allow.

        Args:
            image: any.
            where: it is to run.
            vouched: whether its tag, beside a digest, stands for that digest or once did.
        """
        if rule := self._denying.find(image, where, trusting=False):
            return Effect.DENY, rule
        if rule := self._allowing.find(image, where, trusting=not (vouched or self.believes_tags)):
            return Effect.ALLOW, rule
        return self.default, None

    def denies_some_digest_of(self, image: ImageReference, where: Where = UNKNOWN) -> bool:
        """Whether it takes a look at what the image stands for: one that its name may stand for is denied by digest."""
        return image.digest is None and self._denied_digests.find(image, where, trusting=False) is not None

    @cached_property
    def needs(self) -> frozenset[Need]:
        """What has to be looked up of each image that it allows."""
        return frozenset(need for each in self.require for need in each.needs)

    @cached_property
    def looks_up(self) -> bool:
        """Whether it takes a look at any image that is named by a tag or a digest alone."""
        return bool(self.needs or self._denied_digests)

    @cached_property
    def denies_digests(self) -> bool:
        """Whether a rule denies by digest."""
        return next(_by_digest(self.rules), None) is not None

    @cached_property
    def hinges_on_tags(self) -> bool:
        """Whether it takes the registry to know if a tag that is allowed stands for the digest beside it."""
        allowing = (rule.patterns for rule in self.rules if rule.effect is Effect.ALLOW)
        excepting = (each.patterns for each in self.exceptions)
        return any(pattern.by_tag for patterns in (*allowing, *excepting) for pattern in patterns)

    @cached_property
    def without_content(self) -> Policy:
        """The policy as far as it can be decided without asking a registry."""
        require = tuple(each for each in self.require if not each.needs)
        return replace(self, require=require, believes_tags=True)

    @cached_property
    def when_pinned(self) -> Policy:
        """The policy of images that will be pinned to digests: it asks for nothing that they get by that."""
        return replace(self, require=tuple(each for each in self.require if not each.met_by_pinning))

    @cached_property
    def recalls(self) -> Policy:
        """What it denies by digest, and nothing else; its exceptions are those that it has."""
        return replace(self, default=Effect.ALLOW, rules=tuple(_by_digest(self.rules)), require=())

    @cached_property
    def _nothing(self) -> Policy:
        return replace(self, default=Effect.ALLOW, rules=(), require=(), exceptions=())

    @cached_property
    def _denied_digests(self) -> Index:
        """The rules that deny by digest, as if they denied whatever has the name."""
        return Index(
            replace(rule, patterns=tuple(each.any_digest() for each in rule.patterns))
            for rule in _by_digest(() if self.believes_tags else self.rules)
        )

    @cached_property
    def _denying(self) -> Index:
        return Index(rule for rule in self.rules if rule.effect is Effect.DENY)

    @cached_property
    def _allowing(self) -> Index:
        return Index(rule for rule in self.rules if rule.effect is Effect.ALLOW)


def _by_digest(rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules that deny, as far as they name digests."""
    for rule in rules:
        patterns = tuple(each for each in rule.patterns if each.digest is not None)
        if patterns and rule.effect is Effect.DENY:
            yield replace(rule, patterns=patterns)
