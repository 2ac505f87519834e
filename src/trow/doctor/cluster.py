"""What is set up in the cluster: kinds, policies, who guards exceptions, tokens for nodes, the API server's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from trow.controllers.approval import BINDINGS, GUARD_POLICY, POLICIES, missing_guard
from trow.doctor.findings import NotCheckedError, ok, problem
from trow.lib import times
from trow.lib.kube_objects import generation, listing, mapping, object_name, object_namespace, objects_in, text
from trow.policy.resources import EXCEPTION, GROUP, SPECS, VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place
    from trow.kube.objects import Manifest

_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_APPLY_CRDS: Final = "kubectl apply --server-side --filename deploy/kubernetes/crds.yaml"
_APPLY_EXCEPTIONS: Final = "kubectl apply --filename deploy/kubernetes/exceptions.yaml"
_VERB: Final = "request-serviceaccounts-token-audience"
_ROLES: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
# The first kubelet that asks a credential provider with the Pod's token, unless it is told not to (KEP-4412).
_FIRST_MINOR: Final = 34


# ---- kinds


def plural(kind: str) -> str:
    return f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"


async def check_kinds(place: Place) -> AsyncIterator[Diagnosis]:
    """Does the cluster know the kinds, with all fields that this Trow reads?"""
    get = place.cluster.objects.get
    found = {kind: await get(f"{_CRDS}/{plural(kind)}.{GROUP}") for kind in SPECS}
    if not any(found.values()) and not (await place.setup()).policies:
        yield ok("no policies are followed (admission.policies), so no kinds are needed")
        return
    for kind, definition in found.items():
        where = f"customresourcedefinition/{plural(kind)}.{GROUP}"
        if definition is None:
            yield problem("does not exist, so Trow follows no policies", where, _APPLY_CRDS)
            continue
        known = set(_properties(mapping(mapping(_schema(definition).get("properties")).get("spec"))))
        if missing := sorted(set(_fields(msgspec.inspect.type_info(SPECS[kind]))) - known):
            dropped = ", ".join(f"spec.{each}" for each in missing)
            yield problem(f"is older than this Trow: it drops {dropped}", where, _APPLY_CRDS)
        else:
            yield ok("is there", where)


def _schema(definition: Manifest) -> Mapping[str, object]:
    versions = objects_in(mapping(definition.get("spec")), "versions")
    found = next((each for each in versions if each.get("name") == VERSION), {})
    return mapping(mapping(found.get("schema")).get("openAPIV3Schema"))


def _properties(schema: Mapping[str, object], path: str = "") -> Iterator[str]:
    """Dotted names of fields; a list is looked through."""
    inner = mapping(schema.get("items")) or schema
    for name, below in mapping(inner.get("properties")).items():
        yield path + name
        yield from _properties(mapping(below), f"{path}{name}.")


def _fields(kind: msgspec.inspect.Type, path: str = "") -> Iterator[str]:
    """The same of what this Trow reads."""
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from _fields(kind.type, path)
    elif isinstance(kind, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
        yield from _fields(kind.item_type, path)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from _fields(each, path)
    elif isinstance(kind, msgspec.inspect.StructType):
        for field in kind.fields:
            yield path + field.encode_name
            yield from _fields(field.type, f"{path}{field.encode_name}.")


# ---- exceptions and policies


async def check_guard(place: Place) -> AsyncIterator[Diagnosis]:
    """Does the API server make sure of two people, so that exceptions count?"""
    policies = await place.listed(POLICIES)  # Trow itself may list, and not get
    guard = next((each for each in policies if object_name(each) == GUARD_POLICY), None)
    missing = missing_guard(guard, await place.listed(BINDINGS))
    if not missing:
        yield ok("the API server makes sure that two people are behind an exception")
    elif (await place.setup()).policies:
        yield problem(f"no exception counts: {missing.rpartition('; ')[0]}", GUARD_POLICY, _APPLY_EXCEPTIONS)
    else:
        yield ok("no policies are followed (admission.policies), so no exceptions either")


async def check_policies(place: Place) -> AsyncIterator[Diagnosis]:
    """Is each policy and exception in force as it is written?"""
    found = [each for kind in SPECS for each in await place.listed(f"/apis/{GROUP}/{VERSION}/{plural(kind)}")]
    wrong = [finding for each in found for finding in _about(each)]
    for finding in wrong:
        yield finding
    if not wrong:
        yield ok(f"all {len(found)} are in force" if found else "there are none")


def _about(item: Manifest) -> Iterator[Diagnosis]:
    name, namespace = object_name(item), object_namespace(item)
    where = f"{item.get('kind')}/{name}" + (f" in {namespace}" if namespace else "")
    conditions = objects_in(mapping(item.get("status")), "conditions")
    if not conditions or any(each.get("observedGeneration") != generation(item) for each in conditions):
        yield problem(
            "Trow has not taken it up",
            where,
            "see that Trow runs with admission.policies, and its log: kubectl logs trow-0 --namespace trow",
        )
        return
    for each in conditions:
        reason, message = text(each.get("reason")), text(each.get("message"))
        if each.get("status") == "True" or (item.get("kind") == EXCEPTION and reason not in _WRONG):
            continue
        kind = plural(text(item.get("kind")))
        fix = f"kubectl edit {kind} {name}" + (f" --namespace {namespace}" if namespace else "")
        if reason == "NotGuarded":
            fix = _APPLY_EXCEPTIONS
        elif reason == "NotCompiled":
            fix = "nothing, if Trow runs always: it decides then. Otherwise leave out what the API server cannot decide"
        yield problem(f"{each.get('type')} is False ({reason}): {message}", where, fix)


# Others are how an exception goes: it waits, and it ends.
_WRONG: Final = ("Invalid", "NotGuarded")


# ---- tokens for nodes


@dataclass(frozen=True, slots=True)
class Audience:
    """Whether kubelets may ask for tokens for the registry.

    Attributes:
        node: asked about; its kubelet's minor version.
        granted: what roles let somebody ask for; "" is anything.
        allowed: by audience of Trow, whether the node may.
    """

    node: str
    minor: int
    granted: tuple[str, ...]
    allowed: Mapping[str, bool]


async def audience(place: Place) -> Audience:
    """Ask the API server in the name of a node."""
    setup = await place.setup()
    if not (audiences := setup.audiences):
        raise setup.unknown("Trow takes no tokens of ServiceAccounts (kubernetes.audiences)")
    nodes = await place.listed("/api/v1/nodes")
    if not nodes:
        raise NotCheckedError("the cluster has no nodes")
    node = object_name(nodes[0])
    version = text(mapping(mapping(nodes[0].get("status")).get("nodeInfo")).get("kubeletVersion"))
    allowed = {}
    for each in audiences:
        attributes = {"verb": _VERB, "resource": each, "group": ""}
        answer = await place.cluster.reviews.access(f"system:node:{node}", "", ("system:nodes",), (), attributes)
        allowed[each] = answer.allowed
    rules = [rule for role in await place.listed(_ROLES) for rule in objects_in(role, "rules")]
    granting = [rule for rule in rules if _VERB in listing(rule.get("verbs"))]
    granted = tuple(text(each) for rule in granting for each in listing(rule.get("resources")))
    return Audience(node, int(([*version.split("."), "0"])[1]), granted, allowed)


async def check_audience(place: Place) -> AsyncIterator[Diagnosis]:
    """Can Pods pull with their own ServiceAccounts?"""
    found = await audience(place)
    where = "ClusterRole of nodes"
    create = (
        f"kubectl create clusterrole trow-audience --verb {_VERB} --resource {next(iter(found.allowed))} &&"
        " kubectl create clusterrolebinding trow-audience --clusterrole trow-audience --group system:nodes"
    )
    granted = next((name for name, may in found.allowed.items() if may), "")
    if granted and found.minor < _FIRST_MINOR:
        yield problem(
            f"the kubelet of {found.node} is 1.{found.minor}, which has no tokens for credential providers",
            found.node,
            f"upgrade it to 1.{_FIRST_MINOR} or newer, or pull with image pull secrets",
        )
    elif granted:
        yield ok(f"nodes may ask for tokens for {granted}", where)
    elif found.granted:
        yield problem(
            f"nodes may ask for tokens for {', '.join(found.granted)}, and Trow takes those for"
            f" {', '.join(found.allowed)} only",
            where,
            f"write one of Trow's as serviceAccountTokenAudience of the provider, and: {create}",
        )
    else:
        raise NotCheckedError(
            "no role lets nodes ask for tokens, so no credential provider is at work; one that is installed would need"
            f" this: {create}"
        )


# ---- the API server's clock


class _Review(Struct, frozen=True, rename="camel"):
    api_version: str = "authentication.k8s.io/v1"
    kind: str = "SelfSubjectReview"


class _Reviewed(Struct, frozen=True):
    metadata: dict[str, Any]


async def api_server_time(place: Place) -> float:
    """Seconds since 1970, as the API server has them: everybody may ask it who they are."""

    async def ask() -> float:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        found = await place.cluster.client.ask("selfsubjectreview", path, _Review(), _Reviewed)
        try:
            return times.parse(text(found.metadata.get("creationTimestamp"))) / times.MICROSECONDS
        except ValueError:
            raise NotCheckedError("the API server does not say what time it is there") from None

    return await place.once("time", ask)
