"""What is expected of a connection, and why one has to end. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from trow.http.connections import is_done
from trow.http.pace import Pace, Patience

if TYPE_CHECKING:
    from trow.http.connections import Activity
    from trow.lib.sockets import Socket, State

# A request's first bytes come a moment before its begin is noted.
_SLACK_SECONDS: Final = 0.25
# Bytes that come beside requests: headers, TLS, what HTTP/2 says of itself. The server keeps up to 640 KiB of headers
# for as long as they do not end. Whoever takes an answer over HTTP/2 acknowledges it with a small part of its bytes.
_MOST_UNSOLICITED: Final = 128 * 1024
_ACKNOWLEDGEMENTS: Final = 1 / 16
_UNSOLICITED_SECONDS: Final = 1.0
# Bytes a second. Who takes less is ended first when others wait for a place.
_SLOW_RATE: Final = 16 * 1024


class Reason(Enum):
    """Why a connection was ended."""

    SILENT = "silent"
    HEADERS = "headers"
    UNSOLICITED = "unsolicited"
    IDLE = "idle"
    STALLED = "stalled"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """What is expected.

    Attributes:
        first: seconds until the first bytes come, and until a TLS client has introduced itself.
        headers: seconds that a request's headers may take.
        idle: seconds without a request.
        answers: how slowly answers may be taken.
    """

    first: float
    headers: float
    idle: float
    answers: Pace


class WatchedConnection:
    """A connection as the monitor has seen it over time.

    Attributes:
        socket: which one it is.
        name: what the server calls its client.
        source: whose limits it counts to.
        exempt: whether its source may have any number, as a trusted proxy may.
        since: when it was first seen, on the monotonic clock.
        state: what had come and gone when it was last seen, None before.
        waiting: whether the client has yet to take something.
        slow: since when it reads that unreasonably slowly, None if it does not.
    """

    __slots__ = (
        "_asked", "_busy", "_flooding", "_headers", "_patience", "_requests", "exempt", "name", "seen", "since",
        "slow", "socket", "source", "state", "waiting",
    )  # fmt: skip

    def __init__(
        self, socket: Socket, name: str, source: str, *, exempt: bool, rules: ConnectionRules, now: float
    ) -> None:
        self.socket = socket
        self.name = name
        self.source = source
        self.exempt = exempt
        self.since = self.seen = self._busy = now
        self.state: State | None = None
        self.waiting = False
        self.slow: float | None = None
        self._asked = (0, 0.0)
        self._requests = 0
        self._flooding: float | None = None
        self._headers: float | None = None
        self._patience = Patience(rules.answers)

    def judge(
        self, state: State, activity: Activity | None, rules: ConnectionRules, now: float, *, tls: bool
    ) -> Reason | None:
        """Note the present state; return why the connection has to end, or None if it may stay."""
        self._note_progress(state, activity, now)
        if self.waiting and self._patience.left <= 0:
            return Reason.STALLED
        if self._floods(state, activity, now):
            return Reason.UNSOLICITED
        if activity is None or not activity.requests:
            return self._before_requests(state, rules, now, tls=tls)
        # The next request does not begin while the client takes an answer.
        if activity.running or self.waiting:
            self._headers = None
            return None
        return self._between_requests(state, activity, rules, now)

    def _before_requests(self, state: State, rules: ConnectionRules, now: float, *, tls: bool) -> Reason | None:
        """Until a TLS client has said hello nothing is sent to it."""
        age = now - self.since
        if age > rules.first and (not state.received or (tls and not state.acked)):
            return Reason.SILENT
        return Reason.HEADERS if age > rules.headers else None

    def _between_requests(self, state: State, activity: Activity, rules: ConnectionRules, now: float) -> Reason | None:
        if now - max(activity.last, self._busy) > rules.idle:
            return Reason.IDLE
        # Over HTTP/2 there is more to say than requests.
        if activity.http2 or now - state.quiet < activity.last + _SLACK_SECONDS:
            self._headers = None
            return None
        self._headers = now if self._headers is None else self._headers
        return Reason.HEADERS if now - self._headers > rules.headers else None

    @property
    def flooding(self) -> bool:
        """Whether too much has come beside requests."""
        return self._flooding is not None

    def slow_for(self, now: float) -> float:
        """For how many seconds its client has read unreasonably slowly."""
        return 0.0 if self.slow is None else now - self.slow

    def idle_since(self, activity: Activity | None) -> float | None:
        """Since when there is nothing to do; None while there is."""
        if self.waiting or (activity is not None and activity.running):
            return None
        return self.since if activity is None else max(activity.last, self._busy)

    def _note_progress(self, state: State, activity: Activity | None, now: float) -> None:
        before, self.state = self.state, state
        elapsed, self.seen = now - self.seen, now
        untaken = activity is not None and activity.http2 and activity.unacked and not is_done(activity, state)
        was_waiting, self.waiting = self.waiting, state.pending or bool(untaken)
        if not self.waiting:
            self.slow = None
            self._patience.reset()
            return
        self._busy = now
        if was_waiting and before is not None:
            taken = state.acked - before.acked
            self._patience.note(elapsed, taken)
            if taken < _SLOW_RATE * elapsed:
                self.slow = now - elapsed if self.slow is None else self.slow
            else:
                self.slow = None

    def _floods(self, state: State, activity: Activity | None, now: float) -> bool:
        """Whether too much has come beside requests for a second: a request's begin may be noted late."""
        requests, running = (activity.requests, activity.running) if activity is not None else (0, 0)
        explained = state.acked * _ACKNOWLEDGEMENTS
        if running or requests != self._requests:
            self._requests, self._asked = requests, (state.received, explained)
        unsolicited = state.received - self._asked[0] - (explained - self._asked[1])
        if unsolicited <= _MOST_UNSOLICITED:
            self._flooding = None
        elif self._flooding is None:
            self._flooding = now
        return self._flooding is not None and now - self._flooding >= _UNSOLICITED_SECONDS
