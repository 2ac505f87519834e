"""Policies as `ValidatingAdmissionPolicy`, which the API server enforces by itself, also while Trow is down.

Their verdict on Pods and on built-in kinds with a Pod template is that of `verdict.judge`, with three limits. They know
no facts about images (`requirements.Requirement.unknown`). They change nothing. They do not cover custom resources.

An exception is a clause that exempts its images. CEL has no clock, but an object has a creation time: the clause does
not apply to objects that are created after the end of the exception. It still applies to updates, until the policy is
compiled again without it, which has to happen at `Compiled.until`.
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
from trow.policy.vap.namespace_expressions import ALWAYS, NEVER, namespace_globs
from trow.policy.vap.program import program_of

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
# The suffix that KEP-5793 requires of the names of manifests on the API server's disk.
STATIC: Final = ".static.k8s.io"
# Bytes; etcd takes 1.5 MiB, with `managedFields`.
LARGEST: Final = 1_000_000
_READABLE: Final = 180
_ACTIONS: Final = {Mode.ENFORCE: ["Deny", "Audit"], Mode.WARN: ["Warn", "Audit"], Mode.AUDIT: ["Audit"]}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled policy.

    Attributes:
        policies: the `ValidatingAdmissionPolicy`; empty if it would be too large.
        bindings: its `ValidatingAdmissionPolicyBinding` objects.
        left_out: what these do not enforce, for people.
        until: seconds of Unix time at which an exception ends and it has to be compiled again; None: never.
    """

    policies: tuple[Manifest, ...]
    bindings: tuple[Manifest, ...]
    left_out: tuple[str, ...]
    until: float | None = None

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """All objects, in the order in which they have to be applied."""
        return (*self.policies, *self.bindings)


def compile_policy(
    policy: Policy,
    *,
    generation: int = 0,
    excluded: Collection[str] = (),
    exceptions: Sequence[PolicyException] = (),
    now: float = inf,
    changed: str = NEVER,
    static: bool = False,
) -> Compiled:
    """Compile a policy.

    Args:
        policy: any.
        generation: the version of the policy, for an annotation.
        excluded: namespaces that are never selected, such as Trow's own.
        exceptions: all exceptions; those that are active and name the policy are compiled in.
        now: seconds of Unix time; without it no exception is active.
        changed: an expression: where Pods get other image names (`MutatedNamespaces`). There the webhook evaluates
            objects with a Pod template, because the API server does not know those names.
        static: for files on the API server's disk (KEP-5793), which nobody replaces when an exception ends.
    """
    active = [
        each
        for each in exceptions
        if policy.title in each.policies and any(map(policy.applies, each.namespaces)) and each.active(now)
    ]
    compiled_in = [] if static else sorted(active, key=lambda each: (each.ends, each.name))
    left_out = tuple(_left_out(policy, active, changed, static=static))
    metadata = _metadata(policy, generation, compiled_in, static=static)
    compiled = _policy(policy, metadata, excluded, compiled_in, changed)
    if (size := len(msgspec.json.encode(compiled))) > LARGEST:
        return Compiled(
            (), (), (f"the whole policy: it would have {size} bytes, and etcd takes about {LARGEST}", *left_out)
        )
    until = compiled_in[0].ends if compiled_in else None
    return Compiled((compiled,), tuple(_bindings(policy, metadata, changed)), left_out, until)


def _left_out(policy: Policy, active: Sequence[PolicyException], changed: str, *, static: bool) -> Iterator[str]:
    unknown = "the API server does not know"
    yield from (f"{each.name}: {unknown} {each.unknown}" for each in policy.require if not each.cel)
    if policy.depends_on_tags:
        yield f"tag beside digest: {unknown} whether the tag points at the digest, and assumes that it does"
    if changed != NEVER and policy.controllers is not Mode.IGNORE:
        yield f"workload controllers, where their Pods get other image names: {unknown} these names"
    if policy.mutate.pin_digests:
        yield "mutate.pinDigests: nothing is changed"
    if policy.mutate.pull_through:
        yield "mutate.pullThrough: nothing is changed"
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
    """The name of the compiled policy: people recognise it, and no other policy has it."""
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
        "matchConstraints": {
            "resourceRules": _rules_of(each for found in _by_mode(policy, changed).values() for each in found),
            **_selector(policy, excluded),
        },
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
    """One binding for each mode; a single one has no rules of its own, and applies to all objects."""
    resources = _by_mode(policy, changed)
    if len(resources) == 1 and _covers_controllers(policy, changed):
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


# Which objects it applies to


def _by_mode(policy: Policy, changed: str) -> Mapping[Mode, Sequence[tuple[str, str]]]:
    """The groups and resources to which it applies, by mode; the mode for Pods is the first."""
    found: dict[Mode, list[tuple[str, str]]] = {policy.mode: [("", "pods"), ("", "pods/ephemeralcontainers")]}
    for group, name in POD_SPECS if _covers_controllers(policy, changed) else ():
        kind = Kind(group, name)
        mode = policy.mode_of(kind.stage)
        if not kind.is_pod and mode is not Mode.IGNORE:
            found.setdefault(mode, []).append((group, f"{name.lower()}s"))
    return found


def _covers_controllers(policy: Policy, changed: str) -> bool:
    return policy.mode_of(Stage.CONTROLLER) is not Mode.IGNORE and changed != ALWAYS


def _rules_of(found: Iterable[tuple[str, str]]) -> list[Manifest]:
    resources: dict[str, list[str]] = defaultdict(list)
    for group, resource in found:
        resources[group].append(resource)
    return [
        {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": names}
        for group, names in resources.items()
    ]


def _selector(policy: Policy, excluded: Collection[str]) -> Manifest:
    """Exact names and labels of namespaces; globs need an expression (`_conditions`)."""
    include, exclude = namespace_globs(policy)
    exact = sorted({*excluded, *(name for name in exclude if "*" not in name)})
    requirements = [LabelRequirement(NAME_LABEL, Operator.NOT_IN, tuple(exact))] if exact else []
    if not any("*" in name for name in include):
        requirements.append(LabelRequirement(NAME_LABEL, Operator.IN, tuple(sorted(set(include)))))
    if policy.kind == CLUSTER:
        requirements += policy.namespaces.selector.requirements
    expressions = [
        {"key": each.key, "operator": each.operator.value, **({"values": [*each.values]} if each.values else {})}
        for each in requirements
    ]
    return {"namespaceSelector": {"matchExpressions": expressions}} if expressions else {}


def _conditions(policy: Policy, changed: str) -> Iterator[Manifest]:
    """Globs of namespaces, and where the names in a Pod template are those that the Pods will have."""
    include, exclude = namespace_globs(policy)
    if ANY not in include and any("*" in name for name in include):
        yield {"name": "included", "expression": _among(include)}
    if globs := [name for name in exclude if "*" in name]:
        yield {"name": "not-excluded", "expression": f"!{_among(globs)}"}
    if changed != NEVER and _covers_controllers(policy, changed):
        yield {"name": "as-written", "expression": f"request.resource.resource == 'pods' || !({changed})"}


def _among(globs: Sequence[str]) -> str:
    return matches("request.namespace", "|".join(map(glob, globs)))
