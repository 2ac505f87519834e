"""Many clients at once: one process each, started before the clock, let go together."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection as Pipe

# Forked, so that a client needs no import and no pickling before it can start.
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Work:
    """What one client got done, and when on the clock that all processes share."""

    amount: float
    began: float
    ended: float


def rate(works: list[Work]) -> float:
    """Amount a second, from the first start to the last end."""
    return sum(each.amount for each in works) / (max(w.ended for w in works) - min(w.began for w in works))


def in_processes(
    count: int, client: Callable[[int, Callable[[], object]], float], *, meanwhile: Callable[[], None] | None = None
) -> list[Work]:
    """Run `client(index, ready)` in each process; it calls `ready` once prepared, and the clock starts behind that."""
    barrier = _FORK.Barrier(count)
    running = []
    for index in range(count):
        receiver, sender = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_run, args=(index, client, barrier, sender), daemon=True)
        process.start()
        sender.close()
        running.append((process, receiver))
    while meanwhile and any(process.is_alive() for process, _ in running):
        meanwhile()
    results = [receiver.recv() for _, receiver in running]
    for process, _ in running:
        process.join()
    failures = [result for result in results if isinstance(result, str)]
    if failures:
        raise RuntimeError("clients failed:\n" + "\n".join(failures))
    return results


def _run(index: int, client: Callable[[int, Callable[[], object]], float], barrier: Any, sender: Pipe) -> None:
    began = 0.0

    def ready() -> None:
        nonlocal began
        barrier.wait()
        began = time.monotonic()

    try:
        amount = client(index, ready)
        sender.send(Work(amount, began, time.monotonic()))
    except BaseException:  # noqa: BLE001  # whatever it was, the parent is to hear of it
        barrier.abort()
        sender.send(traceback.format_exc())
