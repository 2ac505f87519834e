"""The webhooks by which the API server asks Trow: about what, and what comes of it while no Trow answers.

What the API server decides alone, by compiled policies, it decides without Trow too. So it insists on an answer
(``failurePolicy: Fail``) only where an enforced policy needs more: what an image is in the registry, or a change of the
Pod, or because it could not be compiled. About everything else it asks if somebody answers, for the record and for
warnings.
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
from trow.policy.vap.regions import EVERYWHERE, LONGEST, NAMESPACE, NOWHERE, about, all_of, any_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from trow.policy.pods import Kind
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

Manifest: TypeAlias = "Mapping[str, object]"

REGISTRATION: Final = "admissionregistration.k8s.io/v1"
VALIDATING: Final = "ValidatingWebhookConfiguration"
MUTATING: Final = "MutatingWebhookConfiguration"
# Paths at which Trow is called.
VALIDATE: Final = "/admission/validate"
MUTATE: Final = "/admission/mutate"
REACH: Final = "/admission/reach"
# Names of the webhooks: asked if somebody answers, and asked in any case.
MUST: Final = "must-"
REACHED: Final = "reach.trow.io"
# What Trow itself sends to learn whether the API server reaches it; it is never stored.
PROBE: Final = "TrowReach"
# What it answers, when the API server asks about that.
HERE: Final = "Trow answers"
# The API server waits so long, in seconds; above `admission.deadline`.
TIMEOUT: Final = 5
# How images may spell a registry (`images.registry_of`).
_HOST: Final = r"(?i)^(?:{})(?::443|:80)?/"
_OF_PODS: Final = "request.resource.group == '' && request.resource.resource == 'pods'"
_OF_RUNS: Final = "request.resource.group == 'batch' && request.resource.resource == 'jobs'"
_BUILT_IN: Final = tuple(dict.fromkeys(group for group, _ in POD_SPECS))
_OF_BUILT_IN: Final = f"request.resource.group in {texts(_BUILT_IN)}"


@dataclass(frozen=True, slots=True)
class Call:
    """Where the API server calls Trow, and by whom it knows that it is Trow.

    Attributes:
        url: scheme, host and port; "" for a Service.
        namespace, service, port: the Service; the namespace is that of the probes too.
        bundle: the authorities of Trow's certificate, PEM; b"" for those that the API server's machine trusts.
    """

    url: str = ""
    namespace: str = ""
    service: str = ""
    port: int = 8443
    bundle: bytes = b""

    def to(self, path: str) -> Manifest:
        """The `clientConfig` of a webhook."""
        where: dict[str, object] = {"url": self.url + path}
        if not self.url:
            service = {"namespace": self.namespace, "name": self.service, "port": self.port, "path": path}
            where = {"service": service}
        return where | ({"caBundle": base64.b64encode(self.bundle).decode()} if self.bundle else {})


@dataclass(frozen=True, slots=True)
class Asking:
    """Everything that decides what the API server asks.

    Attributes:
        policies: those in force.
        exceptions: all exceptions.
        compiled: whether the API server enforces a policy too, as far as it can.
        registries: names of this registry, as images have them.
        excluded: namespaces that it never asks about.
        extra: further kinds that name images, and their resource; "" where nobody has written that.
    """

    policies: Sequence[Policy]
    compiled: Callable[[Policy], bool]
    exceptions: Sequence[PolicyException] = ()
    registries: Collection[str] = ()
    excluded: Collection[str] = ()
    extra: Sequence[tuple[Kind, str]] = ()


def validating(asking: Asking, call: Call) -> Sequence[Manifest]:
    """The webhooks of the `ValidatingWebhookConfiguration`."""
    rules = [*_rules_of_pods(), *_rules_of_makers(asking.extra)]
    found = (_webhook(*each, VALIDATE, rules, asking, call) for each in _parted("validate.trow.io", _insisting(asking)))
    return (*found, reach(call))


def mutating(asking: Asking, call: Call) -> Sequence[Manifest]:
    """The webhooks of the `MutatingWebhookConfiguration`. What other webhooks add has images too: they come again."""
    enforced = (each for each in asking.policies if each.mode is Mode.ENFORCE)
    changing = about(each for each in enforced if each.mutate.anything)
    rules = [*_rules_of_pods()]
    return tuple(
        {**_webhook(*each, MUTATE, rules, asking, call), "reinvocationPolicy": "IfNeeded"}
        for each in _parted("mutate.trow.io", changing)
    )


def reach(call: Call) -> Manifest:
    """A webhook about nothing but Trow's own probes, which shows whether the API server reaches Trow."""
    return {
        **_common(call.to(REACH)),
        "name": REACHED,
        "rules": [_rule("", ("events",), ("CREATE",))],
        "namespaceSelector": _named("In", [call.namespace]),
        "matchConditions": [
            {
                "name": "probe",
                "expression": f"object.?reason.orValue('') == '{PROBE}' && request.?dryRun.orValue(false)",
            }
        ],
        "failurePolicy": "Fail",
        "sideEffects": "None",
    }


# ---- where an answer is needed


def _insisting(asking: Asking) -> str:
    """What has to be judged by Trow or not at all, as an expression."""
    enforced = [each for each in asking.policies if each.mode is Mode.ENFORCE]
    runs, makers = ([each for each in enforced if each.mode_of(of) is Mode.ENFORCE] for of in (Stage.RUN, Stage.MAKER))
    # Where Pods are changed, the API server does not know by which names to judge what makes them.
    changed = about(each for each in enforced if each.mutate.anything)
    found = about(makers)  # kinds of others are not compiled
    for kinds, needed in (
        (_OF_BUILT_IN, any_of(_needing(makers, asking), all_of(about(makers), changed))),
        (_OF_RUNS, any_of(_needing(runs, asking), all_of(about(runs), changed))),
        (_OF_PODS, _needing(enforced, asking)),
    ):
        found = found if found == needed else f"{kinds} ? ({needed}) : ({found})"
    return found if len(found) <= LONGEST else EVERYWHERE


def _needing(policies: Sequence[Policy], asking: Asking) -> str:
    """Where these policies need more than their rules: for any image, or for some."""
    content = about(each for each in policies if each.needs or not asking.compiled(each))
    tags = any_of(about(each for each in policies if each.depends_on_tags), _excepted(policies, asking.exceptions))
    digests = about(each for each in policies if each.denies_digests)
    hosts = _HOST.format("|".join(map(re.escape, sorted(asking.registries))))
    ours = f"!i.contains('@') && i.matches({text(hosts)})"
    return any_of(
        content,
        all_of(tags, _some_image("i.contains('@')")),
        all_of(digests, _some_image(ours) if asking.registries else NOWHERE),
    )


def _excepted(policies: Sequence[Policy], exceptions: Sequence[PolicyException]) -> str:
    """Where an exception by tag may let something in, beside whose tag somebody has written a digest."""
    titles = {policy.title for policy in policies}
    by_tag = [each for each in exceptions if any(of.by_tag for of in each.patterns)]
    names = sorted({name for each in by_tag if each.policies & titles for name in each.namespaces})
    return f"{NAMESPACE} in {texts(names)}" if names else NOWHERE


def _some_image(condition: str) -> str:
    """Whether an object of a built-in kind names an image ``i`` like that."""
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


def _parted(name: str, insisting: str) -> Iterator[tuple[str, str, str]]:
    """Name, failure policy and condition of each webhook: no object is asked about twice."""
    if insisting != EVERYWHERE:
        yield name, "Ignore", EVERYWHERE if insisting == NOWHERE else f"!({insisting})"
    if insisting != NOWHERE:
        yield MUST + name, "Fail", insisting


# ---- manifests


def _webhook(
    name: str, failing: str, condition: str, path: str, rules: Sequence[Manifest], asking: Asking, call: Call
) -> Manifest:
    conditions = [] if condition == EVERYWHERE else [{"name": "where", "expression": condition}]
    return {
        **_common(call.to(path)),
        "name": name,
        "rules": rules,
        "namespaceSelector": _named("NotIn", sorted(asking.excluded)) if asking.excluded else {},
        "matchConditions": conditions,
        "failurePolicy": failing,
        "sideEffects": "NoneOnDryRun",  # what is decided is put on record, and which digest a tag stands for is kept
    }


def _common(client: Manifest) -> dict[str, object]:
    return {
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "timeoutSeconds": TIMEOUT,
    }


def _named(operator: str, names: Sequence[str]) -> Manifest:
    """Namespaces by the label that the API server itself sets: no other one could not be set by a tenant."""
    return {"matchExpressions": [{"key": NAME_LABEL, "operator": operator, "values": [*names]}]}


def _rules_of_pods() -> Iterator[Manifest]:
    """DELETE is never asked about: nothing new runs by it."""
    yield _rule("", ("pods",))
    yield _rule("", ("pods/ephemeralcontainers",), ("UPDATE",))  # kubectl debug


def _rules_of_makers(extra: Iterable[tuple[Kind, str]]) -> Iterator[Manifest]:
    resources: dict[str, dict[str, None]] = defaultdict(dict)
    for group, name in POD_SPECS:
        if name != POD:
            resources[group][f"{name.lower()}s"] = None
    for known in WELL_KNOWN.values():
        resources[known.kind.group][known.resource] = None
    for kind, resource in extra:
        if not kind.known and kind not in WELL_KNOWN:
            resources[kind.group][resource or "*"] = None
    # The API server takes no list in which a star has company.
    yield from (_rule(group, ("*",) if "*" in names else tuple(names)) for group, names in resources.items())


def _rule(group: str, resources: Sequence[str], operations: Sequence[str] = ("CREATE", "UPDATE")) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": [*operations],
        "resources": [*resources],
        "scope": "Namespaced" if group in _BUILT_IN else "*",
    }
