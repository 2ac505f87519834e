"""Servers started for one case on empty data, and cleared away behind it."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import servers
from bench.content import push_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.measure import Setting
    from bench.servers import Server

REPOSITORY = "bench/app"
TAG = "v1"
SMALL_LAYER = 4096
LAYERS = 10


@contextmanager
def folder(setting: Setting, name: str) -> Iterator[Path]:
    """A folder for the data of one case."""
    path = setting.scratch / name
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def trow_and_distribution(home: Path, *, tls: bool = False) -> Iterator[tuple[Server, Server]]:
    trow, distribution = servers.Trow(home / "trow"), servers.Distribution(home / "distribution")
    if tls:
        trow.tls = distribution.tls = servers.Tls(home / "tls")
    with trow, distribution:
        yield trow, distribution


def small_layers(count: int = LAYERS) -> list[bytes]:
    return [os.urandom(SMALL_LAYER) for _ in range(count)]


def push_small_image(server: Server) -> None:
    with server.connect() as connection:
        push_image(connection, REPOSITORY, TAG, small_layers())
