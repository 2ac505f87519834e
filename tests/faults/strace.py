"""System calls of a running server: watched, made to fail, or made its last."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Trow


@contextlib.contextmanager
def strace(trow: Trow, log: Path, *expressions: str) -> Iterator[None]:
    """Trace all threads of the server while the context lasts."""
    program = shutil.which("strace")
    assert program, "strace is missing; run `python -m tests.tools.install`"
    argv = [program, "-f", "-y", "-s", "64", "-o", str(log), "-p", str(trow.process.pid), *expressions]
    tracer = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        assert "attached" in attached, attached
        yield
    finally:
        if trow.process.poll() is None:
            tracer.terminate()  # it lets go of the server and ends
        end(tracer)


def end(tracer: subprocess.Popen[str]) -> None:
    try:
        tracer.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        tracer.kill()  # the kernel lets go for it
        tracer.communicate()


@contextlib.contextmanager
def failing(trow: Trow, log: Path, calls: str, error: str, path: Path | None = None) -> Iterator[None]:
    """Let every one of these calls fail, on ``path`` alone if it is given; at least one must."""
    where = [] if path is None else ["-P", str(path)]
    with strace(trow, log, *where, "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"):
        yield
    assert "(INJECTED)" in log.read_text("utf-8"), f"the server never called {calls}"


@contextlib.contextmanager
def deadly(trow: Trow, log: Path, calls: str, path: Path | None = None) -> Iterator[None]:
    """kill -9 at the entry of any of these calls; one must come."""
    where = [] if path is None else ["-P", str(path)]
    with strace(trow, log, *where, "-e", f"trace={calls}", "-e", f"inject={calls}:signal=SIGKILL"):
        yield
        trow.process.wait(30)
    trow.kill()
