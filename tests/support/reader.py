"""Somebody who follows pages: their blocks one after the other, in one folder, beside a live Trow."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from support.pages import blocks, name
from support.server import Trow
from tools.find import SYSTEM_PATH, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from support.pages import Block

# What pages call the addresses of Trow: the first one that it listens on, and that for client certificates.
SERVED: Final = "127.0.0.1:8000"
SERVED_TO_CERTIFICATES: Final = "127.0.0.1:8443"
COMMAND_SECONDS: Final = 120
SOON_SECONDS: Final = 120  # the longest that a page promises is a minute; other tests may have all cores
POLL_SECONDS: Final = 0.5

# What differs from one run to the next.
_VARYING: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "HEX"),
    (re.compile(r"\b(\d+[smhd])+\b"), "AGE"),
    (re.compile(r"\b\d+\b"), "NUMBER"),
    (re.compile(r"\s+"), " "),
)


def steps(page: Path) -> Iterator[tuple[Block, str]]:
    """The page's blocks, each with the output that is shown below it."""
    found = list(blocks(page))
    for block, following in zip(found, [*found[1:], None], strict=True):
        if "output" not in block.words:
            yield block, following.code if following is not None and "output" in following.words else ""


class Reader:
    """`with Reader(tmp_path, ...) as reader:` follows pages in the folder, which has to be the current directory.

    Args:
        folder: where commands run; it is their home too.
        clients: tools that are not the system's.
        replaced: what pages say and what it is here, such as addresses.
        environment: variables beside the usual ones.
        place: the arguments that run a program where the reader is, such as `Machine.command`.

    Attributes:
        heard: what was run to its end: the code of the page, what it printed, and how many seconds it took.
    """

    def __init__(
        self,
        folder: Path,
        *clients: str,
        replaced: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        place: Callable[..., list[str]] | None = None,
    ) -> None:
        self._folder = folder
        self._place = place or (lambda *argv: [*argv])
        self._terminals: list[subprocess.Popen[bytes]] = []
        self.heard: list[tuple[str, str, float]] = []
        self._replaced = dict(replaced or {})
        self._trow: Trow | None = None
        tools = [Path(sys.executable).parent, *(tool(client).parent for client in clients)]
        path = os.pathsep.join([*map(str, tools), SYSTEM_PATH])
        self._environment = {"HOME": str(folder), "PATH": path, **(environment or {})}

    def follow(self, block: Block, shown: str = "") -> None:
        """Do what the block is for; `shown` is what it prints by the page's own account."""
        if block.file:
            # A port of the page's choice may be somebody else's here.
            code = self._here(block.code).replace(SERVED_TO_CERTIFICATES, "127.0.0.1:0")
            file = self._folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code, "utf-8")
        if "serve" in block.words:
            self.serve(block.code)
        if "stopped" in block.words:
            self.stop()
        if "terminal" in block.words:
            self._terminals.append(subprocess.Popen(self._argv(block), env=self._environment, start_new_session=True))
        elif "run" in block.words:
            self._run(block, shown)

    def serve(self, command: str) -> None:
        """Start Trow in the place of the one that runs."""
        self.stop()
        program, name, *flags = shlex.split(command)
        assert (program, name) == ("trow", "serve")
        self._trow = Trow.start(self._folder, *flags)

    @property
    def host(self) -> str:
        """Of the Trow that runs."""
        assert self._trow is not None
        return self._trow.host

    def stop(self) -> None:
        if self._trow is not None:
            self._trow.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        for terminal in self._terminals:
            with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(terminal.pid, signal.SIGTERM)
            terminal.wait(COMMAND_SECONDS)

    def _argv(self, block: Block) -> list[str]:
        code = f"cd {shlex.quote(str(self._folder))}\n{self._here(block.code)}"
        return self._place("bash", "-euo", "pipefail", "-c", code)

    def _here(self, text: str) -> str:
        """What a page says, with the addresses of here."""
        replaced = dict(self._replaced)
        if self._trow is not None:
            certificates = self._trow.urls[-1].partition("://")[2]
            replaced |= {SERVED: self._trow.host, SERVED_TO_CERTIFICATES: certificates}
        for said, meant in replaced.items():
            text = text.replace(said, meant)
        return text

    def _run(self, block: Block, shown: str) -> None:
        end = time.monotonic() + (SOON_SECONDS if "soon" in block.words else 0)
        while wrong := self._wrong(block, shown):
            assert time.monotonic() < end, f"{name(block.page)}:\n{block.code}\n{wrong}"
            time.sleep(POLL_SECONDS)

    def _wrong(self, block: Block, shown: str) -> str:
        began = time.monotonic()
        done = subprocess.run(
            self._argv(block),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if (done.returncode != 0) != ("fails" in block.words):
            return f"ended with {done.returncode}:\n{done.stdout}"
        printed = {_usual(line) for line in done.stdout.splitlines()}
        self.heard.append((block.code, done.stdout, time.monotonic() - began))
        missing = [line for line in self._here(shown).splitlines() if not _is_among(printed, line)]
        return f"does not print:\n{chr(10).join(missing)}\nbut:\n{done.stdout}" if missing else ""


def _is_among(printed: Iterable[str], line: str) -> bool:
    """Whether a line was printed; in what a page shows, `...` stands for anything."""
    wanted = ".*".join(map(re.escape, _usual(line).split("...")))
    return any(re.fullmatch(wanted, each) for each in printed)


def _usual(line: str) -> str:
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line.strip()
