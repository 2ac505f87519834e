"""Policies inside the API server: compiled, applied, and kept in step with what they were compiled from.

Any number of replicas may do this side by side: they apply the same things, and server-side apply of what is there
already changes nothing (KEP-555).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from trow.controllers.policies import PolicyObject
from trow.controllers.status import Condition
from trow.kube.errors import KubeRefused
from trow.kube.informer import Informer
from trow.kube.objects import PatchType
from trow.kube.owner import OwnerRole
from trow.lib.kube_objects import generation, labels, listing, mapping, metadata, text
from trow.policy.vap.export import LABELS, SOURCE, Compiled, compile_policy, name_of
from trow.policy.vap.namespace_expressions import MutatedNamespaces, labels_as_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from trow.kube.objects import Objects
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

log = logging.getLogger(__name__)

_BASE: Final = "/apis/admissionregistration.k8s.io/v1"
_POLICIES: Final = f"{_BASE}/validatingadmissionpolicies"
_BINDINGS: Final = f"{_BASE}/validatingadmissionpolicybindings"
# For the policy of the configuration file, which no object stands for.
_NO_PATH: Final = ""
# The API server looks at all of them for each request, and whoever may edit in a namespace may write policies there.
MOST_OF_A_NAMESPACE: Final = 20
# An API server that does not answer now may enforce what it did before. To insist on answers of Trow about that, too,
# would stop Pods if Trow went down next. But no policy waits longer than this.
_UNKNOWN_SECONDS: Final = 30.0
_TOO_MANY: Final = Compiled((), (), (f"all of it: the API server gets the first {MOST_OF_A_NAMESPACE} of a namespace",))


class VapController:
    """Keeps `ValidatingAdmissionPolicy` objects and their bindings.

    Args:
        objects: the API.
        configured: the policy of the configuration file, which is compiled too.
        excluded: namespaces that are left alone whatever a policy says.
        namespaces: gives the labels of those that are known.
        clock: seconds of Unix time.
        owner: the ClusterRole with which they go, "" for none.
    """

    def __init__(
        self,
        objects: Objects,
        configured: Policy | None,
        excluded: Collection[str],
        namespaces: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
        clock: Callable[[], float] = time.time,
        owner: str = "",
    ) -> None:
        self._objects = objects
        self._owner = OwnerRole(objects, owner)
        self._configured = [PolicyObject({}, _NO_PATH, configured)] if configured else []
        self._excluded = excluded
        self._namespaces = namespaces
        self._clock = clock
        self._informers = {path: Informer(objects, path, self._changed) for path in (_POLICIES, _BINDINGS)}
        self._listeners: list[Callable[[], None]] = []
        # By the path of the source: what it was compiled from, and to.
        self._compiled: dict[str, tuple[PolicyObject, Sequence[PolicyException], str, Compiled]] = {}
        # What was applied last, and the generation that it had then.
        self._applied: dict[str, tuple[Mapping[str, object], object]] = {}
        # Names of what is in force, but for what `Compiled.left_out` says.
        self._in_force: frozenset[str] = frozenset()
        self._reconciled = False
        self._since = time.monotonic()

    async def run(self) -> None:
        """Watch the objects, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call something when somebody else has changed these objects."""
        self._listeners.append(listener)

    def enforces(self, policy: Policy) -> bool:
        """Whether the API server enforces a policy, as far as it can."""
        return name_of(policy) in self._in_force

    @property
    def known(self) -> bool:
        """Whether it is known what the API server enforces; what cannot be found out counts as nothing, in the end."""
        refused = any(informer.refused for informer in self._informers.values())
        return self._reconciled or refused or time.monotonic() - self._since > _UNKNOWN_SECONDS

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()

    async def reconcile(
        self, sources: Sequence[PolicyObject], exceptions: Sequence[PolicyException]
    ) -> dict[str, Condition]:
        if not all(informer.synced for informer in self._informers.values()):
            return {}
        conditions: dict[str, Condition] = {}
        wanted: set[str] = set()
        in_force: set[str] = set()
        everything = (*self._configured, *sources)
        async for source, compiled in self._all_compiled(everything, exceptions):
            wanted |= {*_paths(compiled)}
            conditions[source.path] = await self._apply_all(source, compiled)
            in_force |= {name_of(source.policy)} if conditions[source.path].holds else set()
        self._in_force, self._reconciled = frozenset(in_force), True
        self._compiled = {path: known for path, known in self._compiled.items() if path in conditions}
        await self._remove_others(wanted)
        conditions.pop(_NO_PATH, None)
        return conditions

    async def _all_compiled(
        self, sources: Sequence[PolicyObject], exceptions: Sequence[PolicyException]
    ) -> AsyncIterator[tuple[PolicyObject, Compiled]]:
        of_namespace: Counter[str] = Counter()
        changing = [source.policy for source in sources if source.policy.mutate.anything]
        changes = MutatedNamespaces(labels_as_names(changing, self._namespaces()))
        for source in sources:
            namespace = source.policy.namespace
            of_namespace[namespace] += bool(namespace)
            if of_namespace[namespace] > MOST_OF_A_NAMESPACE:
                yield source, _TOO_MANY
            else:
                yield source, await self._compile(source, exceptions, changes.where(source.policy))

    async def _compile(self, source: PolicyObject, exceptions: Sequence[PolicyException], changed: str) -> Compiled:
        """Compile it, unless that was done before: mostly one of many has changed."""
        known = self._compiled.get(source.path)
        if known and known[0] is source and known[1:3] == (exceptions, changed):
            return known[3]
        # Beside the event loop: one of a thousand rules takes its time.
        compiled = await asyncio.to_thread(
            compile_policy,
            source.policy,
            generation=generation(source.item) or 0,
            excluded=self._excluded,
            exceptions=exceptions,
            now=self._clock(),
            changed=changed,
        )
        self._compiled[source.path] = source, exceptions, changed, compiled
        return compiled

    async def _apply_all(self, source: PolicyObject, compiled: Compiled) -> Condition:
        try:
            for path, manifest in _paths(compiled).items():
                collection, _, name = path.rpartition("/")
                present = self._informers[collection].objects.get(("", name))
                if self._applied.get(path) == (manifest, generation(present) if present is not None else None):
                    continue
                stored = await self._objects.apply(path, await self._owner.owned(manifest))
                if _conditions(stored) != (wanted := _conditions(manifest)):
                    # To server-side apply, what somebody else has added is theirs; it would exempt requests.
                    stored = await self._objects.patch(path, {"spec": {"matchConditions": [*wanted]}}, PatchType.MERGE)
                self._applied[path] = manifest, generation(stored)
        except KubeRefused as error:
            log.warning("%s is not enforced in the API server: %s", source.policy.title, error)
            return Condition("Compiled", holds=False, reason="Refused", message=error.message)
        left_out = "; ".join(compiled.left_out)
        if not compiled.policies:
            return Condition("Compiled", holds=False, reason="NotCompiled", message=f"left out: {left_out}")
        message = "the API server enforces it, too, even while Trow does not run"
        return Condition(
            "Compiled",
            holds=True,
            reason="Partly" if left_out else "InStep",
            message=f"{message}, except for: {left_out}" if left_out else message,
        )

    async def _remove_others(self, wanted: Collection[str]) -> None:
        """What was compiled from policies that no longer exist; bindings first, for they put the others in force."""
        for collection in (_BINDINGS, _POLICIES):
            for (_, name), item in list(self._informers[collection].objects.items()):
                path = f"{collection}/{name}"
                # Nothing is removed but what a controller of this kind has written.
                ours = LABELS.items() <= labels(item).items() and SOURCE in mapping(metadata(item).get("annotations"))
                if ours and path not in wanted:
                    self._applied.pop(path, None)
                    await self._objects.delete(path)


def _paths(compiled: Compiled) -> dict[str, Mapping[str, object]]:
    """Each manifest by its path, in the order in which they are applied."""
    parts = ((_POLICIES, compiled.policies), (_BINDINGS, compiled.bindings))
    return {
        f"{collection}/{text(metadata(manifest).get('name'))}": manifest
        for collection, manifests in parts
        for manifest in manifests
    }


def _conditions(item: Mapping[str, object]) -> Sequence[object]:
    return listing(mapping(item.get("spec")).get("matchConditions"))
