"""Run a program so that nothing of it is left when it ends, however it ends: `python -m tests.tools.alone PROGRAM …`.

It runs in namespaces of its own for processes and mounts, whose first process takes everything with it. When this
program is told to end, or what started it has gone, the first process is killed. A machine that allows no namespaces
runs the program as it is.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# A shell waits for whatever loses its parent, as the first process has to.
FIRST: Final = ("sh", "-c", '"$@"; exit $?', "sh")
_PARENT_DEATH_SIGNAL: Final = 1  # prctl(2)


def command(argv: Sequence[str]) -> list[str]:
    return [*SPACES, *FIRST, *argv] if able() else [*argv]


def able() -> bool:
    """Whether this user may make namespaces here."""
    try:
        return not subprocess.run([*SPACES, "true"], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return False


def end_with_parent(number: int) -> None:
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, number)


def main() -> int:
    end_with_parent(signal.SIGTERM)
    # In the background of a shell it is ignored, and no shell that a test starts could take it up again.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    killed = partial(end_with_parent, signal.SIGKILL)
    with subprocess.Popen(command(sys.argv[1:]), preexec_fn=killed) as running:  # noqa: PLW1509 - there are no threads
        signal.signal(signal.SIGTERM, lambda *_: running.kill())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the program says how it ends
        code = running.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
