"""The verdict on images: every policy that applies evaluates each image, and all of them have to allow it.

So a policy of a namespace can only tighten what the policies of the cluster allow. This module looks nothing up: the
caller passes what the registry knows of an image as `ImageFacts`. A finding that depends on facts which are missing is
unknown, and does not allow the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from trow.lib.globs import NAMESPACE
from trow.policy import images
from trow.policy.changes import reference_of
from trow.policy.facts import Need
from trow.policy.images import InvalidImage
from trow.policy.pods import ImageUse, Stage
from trow.policy.requirements import Candidate, Exists, Violation, unmet
from trow.policy.rules import Effect, Mode, Mutations, RunContext
from trow.policy.selectors import NO_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.policy.facts import ImageFacts
    from trow.policy.images import ImageReference
    from trow.policy.patterns import ImagePattern
    from trow.policy.rules import ImageRule, Policy, StandingException
    from trow.policy.selectors import Labels

# What findings name where no rule decides.
DEFAULT: Final = "default"
INVALID: Final = "invalid-image"
LONGEST_EXCEPTION: Final = 24 * 3600.0
_WHOLE: Final = ImageUse("", "the object", "")
# Patterns that a denial shows.
_SHOWN: Final = 3
_UNKNOWN_DIGEST: Final = Violation(
    Exists.name, "is not known: this registry could not be asked for its digest", "try again", Need.DIGEST
)
_NOTHING: Final[frozenset[Need]] = frozenset()
_TAG: Final = frozenset({Need.TAG})
_DIGEST: Final = frozenset({Need.DIGEST})


@dataclass(frozen=True, slots=True)
class PolicyException:
    """An object that lets certain images run against certain policies for a short time.

    Attributes:
        approver: who approved it; "" if nobody has.
        begins: seconds of Unix time.
        duration: seconds, limited to `LONGEST_EXCEPTION`.
        policies: the titles of policies.
    """

    name: str
    reason: str
    requester: str
    approver: str
    begins: float
    duration: float
    namespaces: frozenset[str]
    policies: frozenset[str]
    patterns: tuple[ImagePattern, ...]

    @property
    def ends(self) -> float:
        """Its end, in seconds of Unix time."""
        return self.begins + min(self.duration, LONGEST_EXCEPTION)

    def active(self, now: float) -> bool:
        """Whether somebody other than the requester has approved it, and it has begun and not ended."""
        return self.approver not in ("", self.requester) and self.begins <= now < self.ends

    def exempts(self, policy: Policy, namespace: str, image: ImageReference, *, tag_verified: bool) -> bool:
        """Whether it exempts the image from the policy in the namespace; ``tag_verified`` as in `ImageFacts`."""
        ignore_tag = not (tag_verified or policy.trusts_tags)
        return (
            policy.title in self.policies
            and namespace in self.namespaces
            and any(pattern.covers(image, ignore_tag=ignore_tag) for pattern in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What one policy says about one image.

    Attributes:
        policy: the title of the policy.
        rule: the rule, requirement or `DEFAULT` that decided.
        mode: what a denial leads to.
        allowed: False also where it is unknown.
        reason: why, as the end of a sentence that begins with the image.
        remedy: what would be allowed, for people.
        exception: the name of the `PolicyException` that exempts a denied image; "" for none.
        unknown: the missing fact on which the finding depends; None if it is certain.
    """

    policy: str
    rule: str
    mode: Mode
    use: ImageUse
    image: ImageReference | None
    allowed: bool
    reason: str
    remedy: str = ""
    exception: str = ""
    unknown: Need | None = None

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return (
            f"{self.use.owner}: {self.image or repr(self.use.text)} {self.reason} ({self.policy}, {self.rule}){remedy}"
        )


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """The findings about one image.

    Attributes:
        use: the field that names the image.
        findings: one for each policy that applies, in the order of the policies.
    """

    use: ImageUse
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Verdict:
    """The findings about all images of a request."""

    images: tuple[ImageVerdict, ...] = ()

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, image by image."""
        return tuple(finding for image in self.images for finding in image.findings)

    def denials(self, mode: Mode) -> tuple[Finding, ...]:
        """The findings of policies with this mode that do not allow the image."""
        return tuple(finding for finding in self._denials if finding.mode is mode)

    @cached_property
    def _denials(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.allowed)

    @property
    def allowed(self) -> bool:
        """Whether every policy that is enforced allows every image."""
        return not any(finding.mode is Mode.ENFORCE for finding in self._denials)

    @cached_property
    def exempt(self) -> tuple[Finding, ...]:
        """The findings that allow the image only because of a `PolicyException`."""
        return tuple(finding for finding in self.findings if finding.exception)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """The images that are to run, all of one object.

    Attributes:
        namespace: where they are to run.
        uses: the fields that name the images.
        stage: whether the object is a Pod, or makes Pods.
    """

    namespace: str
    uses: tuple[ImageUse, ...]
    stage: Stage = Stage.POD


@dataclass(frozen=True, slots=True)
class Rules:
    """All policies and exceptions in force.

    Attributes:
        labels: the labels of namespaces. Where they are not known, a policy that selects by labels applies.
    """

    policies: tuple[Policy, ...] = ()
    exceptions: tuple[PolicyException, ...] = ()
    labels: Labels = NO_LABELS

    def applying(self, namespace: str) -> tuple[Policy, ...]:
        """The policies that apply in this namespace."""
        labels = self.labels.of(namespace)
        return tuple(policy for policy in self.policies if policy.applies(namespace, labels))

    def mutations(self, namespace: str) -> Mutations:
        """The changes to Pods of this namespace: all that any of its policies asks for."""
        asked = [policy.mutate for policy in self.applying(namespace)]
        return Mutations(any(each.pin_digests for each in asked), any(each.pull_through for each in asked))


def needed_facts(rules: Rules, request: ImageRequest) -> Mapping[ImageReference, frozenset[Need]]:
    """The facts that `judge` needs, by image; an image about which a rule alone decides is not among them."""
    applying = rules.applying(request.namespace)
    needed: dict[ImageReference, frozenset[Need]] = {}
    for use in request.uses:
        if (image := reference_of(use.text)) is None:
            continue
        for policy in applying:
            if needs := _needs(policy, image, RunContext(request.namespace, use.used_by), rules.exceptions):
                needed[image] = needed.get(image, _NOTHING) | needs
    return needed


def _needs(
    policy: Policy, image: ImageReference, context: RunContext, exceptions: Sequence[PolicyException]
) -> frozenset[Need]:
    has_both = image.tag is not None and image.digest is not None
    if not (has_both or policy.needs_lookup):
        return _NOTHING
    remaining, exception = policy.after_exceptions(image, context)
    if has_both and exception is None and policy.after_exceptions(image, context, tag_verified=True)[1] is not None:
        return remaining.needs | _TAG
    effect, rule = remaining.evaluate(image, context)
    if effect is Effect.ALLOW:
        needs = remaining.needs | (_DIGEST if remaining.denies_some_digest_of(image, context) else _NOTHING)
        return needs | _TAG if needs and has_both else needs
    if not has_both:
        return _NOTHING
    if rule is None and policy.evaluate(image, context, tag_verified=True)[0] is Effect.ALLOW:
        return remaining.needs | _TAG
    exempt_by_tag = any(
        pattern.covers(image, ignore_tag=False)
        for exception in exceptions
        if policy.title in exception.policies
        for pattern in exception.patterns
    )
    return _TAG if exempt_by_tag else _NOTHING


def judge(
    rules: Rules, request: ImageRequest, facts: Mapping[ImageReference, ImageFacts | None], now: float
) -> Verdict:
    """Evaluate every policy that applies for every image.

    Args:
        rules: all policies and exceptions.
        request: the images that are to run.
        facts: of the images that `needed_facts` names; an image without facts is unknown.
        now: seconds of Unix time.
    """
    applying = rules.applying(request.namespace)
    exceptions = [exception for exception in rules.exceptions if exception.active(now)]
    return Verdict(
        tuple(
            ImageVerdict(use, tuple(finding_of(each, request, use, facts, now, exceptions) for each in applying))
            for use in request.uses
        )
    )


def unreadable(rules: Rules, request: ImageRequest, why: str) -> Verdict:
    """The verdict on an object whose images cannot be found: every policy that applies denies it.

    Args:
        rules: all policies and exceptions.
        request: its uses say which fields cannot be read; without any, the whole object cannot be read.
        why: the reason of the findings.
    """
    applying = rules.applying(request.namespace)
    return Verdict(
        tuple(
            ImageVerdict(use, tuple(_invalid(policy, request, use, why) for policy in applying))
            for use in request.uses or (_WHOLE,)
        )
    )


def _invalid(policy: Policy, request: ImageRequest, use: ImageUse, why: str) -> Finding:
    return Finding(policy.title, INVALID, policy.mode_of(request.stage), use, None, allowed=False, reason=why)


def finding_of(
    policy: Policy,
    request: ImageRequest,
    use: ImageUse,
    facts: Mapping[ImageReference, ImageFacts | None],
    now: float,
    exceptions: Sequence[PolicyException],
) -> Finding:
    """The finding of one policy about one image; ``exceptions`` are the active ones, the rest is as for `judge`."""
    try:
        image = images.parse(use.text)
    except InvalidImage as error:
        return _invalid(policy, request, use, f"cannot be read: {error}")
    candidate = Candidate(use, image, facts.get(image), now)
    if candidate.facts is not None:
        return _finding(policy, request, candidate, exceptions, tag_verified=candidate.facts.tag_verified)
    finding = _finding(policy, request, candidate, exceptions, tag_verified=False)
    if finding.allowed or image.tag is None or image.digest is None:
        return finding
    # Without facts the tag may point at the digest or not. The denial is certain only if both lead to one.
    tag_verified = _finding(policy, request, candidate, exceptions, tag_verified=True)
    return replace(finding, unknown=Need.TAG) if tag_verified.allowed or tag_verified.unknown else tag_verified


def _finding(
    policy: Policy,
    request: ImageRequest,
    candidate: Candidate,
    exceptions: Sequence[PolicyException],
    *,
    tag_verified: bool,
) -> Finding:
    """The finding, given whether the tag beside a digest points at that digest."""
    use, image = candidate.use, candidate.image
    mode, context = policy.mode_of(request.stage), RunContext(request.namespace, use.used_by)
    remaining, standing = policy.after_exceptions(image, context, tag_verified=tag_verified)
    effect, rule = _evaluated(remaining, candidate, context, tag_verified=tag_verified)
    if effect is Effect.DENY:
        violation: Violation | None = _denial(policy, context, rule)
    else:
        violation = unmet(remaining.require, candidate)
        if violation is None and candidate.facts is None and remaining.denies_some_digest_of(image, context):
            violation = _UNKNOWN_DIGEST
    if violation is None:
        name, reason = (rule.name if rule else DEFAULT), "is allowed"
        if standing is not None:
            name, reason = rule_name(standing), f"is exempt: {standing.reason}"
        return Finding(policy.title, name, mode, use, image, allowed=True, reason=reason)
    name, reason, remedy, unknown = violation
    for exception in exceptions:  # two exceptions never combine
        if exception.exempts(policy, request.namespace, image, tag_verified=tag_verified):
            reason = f"{reason}, but {exception.name} exempts it: {exception.reason}"
            return Finding(policy.title, name, mode, use, image, True, reason, remedy, exception.name)
    return Finding(policy.title, name, mode, use, image, False, reason, remedy, unknown=unknown)


def rule_name(exception: StandingException) -> str:
    """What a finding names as its rule where an exception in the policy allows the image."""
    return f"exceptions.{exception.name}"


def _evaluated(
    policy: Policy, candidate: Candidate, context: RunContext, *, tag_verified: bool
) -> tuple[Effect, ImageRule | None]:
    """The effect of the rules on the image and on the digest that its tag points at.

    A rule that denies the digest denies every tag that points at it.
    """
    image, facts = candidate.image, candidate.facts
    if facts is not None and facts.digest is not None and image.digest is None:
        effect, rule = policy.evaluate(replace(image, digest=facts.digest), context)
        if rule is not None and effect is Effect.DENY:
            return effect, rule
    return policy.evaluate(image, context, tag_verified=tag_verified)


def _denial(policy: Policy, context: RunContext, rule: ImageRule | None) -> Violation:
    if rule is not None:
        return Violation(rule.name, "is denied", "use an image that this rule does not match")
    remedy = allowed_images(policy)
    return Violation(DEFAULT, "is not allowed by any rule", remedy.replace(NAMESPACE, context.namespace or NAMESPACE))


def allowed_images(policy: Policy) -> str:
    """A remedy for people: the first patterns of the rules that allow, with `NAMESPACE` in them."""
    found = []
    for rule in policy.rules:
        if rule.effect is Effect.ALLOW:
            used_by = f" in {' and '.join(each.value for each in rule.used_by)}" if rule.used_by else ""
            found += [f"{pattern}{used_by}" for pattern in rule.patterns]
    if not found:
        return "this policy allows nothing yet: it needs a rule with the action Allow"
    more = f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"use one of {', '.join(found[:_SHOWN])}{more}"
