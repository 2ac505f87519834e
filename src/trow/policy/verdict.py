"""May this run: all policies that apply are asked about each image, and every one of them has to be content.

So a policy of a namespace can only tighten what the cluster's policies allow. Nothing here looks anything up: what the
registry knows of an image is handed in as `ImageFacts`. A verdict that depends on what is not known is unknown, which
is not a permission.
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
from trow.policy.requirements import Candidate, Exists, Objection, unmet
from trow.policy.rules import Effect, Mode, Mutations, RunContext
from trow.policy.selectors import NO_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.policy.facts import ImageFacts
    from trow.policy.images import ImageReference
    from trow.policy.patterns import ImagePattern
    from trow.policy.rules import ImageRule, Policy, StandingException
    from trow.policy.selectors import Labels

# What findings name where no rule does.
DEFAULT: Final = "default"
INVALID: Final = "invalid-image"
LONGEST_EXCEPTION: Final = 24 * 3600.0
_WHOLE: Final = ImageUse("", "the object", "")
# Patterns that a denial shows.
_SHOWN: Final = 3
_UNKNOWN_DIGEST: Final = Objection(
    Exists.name, "is not known: this registry could not be asked what it stands for", "try again", Need.DIGEST
)
_NOTHING: Final[frozenset[Need]] = frozenset()
_TAG: Final = frozenset({Need.TAG})
_DIGEST: Final = frozenset({Need.DIGEST})


@dataclass(frozen=True, slots=True)
class PolicyException:
    """Leave to run certain images against certain policies for a short time.

    Attributes:
        approver: who approved; "" as long as nobody did.
        begins: seconds of Unix time.
        duration: seconds, of which no more than `LONGEST_EXCEPTION` count.
        policies: their titles.
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
        """When it is over, in seconds of Unix time."""
        return self.begins + min(self.duration, LONGEST_EXCEPTION)

    def active(self, now: float) -> bool:
        """Whether it was approved by somebody else, has begun and is not over."""
        return self.approver not in ("", self.requester) and self.begins <= now < self.ends

    def exempts(self, policy: Policy, namespace: str, image: ImageReference, *, tag_verified: bool) -> bool:
        """Whether this image may run against this policy in this namespace; ``tag_verified`` as in `ImageFacts`."""
        ignore_tag = not (tag_verified or policy.trusts_tags)
        return (
            policy.title in self.policies
            and namespace in self.namespaces
            and any(pattern.covers(image, ignore_tag=ignore_tag) for pattern in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What one policy says of one image.

    Attributes:
        policy: its title.
        rule: the rule, the requirement or `DEFAULT` that made it so.
        mode: what comes of it if it is a denial.
        allowed: False also where that is not known.
        reason: what is the matter, in words.
        remedy: what would make it pass, in words.
        exception: the name of the exception that turned a denial round; "" for none.
        unknown: what was not found out, on which it depends; None: it is certain.
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
    """What all policies say of one image.

    Attributes:
        use: the field that names it.
        findings: one for each policy that applies, in their order.
    """

    use: ImageUse
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Verdict:
    """What all policies say of all images."""

    images: tuple[ImageVerdict, ...] = ()

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What each policy says of each image."""
        return tuple(finding for image in self.images for finding in image.findings)

    def denials(self, mode: Mode) -> tuple[Finding, ...]:
        """What policies of this mode do not allow, or cannot know."""
        return tuple(finding for finding in self._denials if finding.mode is mode)

    @cached_property
    def _denials(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.allowed)

    @property
    def allowed(self) -> bool:
        """Whether it may run: every policy that is enforced allows it."""
        return not any(finding.mode is Mode.ENFORCE for finding in self._denials)

    @cached_property
    def exempt(self) -> tuple[Finding, ...]:
        """What runs only because of an exception."""
        return tuple(finding for finding in self.findings if finding.exception)


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Images that somebody wants to run.

    Attributes:
        namespace: where.
        uses: each field that names an image.
        stage: whether these are of a Pod, or of what makes Pods.
    """

    namespace: str
    uses: tuple[ImageUse, ...]
    stage: Stage = Stage.POD


@dataclass(frozen=True, slots=True)
class Rules:
    """All there is to decide by.

    Attributes:
        labels: of namespaces; where they are not known, a policy that asks for some applies.
    """

    policies: tuple[Policy, ...] = ()
    exceptions: tuple[PolicyException, ...] = ()
    labels: Labels = NO_LABELS

    def applying(self, namespace: str) -> tuple[Policy, ...]:
        """The policies that are about what is in this namespace."""
        labels = self.labels.of(namespace)
        return tuple(policy for policy in self.policies if policy.applies(namespace, labels))

    def wanted(self, namespace: str) -> Mutations:
        """What is changed in Pods of this namespace: whatever any of its policies asks for."""
        asked = [policy.mutate for policy in self.applying(namespace)]
        return Mutations(any(each.pin_digests for each in asked), any(each.pull_through for each in asked))


def asks_about(rules: Rules, request: ImageRequest) -> Mapping[ImageReference, frozenset[Need]]:
    """What has to be looked up of which images: nothing that a rule decides alone."""
    applying = rules.applying(request.namespace)
    wanted: dict[ImageReference, frozenset[Need]] = {}
    for use in request.uses:
        if (image := reference_of(use.text)) is None:
            continue
        for policy in applying:
            if needs := _needs(policy, image, request, use, rules.exceptions):
                wanted[image] = wanted.get(image, _NOTHING) | needs
    return wanted


def _where(request: ImageRequest, use: ImageUse) -> RunContext:
    return RunContext(request.namespace, use.used_by)


def _needs(
    policy: Policy, image: ImageReference, request: ImageRequest, use: ImageUse, exceptions: Sequence[PolicyException]
) -> frozenset[Need]:
    ambiguous = image.tag is not None and image.digest is not None
    if not (ambiguous or policy.needs_lookup):
        return _NOTHING
    where = _where(request, use)
    left, exception = policy.after_exceptions(image, where)
    if ambiguous and exception is None and policy.after_exceptions(image, where, tag_verified=True)[1] is not None:
        return left.needs | _TAG
    effect, rule = left.evaluate(image, where)
    if effect is Effect.ALLOW:
        needs = left.needs | (_DIGEST if left.denies_some_digest_of(image, where) else _NOTHING)
        return needs | _TAG if needs and ambiguous else needs
    if not ambiguous:
        return _NOTHING
    if rule is None and policy.evaluate(image, where, tag_verified=True)[0] is Effect.ALLOW:
        return left.needs | _TAG
    excepted = any(
        pattern.covers(image, ignore_tag=False)
        for exception in exceptions
        if policy.title in exception.policies
        for pattern in exception.patterns
    )
    return _TAG if excepted else _NOTHING


def judge(
    rules: Rules, request: ImageRequest, facts: Mapping[ImageReference, ImageFacts | None], now: float
) -> Verdict:
    """Ask every policy that applies about every image.

    Args:
        rules: all policies and exceptions.
        request: what is to run.
        facts: what is known of the images that `asks_about` names; what is absent, or None, is not known.
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
    """The verdict on something whose images cannot be told: every policy is against it.

    Args:
        rules: all policies and exceptions.
        request: its one use says where the trouble is; without any, it is in the whole object.
        why: in words.
    """
    applying = rules.applying(request.namespace)
    return Verdict(
        tuple(
            ImageVerdict(use, tuple(_unreadable(policy, request, use, why) for policy in applying))
            for use in request.uses or (_WHOLE,)
        )
    )


def _unreadable(policy: Policy, request: ImageRequest, use: ImageUse, why: str) -> Finding:
    return Finding(policy.title, INVALID, policy.mode_of(request.stage), use, None, allowed=False, reason=why)


def finding_of(
    policy: Policy,
    request: ImageRequest,
    use: ImageUse,
    facts: Mapping[ImageReference, ImageFacts | None],
    now: float,
    exceptions: Sequence[PolicyException],
) -> Finding:
    """What a policy says of one of the images; ``exceptions`` are those in force, the rest is as for `judge`."""
    try:
        image = images.parse(use.text)
    except InvalidImage as error:
        return _unreadable(policy, request, use, f"cannot be read: {error}")
    candidate = Candidate(use, image, facts.get(image), now)
    if candidate.facts is not None:
        return _found(policy, request, candidate, exceptions, tag_verified=candidate.facts.tag_verified)
    found = _found(policy, request, candidate, exceptions, tag_verified=False)
    if found.allowed or image.tag is None or image.digest is None:
        return found
    # Nobody knows whether the tag stands for the digest: it is denied if that makes no difference.
    tag_verified = _found(policy, request, candidate, exceptions, tag_verified=True)
    return replace(found, unknown=Need.TAG) if tag_verified.allowed or tag_verified.unknown else tag_verified


def _found(
    policy: Policy,
    request: ImageRequest,
    candidate: Candidate,
    exceptions: Sequence[PolicyException],
    *,
    tag_verified: bool,
) -> Finding:
    """The finding, where the tag beside a digest stands for that or does not."""
    use, image = candidate.use, candidate.image
    mode, where = policy.mode_of(request.stage), _where(request, use)
    left, standing = policy.after_exceptions(image, where, tag_verified=tag_verified)
    effect, rule = _decided(left, candidate, where, tag_verified=tag_verified)
    objection = _denied(policy, where, rule) if effect is Effect.DENY else _objection(left, candidate, where)
    if objection is None:
        name, reason = (rule.name if rule else DEFAULT), "is allowed"
        if standing is not None:
            name, reason = named(standing), f"is exempt: {standing.reason}"
        return Finding(policy.title, name, mode, use, image, allowed=True, reason=reason)
    name, reason, remedy, unknown = objection
    for exception in exceptions:  # one that covers all of it by itself
        if exception.exempts(policy, request.namespace, image, tag_verified=tag_verified):
            reason = f"{reason}, but {exception.name} exempts it: {exception.reason}"
            return Finding(policy.title, name, mode, use, image, True, reason, remedy, exception.name)
    return Finding(policy.title, name, mode, use, image, False, reason, remedy, unknown=unknown)


def _objection(policy: Policy, candidate: Candidate, where: RunContext) -> Objection | None:
    """What is the matter with an image that the rules allow."""
    found = unmet(policy.require, candidate)
    if found is None and candidate.facts is None and policy.denies_some_digest_of(candidate.image, where):
        return _UNKNOWN_DIGEST
    return found


def named(exception: StandingException) -> str:
    """What findings name where an exception of the policy itself is why an image may run."""
    return f"exceptions.{exception.name}"


def _decided(
    policy: Policy, candidate: Candidate, where: RunContext, *, tag_verified: bool
) -> tuple[Effect, ImageRule | None]:
    """What the rules say of what is asked for, and of what that stands for: a digest is denied by any of its names."""
    image, facts = candidate.image, candidate.facts
    if facts is not None and facts.digest is not None and image.digest is None:
        denying = policy.evaluate(replace(image, digest=facts.digest), where)
        if denying[1] is not None and denying[0] is Effect.DENY:
            return denying
    return policy.evaluate(image, where, tag_verified=tag_verified)


def _denied(policy: Policy, where: RunContext, rule: ImageRule | None) -> Objection:
    if rule is not None:
        return Objection(rule.name, "is denied", "use an image that this rule does not match")
    remedy = allowed_images(policy)
    return Objection(DEFAULT, "is not allowed by any rule", remedy.replace(NAMESPACE, where.namespace or NAMESPACE))


def allowed_images(policy: Policy) -> str:
    """What would pass, for people: the first patterns of the rules that allow, with `NAMESPACE` in them."""
    found = [
        f"{pattern}{_uses(rule)}" for rule in policy.rules if rule.effect is Effect.ALLOW for pattern in rule.patterns
    ]
    if not found:
        return "this policy allows nothing yet: it needs a rule with the action Allow"
    more = f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"use one of {', '.join(found[:_SHOWN])}{more}"


def _uses(rule: ImageRule) -> str:
    return f" in {' and '.join(each.value for each in rule.used_by)}" if rule.used_by else ""
