"""The verdict of a cluster, as far as it is known without one.

Images are evaluated by the names that the mutations of policies give them, as in a cluster. Facts that only a registry
knows, such as the digest of a tag, are missing here; where the verdict depends on them, it is undecided.
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
    from trow.policy.pods import ImageUse, Kind
    from trow.policy.rules import Mutations, Policy

PINNED: Final = "mutate.pinDigests"
PULLED_THROUGH: Final = "mutate.pullThrough"
LABELS: Final = "namespaceSelector"
# The facts about an image of another registry.
_ABSENT: Final = ImageFacts(exists=False)
_MOST_CACHED: Final = 50_000
_ASK: Final = "ask a cluster, with kubectl apply --dry-run=server"
_CONFIGURE: Final = "give Trow's configuration with -f too: its admission.pull_through has the names"


class EvaluationOutcome(Enum):
    """The outcome of an evaluation, from best to worst."""

    ALLOWED = "allowed"
    AUDITED = "audited"
    WARNED = "warned"
    UNDECIDED = "undecided"
    DENIED = "denied"

    @property
    def severity(self) -> int:
        """Larger is worse."""
        return _OUTCOMES.index(self)


_OUTCOMES: Final = tuple(EvaluationOutcome)
_DENIAL: Final = {
    Mode.ENFORCE: EvaluationOutcome.DENIED,
    Mode.WARN: EvaluationOutcome.WARNED,
    Mode.AUDIT: EvaluationOutcome.AUDITED,
    Mode.IGNORE: EvaluationOutcome.AUDITED,
}
# The outcome of a finding that is unknown.
_UNDECIDED: Final = {**_DENIAL, Mode.ENFORCE: EvaluationOutcome.UNDECIDED}


def worst(outcomes: Iterable[EvaluationOutcome]) -> EvaluationOutcome:
    """The worst outcome; allowed if there is none."""
    return max(outcomes, key=lambda each: each.severity, default=EvaluationOutcome.ALLOWED)


@dataclass(frozen=True, slots=True)
class PolicyEvaluation:
    """The finding of one policy about one image, and its outcome."""

    finding: Finding
    outcome: EvaluationOutcome


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """The settings of the cluster's Trow; None if its configuration was not passed.

    Attributes:
        registries: its names; only images of these are pinned.
        prefixes: the prefixes of pull-through names, by upstream registry.
    """

    registries: frozenset[str] | None = None
    prefixes: Mapping[str, str] | None = None

    @classmethod
    def of(cls, config: Config) -> ClusterSettings:
        """The settings in a configuration."""
        settings = config.admission
        return cls(frozenset(settings.registry_names), prefixes_of(settings.pull_through))

    def may_have(self, image: ImageReference) -> bool:
        """Whether the image may be in its registry."""
        return self.registries is None or image.registry in self.registries


class OfflineJudge:
    """Evaluates policies as a cluster would, as far as that is possible without a registry.

    Args:
        rules: policies and exceptions.
        now: seconds of Unix time.
        settings: of the cluster's Trow.
    """

    def __init__(self, rules: Rules, now: float, settings: ClusterSettings | None = None) -> None:
        self._now = now
        self._rules = rules
        self._settings = settings or ClusterSettings()
        self._exceptions = [each for each in rules.exceptions if each.active(now)]
        # The Pods of one template have the same images.
        self._cached = functools.lru_cache(_MOST_CACHED)(self._evaluate)

    def changed(self, namespace: str, use: ImageUse) -> ImageUse:
        """The image under the name that Pods in this namespace get, without the digest that they may get."""
        if not self._rules.mutations(namespace).pull_through:
            return use
        return replace(use, text=renamed(use.text, self._settings.prefixes or {}))

    def evaluate(self, namespace: str, kind: Kind, use: ImageUse) -> tuple[PolicyEvaluation, ...]:
        """How each policy that applies in the namespace evaluates an image.

        Args:
            namespace: of the object.
            kind: of the object; a workload is evaluated as its Pods, by the names that they get.
            use: the field that names the image.
        """
        if not use.pull_policy and use.field and kind.known and (image := reference_of(use.text)):
            # The API server sets this default in built-in kinds before admission.
            use = replace(use, pull_policy=default_pull_policy(image))
        return self._cached(namespace, kind, use)

    def _evaluate(self, namespace: str, kind: Kind, use: ImageUse) -> tuple[PolicyEvaluation, ...]:
        if has_parameters(kind, use.text):
            return tuple(_incomplete(policy, use) for policy in self._rules.applying(namespace))
        return tuple(self._evaluate_image(namespace, use))

    def _evaluate_image(self, namespace: str, use: ImageUse) -> Iterator[PolicyEvaluation]:
        mutations, changed = self._rules.mutations(namespace), self.changed(namespace, use)
        for policy in self._rules.policies:
            applies = policy.surely_applies(namespace, self._rules.labels.of(namespace))
            if applies is False:
                continue
            result = self._evaluate_policy(policy, namespace, changed)
            if result.finding.unknown is not Need.DIGEST:
                result = self._after_mutations(policy, namespace, mutations, changed, result)
            if applies is None and result.outcome is not EvaluationOutcome.ALLOWED:
                reason = f"is not allowed if the policy selects {namespace}, which depends on that namespace's labels"
                remedy = f"add the Namespace {namespace} to the files"
                result = _undecided(replace(result.finding, rule=LABELS, reason=reason, remedy=remedy))
            yield result

    def _evaluate_policy(self, policy: Policy, namespace: str, use: ImageUse) -> PolicyEvaluation:
        finding = self._finding(policy, namespace, use)
        if finding.allowed:
            return PolicyEvaluation(finding, EvaluationOutcome.ALLOWED)
        if finding.unknown is None:
            return PolicyEvaluation(finding, _DENIAL[finding.mode])
        if finding.unknown is Need.DIGEST:
            rule = self._finding(policy.by_name_only, namespace, use).rule
            reason = "is allowed, if it does not stand for a digest that is denied"
        else:
            rule = ", ".join(each.name for each in policy.require if each.needs) or finding.rule
            reason = "cannot be decided without the registry"
        return _undecided(replace(finding, rule=rule, reason=reason, remedy=_ASK))

    def _finding(self, policy: Policy, namespace: str, use: ImageUse) -> Finding:
        image = reference_of(use.text)
        facts = {} if image is None or self._settings.may_have(image) else {image: _ABSENT}
        return finding_of(policy, ImageRequest(namespace, (use,)), use, facts, self._now, self._exceptions)

    def _after_mutations(
        self, policy: Policy, namespace: str, mutations: Mutations, use: ImageUse, result: PolicyEvaluation
    ) -> PolicyEvaluation:
        """The result; undecided if it depends on a mutation whose outcome is not known here."""
        image = reference_of(use.text)
        if image is None:
            return result
        pinned = mutations.pin_digests and image.digest is None and self._settings.may_have(image)
        if pinned and self._depends_on_digest(policy, namespace, use, image, result):
            rule, reason, remedy = PINNED, "gets the digest that its tag has in the registry, if it is there", _ASK
        elif mutations.pull_through and self._settings.prefixes is None and self._depends_on_name(policy, result):
            rule, reason, remedy = PULLED_THROUGH, "may get the name by which it is pulled through", _CONFIGURE
        else:
            return result
        return _undecided(replace(result.finding, allowed=False, rule=rule, reason=reason, remedy=remedy, exception=""))

    def _depends_on_digest(
        self, policy: Policy, namespace: str, use: ImageUse, image: ImageReference, result: PolicyEvaluation
    ) -> bool:
        """Whether the result may change once the image is pinned to some digest."""
        pinned = self._evaluate_policy(policy.when_pinned, namespace, use)
        patterns = [pattern for rule in policy.rules for pattern in rule.patterns]
        patterns += [pattern for each in policy.exceptions for pattern in each.patterns]
        patterns += [
            pattern for each in self._rules.exceptions if policy.title in each.policies for pattern in each.patterns
        ]
        return pinned.outcome is not result.outcome or any(
            pattern.any_digest().covers(image, ignore_tag=False) for pattern in patterns if pattern.digest
        )

    def _depends_on_name(self, policy: Policy, result: PolicyEvaluation) -> bool:
        """Whether the result may change under the pull-through name; rules that match one name match both."""
        if any(policy.title in exception.policies for exception in self._rules.exceptions):
            return True
        if result.outcome is not EvaluationOutcome.ALLOWED:
            return result.finding.rule == DEFAULT
        return any(rule.effect is Effect.DENY for rule in policy.rules)


def _incomplete(policy: Policy, use: ImageUse) -> PolicyEvaluation:
    """The result for a name with parameters, which a controller replaces."""
    reason, remedy = "has parameters that are replaced when Pods are made", "test it with the parameters replaced"
    return _undecided(
        Finding(policy.title, INVALID, policy.mode, use, None, allowed=False, reason=reason, remedy=remedy)
    )


def _undecided(finding: Finding) -> PolicyEvaluation:
    return PolicyEvaluation(finding, _UNDECIDED[finding.mode])
