"""A copy of a collection of the cluster, kept up to date also when the API server fails for a while."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from trow.kube.errors import BadAnswer, Expired, KubeRefused
from trow.kube.objects import Change
from trow.lib.backoff import Backoff
from trow.lib.failures import FailureLog
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.kube.objects import Manifest, ObjectKey, Objects, WatchEvent

log = logging.getLogger(__name__)

# In units of the first pause.
_LONGEST_PAUSE: Final = 16.0
_STEADY: Final = 4.0
_RESUMES: Final = 3
_GATHER_SECONDS: Final = 0.05


class Informer:
    """Lists a collection, then follows it. `run` goes on until it is cancelled.

    While the API server cannot be followed, what was known last stays. ``managedFields`` are left out.

    Args:
        objects: the API.
        path: of the collection.
        changed: called when all was listed, and soon after each change; several changes may be one call.
        watch_seconds: after how long each watch is begun again; with the time that ``objects`` gives a request it is
            how long a connection that died can go unnoticed here.
        first_pause: seconds until a failed attempt is repeated; later ones wait up to 16 times as long.

    Attributes:
        synced: whether all was listed once.
        refused: whether the API server will not show it until somebody changes something.
        objects: by namespace and name. It changes; take a copy to hold on to.
    """

    def __init__(
        self,
        objects: Objects,
        path: str,
        changed: Callable[[], None],
        *,
        watch_seconds: int = 120,
        first_pause: float = 1.0,
    ) -> None:
        self.synced = False
        self.refused = False
        self._api = objects
        self._path = path
        self._changed = changed
        self._watch_seconds = watch_seconds
        self._first_pause = first_pause
        self.objects: dict[ObjectKey, Manifest] = {}
        self._version = ""
        self._backoff = Backoff(first_pause, first_pause * _LONGEST_PAUSE)
        self._failures = FailureLog(
            log, f"{path} cannot be followed; what is known of it stays in use", f"{path} is followed again"
        )
        self._heard_at = -math.inf
        self._notifying: asyncio.TimerHandle | None = None

    @property
    def failing(self) -> str:
        """Why the collection cannot be followed, "" while it can."""
        return self._failures.reason

    @property
    def age(self) -> float:
        """Seconds since the last answer of the API server; infinite before the first one."""
        return time.monotonic() - self._heard_at

    async def run(self) -> None:
        """List and watch the collection; after a failure, again."""
        try:
            while True:
                pause = await self._turn()
                await asyncio.sleep(pause)
        finally:
            if self._notifying is not None:
                self._notifying.cancel()
                self._notifying = None

    async def _turn(self) -> float:
        """List and watch until something fails; returns the seconds until the next attempt."""
        began = time.monotonic()
        if self._backoff.failures >= _RESUMES:
            self._version = ""  # it may be what is wrong
        try:
            if not self._version:
                found = await self._api.list_all(self._path)
                self.objects = {key: _without_managed_fields(manifest) for key, manifest in found.objects.items()}
                self._version, self.synced = found.version, True
                self._heard()
                self._notify_soon(0.0)
            await self._watch()
        except Unavailable as error:
            self._fail(error.message, relist=isinstance(error, BadAnswer))
        except Expired as error:
            self._fail_if_repeated(error.message)
            self._version = ""
        except KubeRefused as error:
            self.refused = True
            self._fail(error.message, relist=True)
        else:
            if time.monotonic() - began >= self._first_pause:
                self._succeed()
                return 0.0
            self._fail_if_repeated(f"the Kubernetes API server ends each watch of {self._path} at once")
        return self._backoff.fail()

    async def _watch(self) -> None:
        before = self._version
        async with self._api.watch(self._path, before, seconds=self._watch_seconds) as events:
            self._heard()
            steady = asyncio.get_running_loop().call_later(_STEADY * self._first_pause, self._succeed)
            try:
                async for event in events:
                    self._apply(event)
            finally:
                steady.cancel()
        self._heard()
        if self._version == before:
            # Not even a bookmark. An API server is as silent about versions that it has not reached, having lost them.
            self._version = ""

    def _apply(self, event: WatchEvent) -> None:
        self._heard()
        self._version = event.version
        if event.change is Change.BOOKMARK:
            return
        if event.change is Change.DELETED:
            self.objects.pop(event.key, None)
        else:
            self.objects[event.key] = _without_managed_fields(event.manifest)
        self._notify_soon(_GATHER_SECONDS)

    def _heard(self) -> None:
        self.refused = False
        self._heard_at = time.monotonic()

    def _notify_soon(self, delay: float) -> None:
        if self._notifying is None:
            self._notifying = asyncio.get_running_loop().call_later(delay, self._notify)

    def _notify(self) -> None:
        self._notifying = None
        try:
            self._changed()
        except Exception:
            log.exception("a change of %s could not be taken in", self._path)

    def _fail(self, reason: str, *, relist: bool) -> None:
        if relist:
            self._version = ""
        self._failures.fail(reason)

    def _fail_if_repeated(self, reason: str) -> None:
        # A watch may end once without an event. When the next one has none either, that is a failure.
        if self._backoff.failures:
            self._fail(reason, relist=False)

    def _succeed(self) -> None:
        self._backoff.succeed()
        self._failures.succeed()


def _without_managed_fields(manifest: Manifest) -> Manifest:
    metadata = manifest.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)  # often more than all the rest
    return manifest
