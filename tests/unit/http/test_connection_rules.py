from __future__ import annotations

import pytest

from trow.config.schema import Limits
from trow.http.connection_rules import ConnectionRules, Reason, WatchedConnection
from trow.http.connections import Activity
from trow.http.pace import Pace
from trow.lib.sockets import Socket, State

RULES = ConnectionRules(first=10, headers=30, idle=180, answers=Pace(30, 512))
NOTHING = State(received=0, quiet=0, acked=0, pending=False)


class Followed:
    """A connection that began at 0, and what the monitor says of it."""

    def __init__(self, activity: Activity | None = None, *, tls: bool = False, rules: ConnectionRules = RULES) -> None:
        self.watched = WatchedConnection(
            Socket(7, b"cookie"), "192.0.2.1:5000", "192.0.2.1", exempt=False, rules=rules, now=0
        )
        self.activity = activity
        self.tls = tls
        self.rules = rules

    def at(self, now: float, *, received: int = 100, quiet: float = 0, acked: int = 0, pending: bool = False) -> object:
        state = State(received, quiet, acked, pending)
        return self.watched.judge(state, self.activity, self.rules, now, tls=self.tls)

    def end(self, *, acked: int = 0, pending: bool = False) -> float:
        """The second in which it ends, looked at once a second."""
        seconds = range(1, 1000)
        return next(now for now in seconds if self.at(now, quiet=now, acked=acked, pending=pending) is not None)


def asked(*, last: float = 0, http2: bool = False, running: int = 0, unacked: int = 0) -> Activity:
    activity = Activity()
    activity.requests, activity.last, activity.http2 = 1, last, http2
    activity.running, activity.unacked = running, unacked
    return activity


def test_silence_ends_soon() -> None:
    followed = Followed()
    assert followed.at(10, received=0, quiet=10) is None
    assert followed.at(10.1, received=0, quiet=10.1) is Reason.SILENT


def test_handshake_that_does_not_come_about_ends_soon_and_one_that_has_does_not() -> None:
    assert Followed(tls=True).at(11) is Reason.SILENT
    assert Followed(tls=True).at(11, acked=1500) is None
    assert Followed(tls=False).at(11) is None, "without TLS nothing is sent before there was a request"


def test_first_request_has_its_time_however_much_comes() -> None:
    followed = Followed()
    assert all(followed.at(now, received=now) is None for now in range(1, 31))
    assert followed.at(31, received=31) is Reason.HEADERS


def test_headers_without_an_end_end_when_they_are_longer_than_any() -> None:
    followed = Followed()
    assert followed.at(1, received=500_000) is None
    assert followed.at(2, received=600_000) is Reason.UNSOLICITED


def test_what_comes_after_a_request_and_belongs_to_none_ends_as_well() -> None:
    """The body of a request that was refused, or pings over HTTP/2."""
    followed = Followed(asked(http2=True))
    assert followed.at(1, received=10_000_000) is None, "it came with the request"
    assert followed.at(2, received=10_200_000) is None
    assert followed.at(3, received=10_200_000) is Reason.UNSOLICITED


def test_a_request_whose_body_came_before_the_note_of_it_goes_on() -> None:
    followed = Followed()
    assert followed.at(1, received=600_000) is None
    followed.activity = asked(running=1)
    assert all(followed.at(now, received=now * 10_000_000) is None for now in range(2, 100))


def test_whoever_takes_an_answer_may_tell_of_it() -> None:
    """Over HTTP/2: 13 bytes for each update of a window (RFC 9113, section 6.9)."""
    followed = Followed(asked(http2=True))
    for now in range(1, 100):
        assert followed.at(now, received=1_000_000 * now, acked=32_000_000 * now) is None


def test_later_request_has_its_time_from_its_first_byte_on() -> None:
    followed = Followed(asked(last=5))
    assert followed.at(100, quiet=95) is None
    assert followed.at(110, quiet=3) is None
    assert followed.at(139, quiet=1) is None
    assert followed.at(141, quiet=1) is Reason.HEADERS


def test_request_that_has_come_is_not_one_that_comes_slowly() -> None:
    followed = Followed(asked(last=5))
    for second in range(10, 150, 2):
        assert followed.activity is not None
        followed.activity.last = second
        assert followed.at(second + 1, quiet=1) is None


def test_idle_connection_outlives_what_load_balancers_keep() -> None:
    """AWS's keep a connection for 60 seconds, and would send a request over one that is ending (by default)."""
    limits = Limits()
    rules = ConnectionRules(limits.first_byte_timeout, limits.header_timeout, limits.idle_timeout, Pace(30, 512))
    assert Followed(asked(), rules=rules).end() == 181
    assert Followed(asked(http2=True), rules=rules).end() == 181


@pytest.mark.parametrize("quiet", [0, 1, 50])
def test_http_2_that_pings_is_idle(quiet: float) -> None:
    followed = Followed(asked(http2=True))
    assert all(followed.at(now, quiet=quiet) is None for now in range(1, 180))
    assert followed.at(181, quiet=quiet) is Reason.IDLE


def test_request_under_way_keeps_its_connection() -> None:
    followed = Followed(asked(running=1))
    assert all(followed.at(now, quiet=now) is None for now in range(1, 1000))
    assert followed.watched.idle_since(followed.activity) is None


def test_answer_that_is_not_taken_ends_its_connection() -> None:
    assert Followed(asked()).end(acked=1000, pending=True) == 31
    assert Followed(asked(running=1)).end(acked=1000, pending=True) == 31


def test_answer_that_is_taken_slowly_goes_on_and_a_byte_now_and_then_does_not_count() -> None:
    followed = Followed(asked())
    assert all(followed.at(now, acked=512 * now, pending=True) is None for now in range(1, 1000))
    followed = Followed(asked())
    found = [followed.at(now, acked=now, pending=True) for now in range(1, 60)]
    assert Reason.STALLED in found


def test_answer_that_was_taken_earns_the_next_one_all_the_time() -> None:
    followed = Followed(asked())
    for now in range(1, 30):
        assert followed.at(now, quiet=now, acked=10, pending=True) is None
    assert followed.at(30, quiet=30, acked=11) is None
    assert all(followed.at(now, acked=11, pending=True) is None for now in range(31, 60))


def test_http_2_stream_that_is_not_taken_is_an_answer_that_is_not_taken() -> None:
    """TCP goes on, the window of the stream is shut."""
    assert Followed(asked(http2=True, unacked=10_000)).end(acked=1_000) == 31
    assert Followed(asked(http2=True, unacked=10_000)).end(acked=10_000) == 181


def test_next_request_that_came_while_the_answer_was_taken_is_not_slow() -> None:
    followed = Followed(asked())
    assert all(followed.at(now, quiet=now - 2, acked=10_000 * now, pending=True) is None for now in range(2, 200))


def test_slow_is_who_takes_less_than_anybody_would() -> None:
    followed = Followed(asked())
    for now in range(1, 5):
        followed.at(now, acked=1000 * now, pending=True)
    assert followed.watched.slow_for(4) == 3
    followed.at(5, acked=50_000, pending=True)
    assert followed.watched.slow_for(5) == 0
    followed.at(6, acked=50_000, pending=True)
    assert followed.watched.slow_for(7) == 2
    followed.at(8, acked=50_000)
    assert followed.watched.slow_for(9) == 0


def test_idle_is_counted_from_the_last_that_happened() -> None:
    followed = Followed()
    followed.at(3)
    assert followed.watched.idle_since(None) == 0
    followed = Followed(asked(last=5))
    followed.at(7, pending=True)
    assert followed.watched.idle_since(followed.activity) is None
    followed.at(8)
    assert followed.watched.idle_since(followed.activity) == 7
