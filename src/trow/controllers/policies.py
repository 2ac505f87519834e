"""The policies of the cluster: followed, read, reconciled, and given a status."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from trow.controllers.status import Condition, status_update
from trow.kube.errors import KubeRefused, NotFound
from trow.kube.informer import Informer
from trow.lib.failures import FailureLog
from trow.lib.kube_objects import generation, labels
from trow.lib.times import rfc3339
from trow.oci.errors import Unavailable
from trow.policy.resources import GROUP, VERSION, ManifestError, exception_of, policy_of
from trow.policy.rules import CLUSTER, NAMESPACED, Effect, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trow.kube.objects import Manifest, ObjectKey, Objects
    from trow.policy.verdict import PolicyException

log = logging.getLogger(__name__)

_BASE: Final = f"/apis/{GROUP}/{VERSION}"
_RESOURCES: Final = {CLUSTER: "clusterimagepolicies", NAMESPACED: "imagepolicies"}
_EXCEPTIONS: Final = "policyexceptions"
_NAMESPACES: Final = "/api/v1/namespaces"
# Exceptions expire without a change in the cluster.
_RECONCILE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """A policy and the object it was read from; ``error`` says why that could not be read, else it is ""."""

    item: Manifest
    path: str
    policy: Policy
    error: str = ""


@dataclass(frozen=True, slots=True)
class ExceptionObject:
    """An object, and the exception that was read from it; None if it could not be, and why."""

    item: Manifest
    exception: PolicyException | None
    error: str = ""


class Enforcement(Protocol):
    """What enforces policies without being asked, such as the API server itself."""

    async def reconcile(
        self, sources: Sequence[PolicyObject], exceptions: Sequence[PolicyException]
    ) -> dict[str, Condition]:
        """Enforce these policies; the condition of each, by the path of its object.

        Raises:
            KubeRefused, Unavailable: that could not be done.
        """


class PolicyReader:
    """Reads the objects of policies and exceptions, and knows what it has read of them before.

    Args:
        adapt: what is done with each policy that was read.
        doubt: why an exception that was created at a time does not count, "" if it does (`Approval.doubt`).
    """

    def __init__(self, adapt: Callable[[Policy], Policy], doubt: Callable[[float], str]) -> None:
        self.doubt = doubt
        self._adapt = adapt
        self._policies: dict[tuple[str, ObjectKey], PolicyObject] = {}
        self._exceptions: dict[ObjectKey, ExceptionObject] = {}
        self._last_valid: dict[tuple[str, ObjectKey], Policy] = {}

    def policies(self, items: Mapping[tuple[str, ObjectKey], Manifest]) -> Sequence[PolicyObject]:
        """All policies, by kind and key; only those that have changed are read."""
        self._last_valid = {each: policy for each, policy in self._last_valid.items() if each in items}
        self._policies = {each: self._policy(*each, item) for each, item in items.items()}
        return [*self._policies.values()]

    def _policy(self, kind: str, key: ObjectKey, item: Manifest) -> PolicyObject:
        if (before := self._policies.get((kind, key))) and before.item is item:
            return before
        namespace, name = key
        path = f"{_BASE}{namespace and f'/namespaces/{namespace}'}/{_RESOURCES[kind]}/{name}"
        try:
            policy = self._last_valid[kind, key] = self._adapt(policy_of(item))
        except ManifestError as error:
            log.warning("a policy cannot be read: %s", error)
            closed = Policy(kind, name, Effect.DENY, namespace=namespace)
            return PolicyObject(item, path, self._last_valid.get((kind, key), closed), str(error))
        return PolicyObject(item, path, policy)

    def exceptions(self, items: Mapping[ObjectKey, Manifest]) -> Mapping[ObjectKey, ExceptionObject]:
        """All exceptions; only those that have changed are read."""
        self._exceptions = {key: self._exception(key, item) for key, item in items.items()}
        return self._exceptions

    def _exception(self, key: ObjectKey, item: Manifest) -> ExceptionObject:
        if (before := self._exceptions.get(key)) and before.item is item:
            return before
        try:
            return ExceptionObject(item, exception_of(item))
        except ManifestError as error:
            log.warning("a policy exception cannot be read, and exempts nothing: %s", error)
            return ExceptionObject(item, None, str(error))


class PolicyController:
    """Follows the cluster's policies. `run` goes on until it is cancelled.

    A policy that cannot be read counts as it was when it could; one that never could denies everything in its
    namespaces, for a mistake must not open what it was to close (CVE-2025-46342).

    Args:
        objects: the API.
        reader: reads what the API has.
        apply: called with everything that is in force, after each change.
        enforcements: what else has to know.
        clock: seconds of Unix time.

    Attributes:
        sources: the policies in force.
    """

    def __init__(
        self,
        objects: Objects,
        reader: PolicyReader,
        apply: Callable[[Sequence[Policy], Sequence[PolicyException]], None],
        enforcements: Sequence[Enforcement],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._reader = reader
        self._apply = apply
        self._enforcements = enforcements
        self._clock = clock
        self._informers = {
            kind: Informer(objects, f"{_BASE}/{resource}", self._changed) for kind, resource in _RESOURCES.items()
        }
        self._exceptions = Informer(objects, f"{_BASE}/{_EXCEPTIONS}", self._changed)
        self._namespaces = Informer(objects, _NAMESPACES, self._changed)
        self._outdated = asyncio.Event()
        self._triggered = asyncio.Event()
        self.sources: Sequence[PolicyObject] = ()
        self._exceptions_read: Mapping[ObjectKey, ExceptionObject] = {}
        self._approved: tuple[PolicyException, ...] = ()
        self._applied: tuple[Sequence[Policy], Sequence[PolicyException]] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._status_failures = FailureLog(
            log, "the status of policies could not be written", "the status of policies is written again"
        )

    @property
    def failing(self) -> str:
        """Why the policies cannot be followed, "" while they can."""
        return next((each.failing for each in self._all_informers() if each.failing), "")

    def on_reconciled(self, listener: Callable[[], None]) -> None:
        """Call something each time that everything was reconciled."""
        self._listeners.append(listener)

    def reload(self) -> None:
        """Reconcile soon: other exceptions may count now."""
        self._changed()

    def trigger(self) -> None:
        """Reconcile soon: something else has changed."""
        self._triggered.set()

    async def run(self) -> None:
        """Follow, read and reconcile the policies."""
        async with asyncio.TaskGroup() as group:
            for informer in self._all_informers():
                group.create_task(informer.run())
            group.create_task(self._read_loop())
            group.create_task(self._reconcile_loop())

    def _all_informers(self) -> Iterator[Informer]:
        yield from self._informers.values()
        yield self._exceptions
        yield self._namespaces

    @property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """The labels of all namespaces that are known, by their names."""
        return {name: self.of(name) or {} for _, name in sorted(self._namespaces.objects)}

    def of(self, namespace: str) -> Mapping[str, str] | None:
        """The labels of a namespace; None if it is not known, as one that was made a moment ago."""
        item = self._namespaces.objects.get(("", namespace))
        return None if item is None else labels(item)

    def _changed(self) -> None:
        self._outdated.set()

    # ---- what is in force

    async def _read_loop(self) -> None:
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            if all(informer.synced for informer in self._all_informers()):
                try:
                    await self._apply_all()
                except Exception:
                    log.exception("a change of the cluster's policies could not be taken in")

    async def _apply_all(self) -> None:
        """Read what has changed, beside the event loop: a policy of a thousand rules takes its time."""
        policies = {
            (kind, key): item
            for kind, informer in self._informers.items()
            for key, item in sorted(informer.objects.items())
        }
        exceptions = dict(sorted(self._exceptions.objects.items()))
        sources = await asyncio.to_thread(self._reader.policies, policies)
        self._exceptions_read = await asyncio.to_thread(self._reader.exceptions, exceptions)
        self.sources = sources
        readable = (each.exception for each in self._exceptions_read.values() if each.exception is not None)
        self._approved = tuple(each for each in readable if not self._reader.doubt(each.begins))
        in_force = [source.policy for source in self.sources], self._approved
        if in_force != self._applied:  # writing a status is a change, too
            self._apply(*in_force)
            self._applied = in_force
        self._triggered.set()

    # ---- statuses

    async def _reconcile_loop(self) -> None:
        while True:
            now = self._clock()
            # The end of an exception has to be reported, although nothing changes in the cluster.
            ends = [each.ends - now for each in self._approved if each.active(now)]
            try:
                async with asyncio.timeout(min([_RECONCILE_SECONDS, *ends])):
                    await self._triggered.wait()
            except TimeoutError:
                pass
            self._triggered.clear()
            if self._applied is None:  # before that, enforcements would remove all that they have
                continue
            try:
                await self._reconcile()
                self._status_failures.succeed()
            except Unavailable as error:
                self._status_failures.fail(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next change comes
                self._status_failures.fail(error, cause=error)

    async def _reconcile(self) -> None:
        now = self._clock()
        active = [exception for exception in self._approved if exception.active(now)]
        results: list[dict[str, Condition]] = []
        for enforcement in self._enforcements:
            try:
                results.append(await enforcement.reconcile(self.sources, active))
            except (KubeRefused, Unavailable) as error:
                log.warning("policies could not be written to the API server: %s", error)
            except Exception:
                log.exception("policies could not be written to the API server")
        for listener in self._listeners:
            listener()
        for source in self.sources:
            ready = Condition("Ready", holds=True, reason="InForce", message="Trow enforces this policy")
            if source.error:
                ready = Condition("Ready", holds=False, reason="Invalid", message=source.error)
            conditions = [ready, *(each[source.path] for each in results if source.path in each)]
            wanted = status_update(source.item, conditions, now, observedGeneration=generation(source.item))
            await self._set_status(source.path, wanted)
        for (_, name), read in self._exceptions_read.items():
            await self._set_status(f"{_BASE}/{_EXCEPTIONS}/{name}", self._exception_status(read, now))

    def _exception_status(self, read: ExceptionObject, now: float) -> Manifest | None:
        item, exception = read.item, read.exception
        observed = generation(item)
        if exception is None:
            invalid = Condition("Active", holds=False, reason="Invalid", message=read.error)
            return status_update(item, [invalid], now, observedGeneration=observed)
        until, holds = rfc3339(exception.ends), False
        if now >= exception.ends:
            reason, message = "Expired", f"it expired at {until}"
        elif not exception.active(now):
            message = f"somebody other than {exception.requester} has to set spec.approver to their own name"
            reason = "WaitingForApproval"
        elif message := self._reader.doubt(exception.begins):
            reason = "NotGuarded"
        else:
            holds, reason, message = True, "Active", f"approved by {exception.approver}, until {until}"
        condition = Condition("Active", holds, reason, message)
        return status_update(item, [condition], now, observedGeneration=observed, expiresAt=until)

    async def _set_status(self, path: str, wanted: Manifest | None) -> None:
        """Write one status; a refusal does not keep others from being written."""
        if wanted is None:
            return
        try:
            await self._objects.apply_status(path, wanted)
        except NotFound:
            log.debug("%s has gone meanwhile", path)
        except KubeRefused as error:
            log.warning("the status of a policy could not be written: %s", error)
