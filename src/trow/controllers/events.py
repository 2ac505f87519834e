"""Kubernetes Events: what the owners of workloads see in `kubectl describe`.

Equal Events are one object that is counted up, as the API server's own recorders do it; nothing here blocks or fails a
review, and what cannot be written is dropped, for the audit trail has it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.kube.errors import KubeRefused
from trow.lib.caches import LruCache
from trow.lib.failures import FailureLog
from trow.lib.times import rfc3339
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.admission.ports import Notification
    from trow.kube.objects import Manifest, Objects

log = logging.getLogger(__name__)

# Notifications that wait to be written; more are dropped, the oldest first.
_MOST_WAITING: Final = 1_000
_MOST_KNOWN: Final = 5_000
# Equal notifications within this time are one Event that is counted up. The API server keeps Events for an hour.
_SERIES_SECONDS: Final = 3_000.0
# Between two writes: a Deployment that cannot start its Pods tries again and again.
_PAUSE_SECONDS: Final = 0.1
# A Kubernetes Event's message is cut at this length by its validation.
_LONGEST_MESSAGE: Final = 1_024
# Events about what belongs to no namespace are kept here.
_ELSEWHERE: Final = "default"
_UNFIT: Final = re.compile(r"[^a-z0-9]+")


@dataclass(slots=True)
class _Series:
    """Equal notifications."""

    notification: Notification
    name: str
    first: float
    last: float
    count: int = 1


class EventRecorder:
    """Writes Events. `run` goes on until it is cancelled.

    Args:
        objects: the API.
        instance: who says it, such as the name of the Pod that Trow runs in.
        clock: seconds of Unix time.
    """

    def __init__(self, objects: Objects, instance: str, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._instance = instance
        self._clock = clock
        self._known: LruCache[str, _Series] = LruCache(_MOST_KNOWN)
        self._waiting: OrderedDict[str, _Series] = OrderedDict()
        self._pending = asyncio.Event()
        self._failures = FailureLog(
            log, "an Event could not be written, and others may be missing too", "Events are written again"
        )

    def notify(self, notification: Notification) -> None:
        now, subject = self._clock(), notification.subject
        said = notification.namespace, subject.uid, subject.name, notification.reason, notification.message
        key = hashlib.sha256("\0".join(said).encode(errors="replace")).hexdigest()
        series = self._known.get(key)
        if series is None or now - series.first > _SERIES_SECONDS:
            # An Event's name begins with its subject's; who makes a Pod can name any owner, and it is not checked.
            name = _UNFIT.sub("-", subject.name)[:200].strip("-") or "object"
            series = _Series(notification, f"{name}.{key[:12]}{int(now):x}", now, now)
        else:
            series.last, series.count = now, series.count + 1
        self._known.put(key, series)
        self._waiting[key] = series
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        self._pending.set()

    async def run(self) -> None:
        """Write the notifications that wait, until cancelled."""
        while True:
            await self._pending.wait()
            if not self._waiting:
                self._pending.clear()
                continue
            _, series = self._waiting.popitem(last=False)
            path = f"/api/v1/namespaces/{series.notification.namespace or _ELSEWHERE}/events/{series.name}"
            try:
                await self._objects.apply(path, self._event(series))
            except (KubeRefused, Unavailable, ValueError) as error:
                self._failures.fail(error)
            else:
                self._failures.succeed()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _event(self, series: _Series) -> Manifest:
        notification, subject = series.notification, series.notification.subject
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": notification.namespace or _ELSEWHERE},
            "involvedObject": {
                "apiVersion": subject.api_version,
                "kind": subject.kind,
                "name": subject.name,
                "namespace": notification.namespace,
                "uid": subject.uid,
            },
            "reason": notification.reason,
            "message": notification.message[:_LONGEST_MESSAGE],
            "type": "Warning",
            "source": {"component": "trow"},
            "reportingComponent": "trow",
            "reportingInstance": self._instance,
            "firstTimestamp": rfc3339(series.first),
            "lastTimestamp": rfc3339(series.last),
            "count": series.count,
        }
