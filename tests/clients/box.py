"""Where a client runs: a home of its own, so that it finds no settings of this machine and leaves none behind."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from tools.find import search_path, tool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

# Every core may be at work for other tests.
RUN_SECONDS: Final = 120
DAEMON_SECONDS: Final = 60
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True)
class Box:
    """A folder in which programs are run to their end."""

    home: Path

    def run(self, name: str, *arguments: object, stdin: bytes = b"", env: Mapping[str, object] = NOTHING) -> str:
        """Standard output of a client that succeeds."""
        return self._succeed(name, arguments, stdin, env).stdout.decode()

    def said(self, name: str, *arguments: object, stdin: bytes = b"", env: Mapping[str, object] = NOTHING) -> str:
        """Everything that a client that succeeds has to say."""
        return everything(self._succeed(name, arguments, stdin, env))

    def refused(self, name: str, *arguments: object, stdin: bytes = b"", env: Mapping[str, object] = NOTHING) -> str:
        """Everything that a client that fails has to say."""
        done = self._run(name, arguments, stdin, env)
        assert done.returncode != 0, f"{name} {arguments} was expected to fail:\n{everything(done)}"
        return everything(done)

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": search_path(),
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
            "TMPDIR": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home),
        }

    def _succeed(
        self, name: str, arguments: Sequence[object], stdin: bytes, env: Mapping[str, object]
    ) -> subprocess.CompletedProcess[bytes]:
        done = self._run(name, arguments, stdin, env)
        assert done.returncode == 0, f"{name} {arguments} ended with {done.returncode}:\n{everything(done)}"
        return done

    def _run(
        self, name: str, arguments: Sequence[object], stdin: bytes, env: Mapping[str, object]
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(tool(name)), *map(str, arguments)],
            cwd=self.home,
            env=self.environment() | {key: str(value) for key, value in env.items()},
            input=stdin,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )


def everything(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stdout + done.stderr).decode("utf-8", "replace")


class DaemonError(Exception):
    """A daemon that did not come up; the message is its log."""


class Daemon:
    """A program that stays, known to be up by a line of its log, and ended by its id."""

    def __init__(self, box: Box, ready: str, name: str, *arguments: object) -> None:
        self._log: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [str(tool(name)), *map(str, arguments)],
            cwd=box.home,
            env=box.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        self._ready.wait(DAEMON_SECONDS)
        if not any(ready in line for line in self._log):
            self.stop()
            raise DaemonError(f"{name} does not start on this machine:\n{''.join(self._log[-20:])}")

    def _read(self, ready: str) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log.append(line)
            if ready in line:
                self._ready.set()
        self._ready.set()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(DAEMON_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(DAEMON_SECONDS)
        if self._process.stderr:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
