"""A dispatcher for each listener."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.limits import RateLimit
from trow.http.pace import Pace
from trow.http.routes import Listener, Router
from trow.http.sites import Sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.config import Config
    from trow.http.access import AccessController
    from trow.http.accesslog import AccessLog
    from trow.http.connections import Connections
    from trow.http.metrics import Metrics
    from trow.http.peers import Peers
    from trow.http.routes import Endpoint


class Dispatchers:
    """Makes dispatchers, which share what counts for a client whichever way it comes."""

    def __init__(
        self,
        config: Config,
        access: AccessController,
        routes: Sequence[Endpoint],
        connections: Connections,
        metrics: Metrics,
        access_log: AccessLog | None,
    ) -> None:
        self._config = config
        self._routes = routes
        limits = config.limits
        self._rate = RateLimit(limits.requests_per_second, limits.burst) if limits.requests_per_second else None
        self._dispatcher = partial(
            Dispatcher,
            access=access,
            connections=connections,
            metrics=metrics,
            access_log=access_log,
            pace=Pace(config.limits.body_timeout, config.limits.body_rate),
        )

    def for_clients(self, peers: Peers) -> Dispatcher:
        """The registry's listeners, with all bounds of clients."""
        config, listeners = self._config, Listener.REGISTRY
        if config.admission.on_registry_addresses and config.judges_images:
            listeners |= Listener.WEBHOOKS
        return self._dispatcher(
            self._router(listeners),
            peers=peers,
            rate_limit=self._rate,
            cors=Cors(config.listen.cors) if config.listen.cors else None,
            sites=Sites.of(config),
            notice=config.registry.notice,
        )

    def for_few(self, listener: Listener, peers: Peers) -> Dispatcher:
        """A listener of a few routes, whose callers are few and speak for many: no bound of a client counts there."""
        return self._dispatcher(
            self._router(listener),
            peers=peers,
            rate_limit=None,
            cors=None,
            sites=Sites(None, (), own=True),
            notice="",
            bounded=False,
        )

    def _router(self, listeners: Listener) -> Router:
        return Router([route for route in self._routes if route.listeners & listeners])
