"""How long others wait while a server is asked for something costly again and again.

The event loop is for deciding: whatever a request costs, `/healthz` of everybody else is answered meanwhile. The same
question goes to an idle server beside it in turn, so that a busy machine delays both and only the difference counts.
"""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from support.wire import ConnectionEnded, Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_SECONDS: Final = 0.1
_QUESTIONS: Final = 100
_LONGEST_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.01
# A moment in which the machine did something else: a real stop shows in each.
_TRIES: Final = 3
_ATTACKERS: Final = 6
_WARM_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Costly:
    """A request, as its bytes, and the status of its answer."""

    method: str
    data: bytes
    status: int


class _Attack:
    """Connections that ask for the same again as soon as it is answered."""

    def __init__(self, host: str, costly: Sequence[Costly]) -> None:
        self._host = host
        self._costly = costly
        self._over = threading.Event()
        self.wrong: list[str] = []
        self.answered = 0

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_ATTACKERS)]
        for thread in threads:
            thread.start()
        try:
            self._over.wait(_WARM_SECONDS)
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            with Wire(self._host) as wire:
                try:
                    self._ask(wire)
                except (ConnectionEnded, OSError):
                    continue  # it ends after a refusal

    def _ask(self, wire: Wire) -> None:
        while not self._over.is_set():
            for each in self._costly:
                wire.send_what_it_takes(each.data)
                answer = wire.answer(each.method)
                self.answered += 1
                if answer.status != each.status:
                    self.wrong.append(str(answer))


def assert_others_are_answered(host: str, idle: str, costly: Sequence[Costly]) -> None:
    """Everybody else is answered by ``host`` while it is asked for what is costly, as fast as by the ``idle`` one.

    The bound holds for the median of the slowest tenth of the answers.
    """
    waits: list[float] = []
    while not waits or waits[-1] >= MOST_SECONDS:
        assert len(waits) < _TRIES, f"others waited for {', '.join(f'{each:.3f}' for each in waits)} s"
        waits.append(_longest_wait(host, idle, costly))


def _longest_wait(host: str, idle: str, costly: Sequence[Costly]) -> float:
    attack = _Attack(host, costly)
    with ExitStack() as stack:
        asked, beside = (stack.enter_context(Wire(each)) for each in (host, idle))
        with attack.going_on():
            pairs = [(_seconds(asked), _seconds(beside)) for _ in _for_a_while()]
    assert attack.answered, "nothing was asked"
    assert not attack.wrong, attack.wrong[0]
    return _slow(first for first, _ in pairs) - _slow(second for _, second in pairs)


def _for_a_while() -> Iterator[int]:
    """Enough questions for a slowest tenth, and less of them where each takes long."""
    end = time.monotonic() + _LONGEST_SECONDS
    for number in range(_QUESTIONS):
        yield number
        if time.monotonic() > end:
            return


def _seconds(wire: Wire) -> float:
    threading.Event().wait(_PAUSE_SECONDS)
    started = time.perf_counter()
    assert wire.ask("GET", "/healthz").status == 200
    return time.perf_counter() - started


def _slow(seconds: Iterator[float]) -> float:
    ordered = sorted(seconds)
    return statistics.median(ordered[-len(ordered) // 10 :])


def costly(
    method: str,
    target: str,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
) -> Costly:
    return Costly(method, request(method, target, headers, body), status)
