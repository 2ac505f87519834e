"""Tests that are coroutines run on the event loop that the product uses, each on one of its own.

The event loop is for deciding: what the product's code asks of files on it is found, and fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import uvloop

import trow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from types import CodeType, FrameType

Result = TypeVar("Result")
SECONDS: Final = 180  # every core may be at work for other tests
_PRODUCT: Final = str(Path(trow.__file__).parent)
_STANDARD: Final = str(Path(os.__file__).parent)
# What Python tells of by itself (PEP 578); it says nothing of looks at names.
_EVENTS: Final = frozenset({
    "open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate",
    "os.chmod", "os.utime",
})  # fmt: skip
_LOOKS: Final = ("stat", "lstat", "statvfs", "access")
# What happens at the start before anybody is served, and in commands that serve nobody.
ALLOWED: Final = (
    "SqliteEngine.__init__",
    "open_reader",
    "open_writer",
    "run_offline",
    "anchors_of_database",
    "migrate",
    "Anchor.__init__",
    "ConnectionCloser.__init__",
    "hold",
    "memory_limit",
    "Reserve.__init__",
    "RunningMark.",
    "recover",
    "was_used",
    "check_database",
    "load",
    "_read_yaml",  # with `_present`, how the cluster is reached: read at the start
    "_present",
    "rotate",
    "KeyRing.__init__",
    "SigningKey.load",
    "FileWatcher.__init__",
    "make_file",
    "FilesystemBlobs.prepare",
    "FilesystemBlobs.recover",
    "FilesystemBlobs._still_complete",  # the kernel has it in memory
)
# A module that is needed for the first time, and an error that is worded with its source: once, not for each request.
_ONCE: Final = ("importlib._bootstrap_external>", "linecache.py", "traceback.py")
_found: list[str] | None = None
# Awaited on the loop when its test ends: what is open on it can be closed nowhere else.
at_end: Final[list[Callable[[], Awaitable[object]]]] = []


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end, within bounds."""

    async def bounded() -> Result:
        try:
            async with asyncio.timeout(SECONDS):
                return await work
        finally:
            while at_end:
                await at_end.pop()()

    return uvloop.run(bounded())


@contextlib.contextmanager
def files_are_left_alone() -> Iterator[None]:
    """Fails where the product's code has asked for a file on an event loop meanwhile."""
    global _found  # noqa: PLW0603 - the hook cannot be taken away, and there is one
    before, _found = _found, []
    try:
        with _looks_told():
            yield
        assert not _found, f"on the event loop: {', '.join(dict.fromkeys(_found))}"
    finally:
        _found = before


@contextlib.contextmanager
def _looks_told() -> Iterator[None]:
    originals = {name: getattr(os, name) for name in _LOOKS}
    for name, original in originals.items():
        setattr(os, name, _told(name, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def _told(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def look(*args: Any, **kwargs: Any) -> Any:
        _note(f"os.{name}")
        return original(*args, **kwargs)

    return look


def _note(event: str) -> None:
    """Keep what the product itself does on a loop; what a test does there is its own affair."""
    if _found is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - the public one raises, and is slower
        return
    frames = list(_frames(sys._getframe(1)))  # noqa: SLF001
    ours = next((each for each in frames if not each.co_filename.startswith((_STANDARD, "<frozen", __file__))), None)
    if ours is None or not ours.co_filename.startswith(_PRODUCT):
        return
    if not any(each.co_qualname.startswith(ALLOWED) or each.co_filename.endswith(_ONCE) for each in frames):
        _found.append(f"{event} by {Path(ours.co_filename).stem}.{ours.co_qualname}")


def _frames(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def _hook(event: str, _: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        _note(event)


sys.addaudithook(_hook)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    with files_are_left_alone():
        run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
