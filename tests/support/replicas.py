"""Replicas of one registry: programs of their own, on one database and one data directory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from support.registry import Client
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class Replicas:
    """Some replicas; one that was killed can be started again.

    Attributes:
        trows: those that run.
        clients: one for each of them, in the same order.
    """

    def __init__(self, folder: Path, url: str, config: Mapping[str, Any], stack: contextlib.ExitStack) -> None:
        self.data_dir = folder / "data"
        self.trows: list[Trow] = []
        self.clients: list[Client] = []
        self._folder = folder
        self._config = {"metadata": "postgres", "postgres": {"url": url}, **config}
        self._stack = stack
        self._made = 0

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path, url: str, count: int = 2, config: Mapping[str, Any] | None = None) -> Iterator[Self]:
        """Start as many; all of them stop in the end."""
        with contextlib.ExitStack() as stack:
            replicas = cls(folder, url, {"replicas": count, "audit": {"enabled": False}, **(config or {})}, stack)
            for _ in range(count):
                replicas.add()
            yield replicas

    def add(self, *flags: str, data_dir: Path | None = None) -> Trow:
        """Start a further one."""
        self._made += 1
        place = self._folder / f"replica{self._made}"
        trow = Trow.start(place, "--data-dir", str(data_dir or self.data_dir), *flags, config=self._config)
        self.trows.append(self._stack.enter_context(trow))
        self.clients.append(self._stack.enter_context(Client(trow.url)))
        return trow

    def kill(self, number: int) -> None:
        """End one without a word."""
        self.trows.pop(number).kill()
        self.clients.pop(number).close()
