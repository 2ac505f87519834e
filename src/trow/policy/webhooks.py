"""The webhook configurations: what the API server asks Trow about, and what it does while no Trow answers.

Compiled policies are enforced by the API server itself, also while Trow is down. So ``failurePolicy`` is ``Fail`` only
where an enforced policy needs Trow: to look up an image in the registry, to change the Pod, or because the policy could
not be compiled. Everywhere else it is ``Ignore``: Trow records and warns, if it answers.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.policy.kinds import WELL_KNOWN
from trow.policy.pods import CONTAINERS, POD, POD_SPECS, Stage
from trow.policy.rules import Mode
from trow.policy.selectors import NAME_LABEL
from trow.policy.vap.cel import text, texts
from trow.policy.vap.namespace_expressions import ALWAYS, LONGEST, NAMESPACE, NEVER, all_of, any_of, namespaces_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from trow.policy.pods import Kind
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

Manifest: TypeAlias = "Mapping[str, object]"

REGISTRATION: Final = "admissionregistration.k8s.io/v1"
VALIDATING: Final = "ValidatingWebhookConfiguration"
MUTATING: Final = "MutatingWebhookConfiguration"
# The paths that the API server calls.
VALIDATE: Final = "/admission/validate"
MUTATE: Final = "/admission/mutate"
REACH: Final = "/admission/reach"
# The name of a webhook with ``failurePolicy: Fail`` begins with this.
REQUIRED_PREFIX: Final = "must-"
REACH_WEBHOOK: Final = "reach.trow.io"
# The reason of the Event with which Trow tests whether the API server reaches it; the Event is never stored.
PROBE_REASON: Final = "TrowReach"
# Trow's answer to the review of that Event.
PROBE_ANSWER: Final = "Trow answers"
# Seconds that the API server waits for an answer; more than `admission.deadline`.
TIMEOUT: Final = 5
# How images may spell a registry (`images.registry_of`).
_HOST: Final = r"(?i)^(?:{})(?::443|:80)?/"
_IS_POD: Final = "request.resource.group == '' && request.resource.resource == 'pods'"
_IS_JOB: Final = "request.resource.group == 'batch' && request.resource.resource == 'jobs'"
_BUILT_IN: Final = tuple(dict.fromkeys(group for group, _ in POD_SPECS))
_IS_BUILT_IN: Final = f"request.resource.group in {texts(_BUILT_IN)}"


@dataclass(frozen=True, slots=True)
class WebhookClient:
    """Where the API server calls Trow, and how it verifies Trow's certificate (`WebhookClientConfig`).

    Attributes:
        url: scheme, host and port; "" for a Service.
        namespace, service, port: the Service. The probes are sent to its namespace too.
        bundle: the certificate authorities, PEM; b"" for those that the API server's machine trusts.
    """

    url: str = ""
    namespace: str = ""
    service: str = ""
    port: int = 8443
    bundle: bytes = b""

    def config(self, path: str) -> Manifest:
        """The `clientConfig` of a webhook."""
        where: dict[str, object] = {"url": self.url + path}
        if not self.url:
            service = {"namespace": self.namespace, "name": self.service, "port": self.port, "path": path}
            where = {"service": service}
        return where | ({"caBundle": base64.b64encode(self.bundle).decode()} if self.bundle else {})


@dataclass(frozen=True, slots=True)
class WebhookScope:
    """Everything on which the webhook configurations depend.

    Attributes:
        policies: the policies in force.
        compiled: whether the API server enforces a policy by itself, as far as it can.
        exceptions: all exceptions.
        registries: the names of this registry in images.
        excluded: namespaces that the API server never asks about.
        extra: further kinds that name images, each with its resource; "" if the resource is not configured.
    """

    policies: Sequence[Policy]
    compiled: Callable[[Policy], bool]
    exceptions: Sequence[PolicyException] = ()
    registries: Collection[str] = ()
    excluded: Collection[str] = ()
    extra: Sequence[tuple[Kind, str]] = ()


def validating(scope: WebhookScope, client: WebhookClient) -> Sequence[Manifest]:
    """The webhooks of the `ValidatingWebhookConfiguration`."""
    rules = [*_POD_RULES, *_controller_rules(scope.extra)]
    webhooks = _split("validate.trow.io", _required(scope))
    return (*(_webhook(*each, VALIDATE, rules, scope, client) for each in webhooks), reach(client))


def mutating(scope: WebhookScope, client: WebhookClient) -> Sequence[Manifest]:
    """The webhooks of the `MutatingWebhookConfiguration`.

    Other webhooks may add containers, so the API server calls these webhooks again (``reinvocationPolicy``).
    """
    changing = [each for each in scope.policies if each.mode is Mode.ENFORCE and each.mutate.anything]
    return tuple(
        {**_webhook(*each, MUTATE, _POD_RULES, scope, client), "reinvocationPolicy": "IfNeeded"}
        for each in _split("mutate.trow.io", namespaces_of(changing))
    )


def reach(client: WebhookClient) -> Manifest:
    """The webhook that matches only Trow's own probes, and shows whether the API server reaches Trow."""
    return {
        **_common(client.config(REACH)),
        "name": REACH_WEBHOOK,
        "rules": [_rule("", ("events",), ("CREATE",))],
        "namespaceSelector": _namespace_selector("In", [client.namespace]),
        "matchConditions": [
            {
                "name": "probe",
                "expression": f"object.?reason.orValue('') == '{PROBE_REASON}' && request.?dryRun.orValue(false)",
            }
        ],
        "failurePolicy": "Fail",
        "sideEffects": "None",
    }


# Where Trow has to answer


def _required(scope: WebhookScope) -> str:
    """A CEL expression: whether the object may be admitted only after Trow has answered."""
    enforced = [each for each in scope.policies if each.mode is Mode.ENFORCE]
    jobs, controllers = (
        [each for each in enforced if each.mode_of(stage) is Mode.ENFORCE] for stage in (Stage.JOB, Stage.CONTROLLER)
    )
    # Where Pods are changed, the API server does not know which image names the Pods of a template will have.
    changed = namespaces_of(each for each in enforced if each.mutate.anything)
    required = namespaces_of(controllers)  # policies are not compiled for custom resources
    for is_kind, needed in (
        (_IS_BUILT_IN, any_of(_needs_trow(controllers, scope), all_of(namespaces_of(controllers), changed))),
        (_IS_JOB, any_of(_needs_trow(jobs, scope), all_of(namespaces_of(jobs), changed))),
        (_IS_POD, _needs_trow(enforced, scope)),
    ):
        required = required if required == needed else f"{is_kind} ? ({needed}) : ({required})"
    return required if len(required) <= LONGEST else ALWAYS


def _needs_trow(policies: Sequence[Policy], scope: WebhookScope) -> str:
    """A CEL expression: whether one of the policies needs more than its compiled rules."""
    lookups = namespaces_of(each for each in policies if each.needs or not scope.compiled(each))
    digests = namespaces_of(each for each in policies if each.denies_digests)
    hosts = _HOST.format("|".join(map(re.escape, sorted(scope.registries))))
    our_tag = f"!i.contains('@') && i.matches({text(hosts)})"
    # Only the registry knows whether a tag beside a digest points at that digest.
    titles = {policy.title for policy in policies}
    by_tag = [each for each in scope.exceptions if each.policies & titles and any(of.by_tag for of in each.patterns)]
    exempt = sorted({name for each in by_tag for name in each.namespaces})
    tags = any_of(
        namespaces_of(each for each in policies if each.depends_on_tags),
        f"{NAMESPACE} in {texts(exempt)}" if exempt else NEVER,
    )
    return any_of(
        lookups,
        all_of(tags, _some_image("i.contains('@')")),
        all_of(digests, _some_image(our_tag) if scope.registries else NEVER),
    )


def _some_image(condition: str) -> str:
    """A CEL expression: whether an object of a built-in kind names an image ``i`` that meets the condition."""
    paths: dict[str, list[str]] = defaultdict(list)
    for (_, kind), path in POD_SPECS.items():
        paths["".join(f".?{key}" for key in path)].append(kind)
    specs = ", ".join(
        f"(request.kind.kind in {texts(kinds)} ? object{path} : optional.none()).orValue({{}})"
        for path, kinds in paths.items()
    )
    containers = " + ".join(f"s.?{kind.value}.orValue([])" for kind in CONTAINERS)
    named = f"({containers}).map(c, c.?image.orValue(''))"
    volumes = "s.?volumes.orValue([]).map(v, v.?image.?reference.orValue(''))"
    return f"[{specs}].exists(s, ({named} + {volumes}).exists(i, {condition}))"


def _split(name: str, required: str) -> Iterator[tuple[str, str, str]]:
    """Name, failure policy and condition of each webhook; an object matches one of them at most."""
    if required != ALWAYS:
        yield name, "Ignore", ALWAYS if required == NEVER else f"!({required})"
    if required != NEVER:
        yield REQUIRED_PREFIX + name, "Fail", required


# Manifests


def _webhook(
    name: str,
    failure_policy: str,
    condition: str,
    path: str,
    rules: Sequence[Manifest],
    scope: WebhookScope,
    client: WebhookClient,
) -> Manifest:
    return {
        **_common(client.config(path)),
        "name": name,
        "rules": [*rules],
        "namespaceSelector": _namespace_selector("NotIn", sorted(scope.excluded)) if scope.excluded else {},
        "matchConditions": [] if condition == ALWAYS else [{"name": "where", "expression": condition}],
        "failurePolicy": failure_policy,
        "sideEffects": "NoneOnDryRun",  # verdicts are recorded, and pinned digests are kept
    }


def _common(client: Manifest) -> dict[str, object]:
    return {
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "timeoutSeconds": TIMEOUT,
    }


def _namespace_selector(operator: str, names: Sequence[str]) -> Manifest:
    """Select by the label that the API server itself sets; a tenant may be able to set any other label."""
    return {"matchExpressions": [{"key": NAME_LABEL, "operator": operator, "values": [*names]}]}


def _controller_rules(extra: Iterable[tuple[Kind, str]]) -> Iterator[Manifest]:
    """Rules for all kinds with a Pod template: built-in, well known and configured."""
    resources: dict[str, dict[str, None]] = defaultdict(dict)
    for group, name in POD_SPECS:
        if name != POD:
            resources[group][f"{name.lower()}s"] = None
    for known in WELL_KNOWN.values():
        resources[known.kind.group][known.resource] = None
    for kind, resource in extra:
        if not kind.known and kind not in WELL_KNOWN:
            resources[kind.group][resource or "*"] = None
    # The API server rejects a list in which * is not the only entry.
    yield from (_rule(group, ("*",) if "*" in names else tuple(names)) for group, names in resources.items())


def _rule(group: str, resources: Sequence[str], operations: Sequence[str] = ("CREATE", "UPDATE")) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": [*operations],
        "resources": [*resources],
        "scope": "Namespaced" if group in _BUILT_IN else "*",
    }


# No rule is about DELETE, which starts nothing; `kubectl debug` updates ephemeral containers.
_POD_RULES: Final = (_rule("", ("pods",)), _rule("", ("pods/ephemeralcontainers",), ("UPDATE",)))
