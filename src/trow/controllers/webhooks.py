"""The configurations of the webhooks, which Trow writes itself: never before an API server has reached it.

A configuration that is applied by hand comes too early: from then on the API server calls, and trusts nobody yet. So
there is at first one webhook about nothing but Trow's own probes. A probe is an Event that is never stored: Trow sends
it, the API server asks Trow about it, and Trow refuses it in known words. When they come back, the way is good, and the
other webhooks are written, complete with the authority.

All replicas do the same side by side, and write only what is not as it should be.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from trow.kube.errors import Conflict, KubeRefused
from trow.kube.objects import PatchType
from trow.kube.owner import OwnerRole
from trow.lib.failures import FailureLog
from trow.lib.kube_objects import listing, mapping, metadata, text
from trow.oci.errors import Unavailable
from trow.policy.webhooks import (
    MUTATING,
    PROBE_ANSWER,
    PROBE_REASON,
    REACH_WEBHOOK,
    REGISTRATION,
    VALIDATING,
    mutating,
    reach,
    validating,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from trow.kube.objects import Manifest, Objects
    from trow.policy.webhooks import WebhookClient, WebhookScope

log = logging.getLogger(__name__)

_BASE: Final = f"/apis/{REGISTRATION}"
_RESOURCES: Final = {VALIDATING: "validatingwebhookconfigurations", MUTATING: "mutatingwebhookconfigurations"}
_LABELS: Final = {"app.kubernetes.io/managed-by": "trow"}
# An API server adds nothing to these: what else is in them makes narrower what it asks about.
_SELECTORS: Final = frozenset({"namespaceSelector", "objectSelector"})
_RECONCILE_SECONDS: Final = 10.0
# An API server learns of a webhook within a second or two.
_SOON_SECONDS: Final = 1.0


class WebhookConfigurations:
    """Keeps both configurations. `run` goes on until it is cancelled.

    Args:
        objects: the API.
        name: of both.
        client: where the API server calls, given the authorities that it trusts now; None: not known yet.
        scope: what is to be asked; None while the policies are not known.
        owner: the ClusterRole with which they go, "" for none.

    Attributes:
        in_step: whether both are as they should be.
    """

    def __init__(
        self,
        objects: Objects,
        name: str,
        client: Callable[[bytes], Awaitable[WebhookClient | None]],
        scope: Callable[[], WebhookScope | None],
        owner: str = "",
    ) -> None:
        self._failures = FailureLog(
            log,
            "the webhook configurations cannot be written, and stay as they are",
            "the webhook configurations are written again",
        )
        self.in_step = False
        self._objects = objects
        self._paths = {kind: f"{_BASE}/{resource}/{name}" for kind, resource in _RESOURCES.items()}
        self._name = name
        self._client = client
        self._scope = scope
        self._owner = OwnerRole(objects, owner)
        self._reached: Mapping[str, object] = {}
        self._triggered = asyncio.Event()

    @property
    def failing(self) -> str:
        """Why they cannot be kept up to date, "" while they can."""
        return self._failures.reason

    def trigger(self) -> None:
        """Write them again soon: something that they depend on has changed."""
        self._triggered.set()

    async def run(self) -> None:
        """Keep the configurations up to date, until cancelled."""
        while True:
            self._triggered.clear()
            try:
                await self.reconcile()
            except Conflict:
                log.debug("another replica has changed the webhook configurations; they are read again")
            except (KubeRefused, Unavailable) as error:
                self.in_step = False
                self._failures.fail(error.message)
            except Exception:
                log.exception("the webhook configurations could not be written")
            # However often policies are changed, API servers have to read these again only now and then.
            await asyncio.sleep(_SOON_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RECONCILE_SECONDS if self.in_step else _SOON_SECONDS):
                    await self._triggered.wait()

    async def reconcile(self) -> None:
        """Do one turn of work.

        Raises:
            KubeRefused: the API server does not allow it; the message says which right is missing.
            Unavailable: the API server does not answer, or does not reach Trow.
        """
        present = await self._objects.get(self._paths[VALIDATING])
        client, scope = await self._client(_bundle(present)), self._scope()
        if client is None or scope is None:
            return
        if not await self._reaches(client, present):
            return
        await self._write(VALIDATING, validating(scope, client))
        await self._write(MUTATING, mutating(scope, client))
        if not self.in_step:
            log.info("the API server asks Trow")
        self.in_step = True
        self._failures.succeed()

    # ---- is it reached

    async def _reaches(self, client: WebhookClient, present: Manifest | None) -> bool:
        """Whether the API server calls Trow where it should; False if it may not know of the probe yet."""
        probe = reach(client)
        where = {**client.config(""), "caBundle": ""}  # a renewed authority is not another address
        if self._reached == where:
            return True
        self.in_step = False
        others = [each for each in _webhooks(present) if each.get("name") != REACH_WEBHOOK]
        await self._write(VALIDATING, [*others, probe])
        events = f"/api/v1/namespaces/{client.namespace}/events"
        try:
            await self._objects.create(events, probe_event(client.namespace), dry_run=True)
        except KubeRefused as error:
            if PROBE_ANSWER not in error.message:
                raise
            self._reached = where
            return True
        return False

    # ---- writing

    async def _write(self, kind: str, webhooks: Sequence[Mapping[str, object]]) -> None:
        path = self._paths[kind]
        present = await self._objects.get(path)
        owners = {"ownerReferences": references} if (references := await self._owner.references()) else {}
        if present is None:
            named = {"name": self._name, "labels": _LABELS, **owners}
            whole = {"apiVersion": REGISTRATION, "kind": kind, "metadata": named, "webhooks": [*webhooks]}
            # Applied rather than created: only then can RBAC compare the name.
            await self._objects.apply(path, whole)
        elif _holds(present.get("webhooks") or [], [*webhooks]) and _holds(metadata(present), owners):
            return
        else:
            wanted = {"resourceVersion": metadata(present).get("resourceVersion"), "labels": _LABELS, **owners}
            # The list as a whole: nothing stays of what somebody else has added to it.
            await self._objects.patch(path, {"metadata": wanted, "webhooks": [*webhooks]}, PatchType.MERGE)
        log.info("%s %s is written", kind, self._name, extra={"webhooks": [str(each["name"]) for each in webhooks]})


def probe_event(namespace: str) -> Manifest:
    """An Event that the API server has to ask Trow about, and does not store."""
    about = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": "trow-reach-", "namespace": namespace},
        "involvedObject": about,
        "reason": PROBE_REASON,
        "message": "does the API server reach Trow?",
        "type": "Normal",
        "source": {"component": "trow"},
    }


def _webhooks(configuration: Manifest | None) -> Sequence[Manifest]:
    return [each for each in listing((configuration or {}).get("webhooks")) if isinstance(each, dict)]


def _bundle(configuration: Manifest | None) -> bytes:
    """The authorities that are trusted now; b"" where there are none."""
    for webhook in _webhooks(configuration):
        encoded = text(mapping(webhook.get("clientConfig")).get("caBundle"))
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            return b""
    return b""


def _holds(present: object, wanted: object) -> bool:
    """Whether it is as it is wanted, but for what an API server adds, and empty members, which it leaves out."""
    if isinstance(wanted, dict):
        found = present or {}
        return isinstance(found, dict) and all(
            _filled(found.get(key)) == _filled(value) if key in _SELECTORS else _holds(found.get(key), value)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        listed = present or []
        return isinstance(listed, list) and len(listed) == len(wanted) and all(map(_holds, listed, wanted))
    return present == wanted


def _filled(selector: object) -> object:
    """A selector without its empty members."""
    return {key: value for key, value in selector.items() if value} if isinstance(selector, dict) else selector or {}
