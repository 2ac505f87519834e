"""Whether the API server makes sure that two people are behind an exception: `deploy/kubernetes/exceptions.yaml`.

Trow itself sees only names in a specification. Without that policy and its binding, whoever may write an exception
could approve it in the name of another one; so without them no exception counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from trow.kube.informer import Informer
from trow.lib import times
from trow.lib.kube_objects import mapping, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from trow.kube.objects import Manifest, Objects

log = logging.getLogger(__name__)

GUARD_POLICY: Final = "trow-policy-exceptions"
# Of the policy as it is shipped; a test compares it with the file.
FINGERPRINT: Final = "4a321ed2b1a0714acdbb883285e14d697f9e784202abfd875aab4cc54af6453d"
_BASE: Final = "/apis/admissionregistration.k8s.io/v1"
POLICIES: Final = f"{_BASE}/validatingadmissionpolicies"
BINDINGS: Final = f"{_BASE}/validatingadmissionpolicybindings"
_FIX: Final = "apply deploy/kubernetes/exceptions.yaml of this version of Trow"


class Approval:
    """Watches the policy that guards exceptions, and its bindings. `run` goes on until it is cancelled."""

    def __init__(self, objects: Objects, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._informers = {path: Informer(objects, path, self._update) for path in (POLICIES, BINDINGS)}
        self._since = 0.0
        self.missing = "it is not known yet whether the API server makes sure that two people are behind it"

    async def run(self) -> None:
        """Follow the policy and its bindings."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    def doubt(self, created: float) -> str:
        """Why an exception that was created then does not count; "" if it does."""
        if self.missing:
            return self.missing
        if created <= self._since:  # times have whole seconds
            return "it is older than the policy that makes sure of two people; create the exception again"
        return ""

    def _update(self) -> None:
        if not all(informer.synced for informer in self._informers.values()):
            return
        before = self.missing, self._since
        self.missing, self._since = self._judged()
        if (self.missing, self._since) == before:
            return
        if self.missing:
            log.warning("no policy exception counts: %s", self.missing)
        else:
            log.info("the API server makes sure that two people are behind an exception")
        self._changed()

    def _judged(self) -> tuple[str, float]:
        policy = self._informers[POLICIES].objects.get(("", GUARD_POLICY))
        bindings = self._informers[BINDINGS].objects.values()
        missing = missing_guard(policy, bindings)
        if missing or policy is None:
            return missing, 0.0
        return "", max(_created(policy), _created(next(filter(_binds, bindings))))


def missing_guard(policy: Manifest | None, bindings: Iterable[Manifest]) -> str:
    """What keeps the API server from making sure of two people; "" if it does.

    Args:
        policy: the ValidatingAdmissionPolicy `GUARD_POLICY`.
        bindings: all there are.
    """
    if policy is None:
        return f"there is no ValidatingAdmissionPolicy {GUARD_POLICY}, so nothing makes sure of two people; {_FIX}"
    if fingerprint(policy) != FINGERPRINT:
        return f"the ValidatingAdmissionPolicy {GUARD_POLICY} differs from the one that Trow ships; {_FIX}"
    if not any(map(_binds, bindings)):
        return f"no ValidatingAdmissionPolicyBinding puts {GUARD_POLICY} in force everywhere; {_FIX}"
    return ""


def fingerprint(policy: Manifest) -> str:
    """Of all in it that decides, whatever an API server has added."""
    spec = mapping(policy.get("spec"))
    constraints = mapping(spec.get("matchConstraints"))
    decisive = [
        spec.get("failurePolicy"),
        spec.get("paramKind") or None,
        spec.get("matchConditions") or [],
        [*_parts(constraints.get("resourceRules"), "apiGroups", "apiVersions", "resources", "operations")],
        [constraints.get(key) or None for key in ("excludeResourceRules", "namespaceSelector", "objectSelector")],
        [*_parts(spec.get("variables"), "name", "expression")],
        [*_parts(spec.get("validations"), "expression")],
    ]
    return hashlib.sha256(msgspec.json.encode(decisive)).hexdigest()


def _parts(listed: object, *keys: str) -> Iterator[list[object]]:
    for each in listed if isinstance(listed, list) else ():
        yield [mapping(each).get(key) for key in keys]


def _binds(binding: Manifest) -> bool:
    """Whether it denies by the policy, and in no narrower place."""
    spec = mapping(binding.get("spec"))
    where = mapping(spec.get("matchResources"))
    actions = spec.get("validationActions")
    return (
        spec.get("policyName") == GUARD_POLICY
        and isinstance(actions, list)
        and "Deny" in actions
        and not spec.get("paramRef")
        and not any(value for key, value in where.items() if key != "matchPolicy")
    )


def _created(item: Manifest) -> float:
    """In seconds of Unix time; what does not say has just been made."""
    try:
        return times.parse(str(metadata(item).get("creationTimestamp"))) / times.MICROSECONDS
    except ValueError:
        return float("inf")
