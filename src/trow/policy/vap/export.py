"""Policies as `ValidatingAdmissionPolicy`, which the API server enforces by itself: also while no Trow runs.

Their verdict is that of `decide.judge` on Pods and on what makes them, with three limits. What an image is in the
registry only the registry knows (`requirements.Requirement.unknown`). Nothing is changed. Kinds that others have
defined are left to the webhook.

An exception is a clause that lets its images through. The API server's expressions have no clock, but know when the
object was created: in what is created after its end, the clause does not count. In what is updated it does, until the
policy is compiled again without it, which is to be done at `Compiled.until`.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from trow.lib.times import rfc3339
from trow.policy.patterns import ANY
from trow.policy.pods import POD_SPECS, Kind, Stage
from trow.policy.rules import CLUSTER, CONFIGURED, Mode
from trow.policy.selectors import NAME_LABEL, LabelRequirement, Operator
from trow.policy.vap.cel import matches
from trow.policy.vap.expressions import glob
from trow.policy.vap.program import program_of
from trow.policy.vap.regions import EVERYWHERE, NOWHERE, names_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

Manifest: TypeAlias = "Mapping[str, object]"

API_VERSION: Final = "admissionregistration.k8s.io/v1"
POLICY: Final = "ValidatingAdmissionPolicy"
BINDING: Final = "ValidatingAdmissionPolicyBinding"
LABELS: Final = {"app.kubernetes.io/managed-by": "trow"}
SOURCE: Final = "policy.trow.io/source"
GENERATION: Final = "policy.trow.io/generation"
EXCEPTIONS: Final = "policy.trow.io/exceptions"
# KEP-5793: what is read from the API server's disk has names of its own.
STATIC: Final = ".static.k8s.io"
# etcd takes 1.5 MiB, of which some is for who wrote which field.
LARGEST: Final = 1_000_000
_READABLE: Final = 180
_ACTIONS: Final = {Mode.ENFORCE: ["Deny", "Audit"], Mode.WARN: ["Warn", "Audit"], Mode.AUDIT: ["Audit"]}


@dataclass(frozen=True, slots=True)
class Compiled:
    """One policy for the API server.

    Attributes:
        policies: `ValidatingAdmissionPolicy`; none if it would be too large.
        bindings: what puts them in force.
        left_out: what these do not do, in words.
        until: seconds of Unix time at which it has to be compiled again, for an exception ends; None: never.
    """

    policies: tuple[Manifest, ...]
    bindings: tuple[Manifest, ...]
    left_out: tuple[str, ...]
    until: float | None = None

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Everything, in the order in which it is to be applied."""
        return (*self.policies, *self.bindings)


def compile_policy(
    policy: Policy,
    *,
    generation: int = 0,
    excluded: Collection[str] = (),
    exceptions: Sequence[PolicyException] = (),
    now: float = inf,
    changed: str = NOWHERE,
    static: bool = False,
) -> Compiled:
    """Write a policy for the API server.

    Args:
        policy: any.
        generation: which version of its source this is.
        excluded: namespaces that are left alone whatever the policy says, such as Trow's own.
        exceptions: all exceptions; those that are active and name the policy are compiled in.
        now: seconds of Unix time; without it no exception is active.
        changed: where names in Pods are changed, as an expression (`regions.Changes`); there what makes Pods is left
            to the webhook, for it is not by these names that it is to be judged.
        static: for files on the API server's disk (KEP-5793), which nobody exchanges when an exception ends.
    """
    active = [each for each in exceptions if _concerns(each, policy) and each.active(now)]
    counting = [] if static else sorted(active, key=lambda each: (each.ends, each.name))
    left_out = (*_left_out(policy, changed), *_on_exceptions(active, static=static))
    metadata = _metadata(policy, generation, counting, static=static)
    compiled = _policy(policy, metadata, excluded, counting, changed)
    if (size := len(msgspec.json.encode(compiled))) > LARGEST:
        return Compiled((), (), (f"all of it: it would have {size} bytes, and etcd takes about {LARGEST}", *left_out))
    until = counting[0].ends if counting else None
    return Compiled((compiled,), tuple(_bindings(policy, metadata, changed)), left_out, until)


def _left_out(policy: Policy, changed: str) -> Iterator[str]:
    unknown = "the API server does not know"
    yield from (f"{each.name}: {unknown} {each.unknown}" for each in policy.require if not each.cel)
    if policy.depends_on_tags:
        yield f"tag beside digest: {unknown} whether the tag stands for the digest, and believes it"
    if changed != NOWHERE and policy.controllers is not Mode.IGNORE:
        yield f"what makes Pods, where images are changed in these: {unknown} which names they get"
    if policy.mutate.pin_digests:
        yield "mutate.pinDigests: nothing is changed"
    if policy.mutate.pull_through:
        yield "mutate.pullThrough: nothing is changed"


def _concerns(exception: PolicyException, policy: Policy) -> bool:
    return policy.title in exception.policies and any(map(policy.applies, exception.namespaces))


def _on_exceptions(active: Sequence[PolicyException], *, static: bool) -> Iterator[str]:
    for each in active:
        if static:
            yield f"exception {each.name}: files on the API server's disk would not be exchanged when it ends"
        else:
            yield f"exception {each.name}: its end at {rfc3339(each.ends)} for updates, if no Trow runs at that time"


# Manifests


def _metadata(
    policy: Policy, generation: int, exceptions: Sequence[PolicyException], *, static: bool
) -> dict[str, object]:
    annotations = {SOURCE: _source(policy), GENERATION: str(generation)}
    if exceptions:
        annotations[EXCEPTIONS] = ", ".join(f"{each.name} until {rfc3339(each.ends)}" for each in exceptions)
    return {"name": name_of(policy) + (STATIC if static else ""), "labels": LABELS, "annotations": annotations}


def _source(policy: Policy) -> str:
    if policy.kind == CONFIGURED:
        return policy.name
    return "/".join(part for part in (policy.kind, policy.namespace, policy.name) if part)


def name_of(policy: Policy) -> str:
    """The name of what it is compiled to: one that people recognise, and that no other policy has."""
    source = _source(policy)
    readable = re.sub(r"[^a-z0-9.-]", "-", policy.name.lower())[:_READABLE].strip("-.")
    return f"trow-{readable}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def _policy(
    policy: Policy,
    metadata: Mapping[str, object],
    excluded: Collection[str],
    exceptions: Sequence[PolicyException],
    changed: str,
) -> Manifest:
    program = program_of(policy, exceptions)
    spec: dict[str, object] = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [*_rules(policy, changed)], **_selector(policy, excluded)},
        "matchConditions": [*_conditions(policy, changed)],
        "variables": [variable._asdict() for variable in program.variables],
        "validations": [
            {
                "expression": validation.expression,
                "messageExpression": validation.message,
                "message": validation.otherwise,
                "reason": "Forbidden",
            }
            for validation in program.validations
        ],
    }
    return {"apiVersion": API_VERSION, "kind": POLICY, "metadata": metadata, "spec": spec}


def _bindings(policy: Policy, metadata: Mapping[str, object], changed: str) -> Iterator[Manifest]:
    """One for each thing that comes of a denial; one without rules where it is the same for all objects."""
    resources = _by_mode(policy, changed)
    if len(resources) == 1 and _judges_makers(policy, changed):
        yield _binding(metadata, "", policy.mode, ())
        return
    for mode, found in resources.items():
        yield _binding(metadata, "pods." if mode is policy.mode else "controllers.", mode, _rules_of(found))


def _binding(metadata: Mapping[str, object], prefix: str, mode: Mode, rules: Sequence[Manifest]) -> Manifest:
    spec: dict[str, object] = {"policyName": metadata["name"], "validationActions": _ACTIONS[mode]}
    if rules:
        spec["matchResources"] = {"resourceRules": [*rules]}
    named = {**metadata, "name": f"{prefix}{metadata['name']}"}
    return {"apiVersion": API_VERSION, "kind": BINDING, "metadata": named, "spec": spec}


# What is judged


def _by_mode(policy: Policy, changed: str) -> Mapping[Mode, Sequence[tuple[str, str]]]:
    """Groups and resources that are judged, by what comes of a denial: first that of Pods."""
    found: dict[Mode, list[tuple[str, str]]] = {policy.mode: [("", "pods"), ("", "pods/ephemeralcontainers")]}
    for group, name in POD_SPECS if _judges_makers(policy, changed) else ():
        kind = Kind(group, name)
        mode = policy.mode_of(kind.stage)
        if not kind.is_pod and mode is not Mode.IGNORE:
            found.setdefault(mode, []).append((group, f"{name.lower()}s"))
    return found


def _judges_makers(policy: Policy, changed: str) -> bool:
    return policy.mode_of(Stage.MAKER) is not Mode.IGNORE and changed != EVERYWHERE


def _rules(policy: Policy, changed: str) -> Sequence[Manifest]:
    return _rules_of(each for found in _by_mode(policy, changed).values() for each in found)


def _rules_of(found: Iterable[tuple[str, str]]) -> Sequence[Manifest]:
    resources: dict[str, list[str]] = defaultdict(list)
    for group, resource in found:
        resources[group].append(resource)
    return tuple(_rule(group, *names) for group, names in resources.items())


def _rule(group: str, *resources: str) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [*resources],
    }


def _selector(policy: Policy, excluded: Collection[str]) -> Manifest:
    """Namespaces by exact name and by labels: nothing needs to be evaluated."""
    include, exclude = names_of(policy)
    exact = sorted({*excluded, *(name for name in exclude if "*" not in name)})
    requirements = [LabelRequirement(NAME_LABEL, Operator.NOT_IN, tuple(exact))] if exact else []
    if not any("*" in name for name in include):
        requirements.append(LabelRequirement(NAME_LABEL, Operator.IN, tuple(sorted(set(include)))))
    if policy.kind == CLUSTER:
        requirements += policy.namespaces.selector.requirements
    expressions = [*map(_expression, requirements)]
    return {"namespaceSelector": {"matchExpressions": expressions}} if expressions else {}


def _expression(requirement: LabelRequirement) -> Manifest:
    values = {"values": [*requirement.values]} if requirement.values else {}
    return {"key": requirement.key, "operator": requirement.operator.value, **values}


def _conditions(policy: Policy, changed: str) -> Iterator[Manifest]:
    """Namespaces by globs, and what makes Pods only where these have the names of its template."""
    include, exclude = names_of(policy)
    if ANY not in include and any("*" in name for name in include):
        yield {"name": "included", "expression": _among(include)}
    if globs := [name for name in exclude if "*" in name]:
        yield {"name": "not-excluded", "expression": f"!{_among(globs)}"}
    if changed != NOWHERE and _judges_makers(policy, changed):
        yield {"name": "as-written", "expression": f"request.resource.resource == 'pods' || !({changed})"}


def _among(globs: Sequence[str]) -> str:
    return matches("request.namespace", "|".join(map(glob, globs)))
