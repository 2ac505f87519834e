"""`trow policy explain`: how an image is read, and how each policy evaluates it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.globs import matches
from trow.policy import images
from trow.policy.changes import reference_of
from trow.policy.images import LATEST, InvalidImage
from trow.policy.pods import POD, ImageUse, Kind
from trow.policy.requirements import Candidate
from trow.policy.resources import EXCEPTION
from trow.policy.rules import NAMESPACED, Effect
from trow.policy.verdict import rule_name
from trow.policytools.evaluation import ImageEvaluation
from trow.policytools.judging import PULLED_THROUGH, EvaluationOutcome, OfflineJudge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.policy.images import ImageReference
    from trow.policy.rules import ImageRule, Policy, RunContext
    from trow.policy.verdict import Rules
    from trow.policytools.judging import PolicyEvaluation
    from trow.policytools.loading import Policies

_POD: Final = Kind("", POD)


def explain(policies: Policies, where: RunContext, text: str, now: float) -> tuple[EvaluationOutcome, tuple[str, ...]]:
    """The outcome, and the lines that explain it.

    Args:
        policies: the policies in force.
        where: the image is to run.
        text: the name of the image, as a Pod has it.
        now: seconds of Unix time.
    """
    rules, use, namespace = policies.rules, ImageUse("image", "image", text, used_by=where.used_by), where.namespace
    judge = OfflineJudge(rules, now, policies.settings)
    changed = judge.changed(namespace, use).text
    results = judge.evaluate(namespace, _POD, use)
    image = ImageEvaluation(use, reference_of(changed), results)
    lines = [*_reference_lines(text), f"namespace   {namespace}"]
    if where.used_by is not None and any(rule.used_by for policy in rules.policies for rule in policy.rules):
        lines.append(f"used by     {where.used_by.value}")
    if changed != text:
        lines.append(f"changed to  {changed} ({PULLED_THROUGH})")
    lines.append("")
    by_policy = {result.finding.policy: result for result in results}
    for policy in rules.policies:
        if policy.applies(namespace, rules.labels.of(namespace)):
            lines += [*_policy_lines(policy, by_policy[policy.title], image.reference, where, now), ""]
        else:
            lines += [f"{policy.title}: does not apply: {_why_not(policy, namespace)}", ""]
    verdict = image.outcome.value if results else "allowed, as no policy applies in this namespace"
    return image.outcome, (*lines, *_exception_lines(rules, namespace, image, now), f"verdict: {verdict}")


def _reference_lines(text: str) -> Iterator[str]:
    yield f"image       {text}"
    try:
        image = images.parse(text)
    except InvalidImage as error:
        yield f"            cannot be read: {error}"
        return
    written = "" if image.tag != LATEST or text.endswith(f":{LATEST}") else " (neither a tag nor a digest is written)"
    ignored = " (ignored beside a digest)" if image.tag and image.digest else ""
    yield f"registry    {image.registry}"
    yield f"repository  {image.repository}"
    yield f"tag         {image.tag or 'none'}{written}{ignored}"
    yield f"digest      {image.digest or 'none'}"
    yield f"canonical   {image}"


def _why_not(policy: Policy, namespace: str) -> str:
    if policy.kind == NAMESPACED:
        return f"it applies only in the namespace {policy.namespace}"
    excluded = [glob for glob in policy.namespaces.exclude if matches(glob, namespace)]
    if excluded:
        return f"{', '.join(excluded)} in namespaces.exclude"
    if any(matches(glob, namespace) for glob in policy.namespaces.include):
        return f"namespaceSelector asks for {policy.namespaces.selector}"
    return f"namespaces.include is {', '.join(policy.namespaces.include)}"


def _policy_lines(
    policy: Policy, result: PolicyEvaluation, image: ImageReference | None, where: RunContext, now: float
) -> Iterator[str]:
    yield f"{policy.title} ({policy.mode.value}): {result.outcome.value}"
    if image is not None:
        remaining, exception = policy.after_exceptions(image, where)
        effect, rule = remaining.evaluate(image, where)
        if exception is not None:
            yield f"  {rule_name(exception)} exempts it from everything except denials by digest: {exception.reason}"
        if exception is None or rule is not None:
            yield f"  {_rule(effect, rule, image, where)}"
        if exception is None and effect is Effect.ALLOW:
            candidate = Candidate(result.finding.use, image, None, now)
            yield from (f"  {each.name}: {each.explain(candidate)}" for each in policy.require)
    found = result.finding
    if result.outcome is not EvaluationOutcome.ALLOWED or found.exception:
        yield f"  {found.rule}: {found.reason}"
    if found.remedy and result.outcome is not EvaluationOutcome.ALLOWED:
        yield f"  to pass: {found.remedy}"


def _rule(effect: Effect, rule: ImageRule | None, image: ImageReference, where: RunContext) -> str:
    verb = "allows" if effect is Effect.ALLOW else "denies"
    if rule is None:
        return f"no rule matches; the default {verb} it"
    ignore_tag = effect is Effect.ALLOW
    covering = (each for each in rule.patterns if each.covers(image, ignore_tag=ignore_tag, namespace=where.namespace))
    pattern = next(covering)
    return f"rule {rule.name} {verb} it: {pattern}"


def _exception_lines(rules: Rules, namespace: str, image: ImageEvaluation, now: float) -> Iterator[str]:
    """The exceptions that would exempt the image if they were active."""
    if image.reference is None:
        return
    policies = rules.applying(namespace)
    for exception in rules.exceptions:
        exempt = [
            policy.title
            for policy in policies
            if exception.exempts(policy, namespace, image.reference, tag_verified=True)
        ]
        if exempt and not exception.active(now):
            why = "nobody but its requester has approved it"
            if now >= exception.ends or now < exception.begins:
                why = "it has ended" if now >= exception.ends else "it has not begun"
            yield f"{EXCEPTION}/{exception.name} is not in force for {', '.join(exempt)}: {why}"
            yield ""
