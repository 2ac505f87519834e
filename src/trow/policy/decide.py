"""May this run: all policies that apply are asked about each image, and every one of them has to be content.

So a policy of a namespace can only tighten what the cluster's policies allow. Nothing here looks anything up: what the
registry knows of an image is handed in as `ImageFacts`, and what is not known counts against the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from trow.lib.globs import NAMESPACE
from trow.policy import images
from trow.policy.images import InvalidImage
from trow.policy.pods import ImageUse, Stage
from trow.policy.rules import Effect, Mode, Mutations, Where
from trow.policy.selectors import NO_LABELS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from trow.oci.digest import Digest
    from trow.policy.images import ImageReference
    from trow.policy.patterns import ImagePattern
    from trow.policy.rules import Policy, Requirements, Rule, StandingException
    from trow.policy.selectors import Labels

# What findings name where no rule does.
DEFAULT: Final = "default"
INVALID: Final = "invalid-image"
REQUIRE_DIGEST: Final = "require.digest"
REQUIRE_EXISTS: Final = "require.exists"
REQUIRE_AGE: Final = "require.maxAge"
REQUIRE_PLATFORM: Final = "require.platforms"
FORBID_NEVER: Final = "require.forbidPullPolicyNever"
REQUIRE_ALWAYS: Final = "require.imagePullPolicy"
LONGEST_EXEMPTION: Final = 24 * 3600.0
_WHOLE: Final = ImageUse("", "the object", "")
# Patterns that a denial shows.
_SHOWN: Final = 3
# Seconds, between whoever built an image and this machine.
_CLOCKS_DIFFER: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What this registry knows of an image.

    Attributes:
        exists: whether it is here.
        digest: what the reference stands for at the moment.
        vouched: whether the tag that stands beside a digest stands for it, or once did: then the tag is no mere remark.
        created: when it was made, in seconds of Unix time; None: it does not say.
        platforms: what it can run on, such as ``linux/amd64`` or ``linux/arm/v7``.
    """

    exists: bool
    digest: Digest | None = None
    vouched: bool = False
    created: float | None = None
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exemption:
    """Leave to run certain images against certain policies for a short time.

    Attributes:
        approver: who approved; "" as long as nobody did.
        begins: seconds of Unix time.
        duration: seconds, of which no more than `LONGEST_EXEMPTION` count.
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
        return self.begins + min(self.duration, LONGEST_EXEMPTION)

    def active(self, now: float) -> bool:
        """Whether it was approved by somebody else, has begun and is not over."""
        return self.approver not in ("", self.requester) and self.begins <= now < self.ends

    def excuses(self, policy: Policy, namespace: str, image: ImageReference, *, vouched: bool) -> bool:
        """Whether this image may run against this policy in this namespace; ``vouched`` as in `ImageFacts`."""
        trusting = not (vouched or policy.believes_tags)
        return (
            policy.title in self.policies
            and namespace in self.namespaces
            and any(pattern.covers(image, trusting=trusting) for pattern in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What one policy says of one image.

    Attributes:
        policy: its title.
        rule: the rule, the requirement or `DEFAULT` that made it so.
        mode: what comes of it if it is a denial.
        reason: what is the matter, in words.
        remedy: what would make it pass, in words.
        exemption: the name of the exception that turned a denial round; "" for none.
    """

    policy: str
    rule: str
    mode: Mode
    use: ImageUse
    image: ImageReference | None
    allowed: bool
    reason: str
    remedy: str = ""
    exemption: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return (
            f"{self.use.owner}: {self.image or repr(self.use.text)} {self.reason} ({self.policy}, {self.rule}){remedy}"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all policies say of all images."""

    findings: tuple[Finding, ...] = field(default=())

    def denials(self, mode: Mode) -> tuple[Finding, ...]:
        """What is not allowed by policies of this mode."""
        return tuple(finding for finding in self.findings if not finding.allowed and finding.mode is mode)

    @property
    def allowed(self) -> bool:
        """Whether it may run: no policy that is enforced is against it."""
        return not any(not finding.allowed and finding.mode is Mode.ENFORCE for finding in self.findings)

    @property
    def excused(self) -> tuple[Finding, ...]:
        """What runs only because of an exception."""
        return tuple(finding for finding in self.findings if finding.exemption)


@dataclass(frozen=True, slots=True)
class Request:
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
    exemptions: tuple[Exemption, ...] = ()
    labels: Labels = NO_LABELS

    def applying(self, namespace: str) -> tuple[Policy, ...]:
        """The policies that are about what is in this namespace."""
        labels = self.labels.of(namespace)
        return tuple(policy for policy in self.policies if policy.applies(namespace, labels))

    def wanted(self, namespace: str) -> Mutations:
        """What is changed in Pods of this namespace: whatever any of its policies asks for."""
        asked = [policy.mutate for policy in self.applying(namespace)]
        return Mutations(any(each.pin_digests for each in asked), any(each.pull_through for each in asked))


def asks_about(rules: Rules, request: Request) -> frozenset[ImageReference]:
    """The images whose `ImageFacts` are needed: nothing is looked up that a rule decides alone."""
    applying = rules.applying(request.namespace)
    return frozenset(
        image
        for use in request.uses
        if (image := _parsed(use))
        and any(_asks_about(policy, image, _where(request, use), rules.exemptions) for policy in applying)
    )


def _where(request: Request, use: ImageUse) -> Where:
    return Where(request.namespace, use.used_by)


def _asks_about(policy: Policy, image: ImageReference, where: Where, exemptions: Sequence[Exemption]) -> bool:
    ambiguous = image.tag is not None and image.digest is not None
    if not (ambiguous or policy.looks_up):
        return False
    left, exception = policy.facing(image, where)
    if ambiguous and exception is None and policy.facing(image, where, vouched=True)[1] is not None:
        return True
    effect, rule = left.decide(image, where)
    if effect is Effect.ALLOW:
        return left.require.of_content or left.denies_some_digest_of(image, where)
    if not ambiguous:
        return False
    return (rule is None and policy.decide(image, where, vouched=True)[0] is Effect.ALLOW) or any(
        pattern.covers(image, trusting=False)
        for exemption in exemptions
        if policy.title in exemption.policies
        for pattern in exemption.patterns
    )


def judge(rules: Rules, request: Request, facts: Mapping[ImageReference, ImageFacts | None], now: float) -> Verdict:
    """Ask every policy that applies about every image.

    Args:
        rules: all policies and exceptions.
        request: what is to run.
        facts: what is known of the images that `asks_about` names; None is known of those that could not be looked up,
            which counts against them. Of what is missing nobody was asked: then digests that are denied are found
            where they are written, and requirements of content are not met.
        now: seconds of Unix time.
    """
    exemptions = [exemption for exemption in rules.exemptions if exemption.active(now)]
    return Verdict(
        tuple(
            finding
            for policy in rules.applying(request.namespace)
            for finding in _of_policy(policy, request, facts, now, exemptions)
        )
    )


def unreadable(rules: Rules, request: Request, why: str) -> Verdict:
    """The verdict on something whose images cannot be told: every policy is against it.

    Args:
        rules: all policies and exceptions.
        request: its one use says where the trouble is; without any, it is in the whole object.
        why: in words.
    """
    return Verdict(
        tuple(
            Finding(policy.title, INVALID, policy.mode_of(request.stage), use, None, allowed=False, reason=why)
            for policy in rules.applying(request.namespace)
            for use in request.uses or (_WHOLE,)
        )
    )


def _parsed(use: ImageUse) -> ImageReference | None:
    try:
        return images.parse(use.text)
    except InvalidImage:
        return None


def _of_policy(
    policy: Policy,
    request: Request,
    facts: Mapping[ImageReference, ImageFacts | None],
    now: float,
    exemptions: Sequence[Exemption],
) -> Iterator[Finding]:
    for use in request.uses:
        finding = _of_image(policy, request, use, facts, now)
        if finding.allowed or finding.image is None:
            yield finding
        else:
            known = facts.get(finding.image)
            vouched = known is not None and known.vouched
            yield _excused(finding, finding.image, policy, request.namespace, exemptions, vouched=vouched)


def _of_image(
    policy: Policy, request: Request, use: ImageUse, facts: Mapping[ImageReference, ImageFacts | None], now: float
) -> Finding:
    mode, where = policy.mode_of(request.stage), _where(request, use)
    try:
        image = images.parse(use.text)
    except InvalidImage as error:
        return Finding(policy.title, INVALID, mode, use, None, allowed=False, reason=f"cannot be read: {error}")
    known = facts.get(image)
    left, exception = policy.facing(image, where, vouched=known is not None and known.vouched)
    effect, rule = _decided(left, image, where, known)
    if effect is Effect.DENY:
        name, reason, remedy = _denied(policy, where, rule)
        return Finding(policy.title, name, mode, use, image, allowed=False, reason=reason, remedy=remedy)
    if known is None and image in facts and left.denies_some_digest_of(image, where):
        reason = "is not known: this registry could not be asked what it stands for"
        return Finding(policy.title, REQUIRE_EXISTS, mode, use, image, allowed=False, reason=reason, remedy="try again")
    for requirement, reason, remedy in _unmet(left.require, use, image, known, now):
        return Finding(policy.title, requirement, mode, use, image, allowed=False, reason=reason, remedy=remedy)
    if exception is not None:
        name, reason = named(exception), f"is excepted: {exception.reason}"
    else:
        name, reason = rule.name if rule else DEFAULT, "is allowed"
    return Finding(policy.title, name, mode, use, image, allowed=True, reason=reason)


def named(exception: StandingException) -> str:
    """What findings name where an exception of the policy itself is why an image may run."""
    return f"exceptions.{exception.name}"


def _decided(
    policy: Policy, image: ImageReference, where: Where, known: ImageFacts | None
) -> tuple[Effect, Rule | None]:
    """What the rules say of what is asked for, and of what that stands for: a digest is denied by any of its names."""
    if known is None:
        return policy.decide(image, where)
    if image.digest is None and known.digest is not None:
        denying = policy.decide(replace(image, digest=known.digest), where)
        if denying[1] is not None and denying[0] is Effect.DENY:
            return denying
    return policy.decide(image, where, vouched=known.vouched)


def _denied(policy: Policy, where: Where, rule: Rule | None) -> tuple[str, str, str]:
    """By what an image is denied, reason and remedy."""
    if rule is not None:
        return rule.name, "is denied", "use an image that this rule does not match"
    remedy = allowed_images(policy)
    return DEFAULT, "is allowed by no rule", remedy.replace(NAMESPACE, where.namespace or NAMESPACE)


def allowed_images(policy: Policy) -> str:
    """What would pass, for people: the first patterns of the rules that allow, with `NAMESPACE` in them."""
    found = [
        f"{pattern}{_uses(rule)}" for rule in policy.rules if rule.effect is Effect.ALLOW for pattern in rule.patterns
    ]
    if not found:
        return "this policy allows nothing yet: it needs a rule with the action Allow"
    more = f" or {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"allowed are {', '.join(found[:_SHOWN])}{more}"


def _uses(rule: Rule) -> str:
    return f" in {' and '.join(each.value for each in rule.used_by)}" if rule.used_by else ""


def _unmet(
    require: Requirements, use: ImageUse, image: ImageReference, facts: ImageFacts | None, now: float
) -> Iterator[tuple[str, str, str]]:
    """Requirements that are not fulfilled: name, reason and remedy."""
    if require.digest and image.digest is None:
        yield REQUIRE_DIGEST, "has no digest", f"write {image}@sha256:..."
    if require.never_forbidden and use.pull_policy == "Never":
        yield FORBID_NEVER, "is never pulled, so nobody knows what it is", "use another imagePullPolicy than Never"
    if require.always_pulled and use.pull_policy not in ("", "Always"):
        yield REQUIRE_ALWAYS, "has another imagePullPolicy than Always", "write imagePullPolicy: Always"
    if not require.of_content:
        return
    if facts is None:
        yield REQUIRE_EXISTS, "is not known: this registry could not be asked about it", "try again"
    elif not facts.exists:
        yield REQUIRE_EXISTS, "is not in this registry", "push it first"
    else:
        yield from _unmet_by_content(require, facts, now)


def _unmet_by_content(require: Requirements, facts: ImageFacts, now: float) -> Iterator[tuple[str, str, str]]:
    if require.max_age is not None:
        if facts.created is None:
            yield REQUIRE_AGE, "does not say when it was made", "build it with a date of creation"
        elif not now - require.max_age <= facts.created <= now + _CLOCKS_DIFFER:
            yield REQUIRE_AGE, "is too old, or of the future", "build it anew"
    if require.platforms and not _offers(facts.platforms, require.platforms):
        wanted = ", ".join(require.platforms)
        yield REQUIRE_PLATFORM, f"is for none of the platforms allowed ({wanted})", f"build it for {wanted}"


def _offers(offered: Collection[str], wanted: Sequence[str]) -> bool:
    """Whether one of the platforms is wanted; ``linux/arm`` stands for all its variants."""
    return any(each == want or each.startswith(f"{want}/") for each in offered for want in wanted)


def _excused(
    finding: Finding,
    image: ImageReference,
    policy: Policy,
    namespace: str,
    exemptions: Sequence[Exemption],
    *,
    vouched: bool,
) -> Finding:
    """The denial, or what becomes of it by an exception that covers all of it by itself."""
    for exemption in exemptions:
        if exemption.excuses(policy, namespace, image, vouched=vouched):
            reason = f"{finding.reason}, but {exemption.name} excepts it: {exemption.reason}"
            return replace(finding, allowed=True, reason=reason, exemption=exemption.name)
    return finding
