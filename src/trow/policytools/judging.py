"""The verdict of a cluster, as far as it is known without one.

Where policies have Pods changed, what they are changed to is judged, as in a cluster. Which digest a tag gets, and what
else only a registry knows, nobody knows here; where the verdict depends on it, it is undecided.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from trow.policy.changes import prefixes_of, reference_of, renamed
from trow.policy.facts import ImageFacts, Need
from trow.policy.kinds import has_parameters
from trow.policy.pods import default_pull_policy
from trow.policy.rules import Effect, Mode
from trow.policy.verdict import DEFAULT, INVALID, Finding, ImageRequest, Rules, finding_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trow.config import Config
    from trow.policy.images import ImageReference
    from trow.policy.patterns import ImagePattern
    from trow.policy.pods import ImageUse, Kind
    from trow.policy.rules import Mutations, Policy

PINNED: Final = "mutate.pinDigests"
PULLED_THROUGH: Final = "mutate.pullThrough"
LABELS: Final = "namespaceSelector"
# What this registry knows of an image of another one.
_ABSENT: Final = ImageFacts(exists=False)
_REMEMBERED: Final = 50_000
_ASK: Final = "ask a cluster, with kubectl apply --dry-run=server"
_CONFIGURE: Final = "name Trow's configuration by -f too: its admission.pull_through says which"


class EvaluationOutcome(Enum):
    """What comes of it, from best to worst."""

    ALLOWED = "allowed"
    AUDITED = "audited"
    WARNED = "warned"
    UNDECIDED = "undecided"
    DENIED = "denied"


_WORST: Final = tuple(EvaluationOutcome)
_DENIAL: Final = {Mode.ENFORCE: EvaluationOutcome.DENIED, Mode.WARN: EvaluationOutcome.WARNED}


def worst(outcomes: Iterable[EvaluationOutcome]) -> EvaluationOutcome:
    """The one that counts for all of them."""
    return max(outcomes, key=_WORST.index, default=EvaluationOutcome.ALLOWED)


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """What one policy says of one image, and what comes of that."""

    finding: Finding
    outcome: EvaluationOutcome


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What is known of the Trow that a cluster asks; None where its configuration was not given.

    Attributes:
        registries: its names; it pins images of these only.
        prefixes: what names of images of other registries begin with here, by registry.
    """

    registries: frozenset[str] | None = None
    prefixes: Mapping[str, str] | None = None

    @classmethod
    def of(cls, config: Config) -> ClusterSettings:
        """What a configuration says."""
        settings = config.admission
        return cls(frozenset(settings.registry_names), prefixes_of(settings.pull_through))

    def may_have(self, image: ImageReference) -> bool:
        """Whether it may know the image."""
        return self.registries is None or image.registry in self.registries


class OfflineJudge:
    """Asks policies as a cluster would, as far as that goes without a registry.

    Args:
        rules: policies and exceptions.
        now: seconds of Unix time.
        settings: what is known of the cluster's Trow.
    """

    def __init__(self, rules: Rules, now: float, settings: ClusterSettings | None = None) -> None:
        self._now = now
        self._rules = rules
        self._settings = settings or ClusterSettings()
        self._exceptions = [each for each in rules.exceptions if each.active(now)]
        # Pods of the same template are asked about again and again.
        self._told = functools.lru_cache(_REMEMBERED)(self._evaluate)

    def changed(self, namespace: str, use: ImageUse) -> ImageUse:
        """The image under the name that a Pod in this namespace gets for it, but for its digest."""
        if not self._rules.mutations(namespace).pull_through:
            return use
        return replace(use, text=renamed(use.text, self._settings.prefixes or {}))

    def evaluate(self, namespace: str, kind: Kind, use: ImageUse) -> tuple[PolicyEvaluation, ...]:
        """What each policy that applies in the namespace says of an image.

        Args:
            namespace: where.
            kind: of the object; one that makes Pods is judged as they are, by the names that they get.
            use: as it is written.
        """
        return self._told(namespace, kind, _as_stored(kind, use))

    def _evaluate(self, namespace: str, kind: Kind, use: ImageUse) -> tuple[PolicyEvaluation, ...]:
        filled_in = has_parameters(kind, use.text)
        return tuple(self._of_unfinished(namespace, use) if filled_in else self._of_image(namespace, use))

    def _of_image(self, namespace: str, use: ImageUse) -> Iterator[PolicyEvaluation]:
        wanted, changed = self._rules.mutations(namespace), self.changed(namespace, use)
        for policy in self._rules.policies:
            applies = policy.surely_applies(namespace, self._rules.labels.of(namespace))
            if applies is False:
                continue
            result = self._of_pod(policy, namespace, wanted, changed)
            yield result if applies else _if_it_applies(result, namespace)

    def _of_pod(self, policy: Policy, namespace: str, wanted: Mutations, use: ImageUse) -> PolicyEvaluation:
        result = self._evaluate_policy(policy, namespace, use)
        if result.finding.unknown is Need.DIGEST:
            return result
        rule, reason, remedy = self._doubt(policy, namespace, wanted, use, result) or ("", "", "")
        if not rule:
            return result
        doubted = replace(result.finding, allowed=False, rule=rule, reason=reason, remedy=remedy, exception="")
        return PolicyEvaluation(doubted, _undecided(doubted.mode))

    def _evaluate_policy(self, policy: Policy, namespace: str, use: ImageUse) -> PolicyEvaluation:
        finding = self._finding(policy, namespace, use)
        if finding.allowed:
            return PolicyEvaluation(finding, EvaluationOutcome.ALLOWED)
        if finding.unknown is None:
            return PolicyEvaluation(finding, _DENIAL.get(finding.mode, EvaluationOutcome.AUDITED))
        if finding.unknown is Need.DIGEST:
            rule = self._finding(policy.by_name_only, namespace, use).rule
            reason = "is allowed, if it does not stand for a digest that is denied"
        else:
            rule = ", ".join(each.name for each in policy.require if each.needs) or finding.rule
            reason = "cannot be decided without the registry"
        return PolicyEvaluation(replace(finding, rule=rule, reason=reason, remedy=_ASK), _undecided(finding.mode))

    def _finding(self, policy: Policy, namespace: str, use: ImageUse) -> Finding:
        image = reference_of(use.text)
        facts = {} if image is None or self._settings.may_have(image) else {image: _ABSENT}
        return finding_of(policy, ImageRequest(namespace, (use,)), use, facts, self._now, self._exceptions)

    # ---- what nobody knows here

    def _doubt(
        self, policy: Policy, namespace: str, wanted: Mutations, use: ImageUse, result: PolicyEvaluation
    ) -> tuple[str, str, str] | None:
        """What the verdict depends on, if that is not known: rule, reason and remedy."""
        image = reference_of(use.text)
        if image is None:
            return None
        pinned = wanted.pin_digests and image.digest is None and self._settings.may_have(image)
        if pinned and self._depends_on_digest(policy, namespace, use, image, result):
            return PINNED, "gets the digest that its tag has in the registry, if it is there", _ASK
        if wanted.pull_through and self._settings.prefixes is None and self._hinges_on_name(policy, result):
            return PULLED_THROUGH, "may get the name by which it is pulled through", _CONFIGURE
        return None

    def _depends_on_digest(
        self, policy: Policy, namespace: str, use: ImageUse, image: ImageReference, result: PolicyEvaluation
    ) -> bool:
        """Whether it makes a difference that the image gets some digest, which the registry vouches for."""
        pinned = self._evaluate_policy(policy.when_pinned, namespace, use)
        by_digest = (pattern.any_digest() for pattern in self._patterns(policy) if pattern.digest)
        return pinned.outcome is not result.outcome or any(each.covers(image, ignore_tag=False) for each in by_digest)

    def _hinges_on_name(self, policy: Policy, result: PolicyEvaluation) -> bool:
        """Whether another name of the image may be judged otherwise; what rules say of one, they say of the other."""
        if any(policy.title in exception.policies for exception in self._rules.exceptions):
            return True
        if result.outcome is not EvaluationOutcome.ALLOWED:
            return result.finding.rule == DEFAULT
        return any(rule.effect is Effect.DENY for rule in policy.rules)

    def _patterns(self, policy: Policy) -> Iterator[ImagePattern]:
        for rule in policy.rules:
            yield from rule.patterns
        for standing in policy.exceptions:
            yield from standing.patterns
        for exception in self._rules.exceptions:
            yield from exception.patterns if policy.title in exception.policies else ()

    def _of_unfinished(self, namespace: str, use: ImageUse) -> Iterator[PolicyEvaluation]:
        """What each policy that applies says of an image whose name is not finished yet: that depends on the rest."""
        reason, remedy = "is filled in when Pods are made of it", "test what it is with that filled in"
        for policy in self._rules.applying(namespace):
            finding = Finding(
                policy.title, INVALID, policy.mode, use, None, allowed=False, reason=reason, remedy=remedy
            )
            yield PolicyEvaluation(finding, _undecided(policy.mode))


def _as_stored(kind: Kind, use: ImageUse) -> ImageUse:
    """With the pull policy that the API server writes into objects of its own kinds before anybody is asked."""
    image = reference_of(use.text)
    if use.pull_policy or image is None or not kind.known or use.field == "":
        return use
    return replace(use, pull_policy=default_pull_policy(image))


def _if_it_applies(result: PolicyEvaluation, namespace: str) -> PolicyEvaluation:
    """What a policy says that may or may not be about the namespace."""
    if result.outcome is EvaluationOutcome.ALLOWED:
        return result
    reason = f"is judged by it if it is about {namespace}, which depends on that namespace's labels"
    remedy = f"put the Namespace {namespace} among the files"
    finding = replace(result.finding, rule=LABELS, reason=reason, remedy=remedy)
    return PolicyEvaluation(finding, _undecided(finding.mode))


def _undecided(mode: Mode) -> EvaluationOutcome:
    return EvaluationOutcome.UNDECIDED if mode is Mode.ENFORCE else _DENIAL.get(mode, EvaluationOutcome.AUDITED)
