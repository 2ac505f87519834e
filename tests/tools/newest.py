"""Find the newest Python of this machine: `python -m tests.tools.newest` prints its path.

It looks for releases of CPython on PATH and among those of pyenv. It is an error when none of them is newer than the
Python that runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Prints the minor version of what a test may run on; a preview, or a Python that cannot make environments, prints none.
_ASK: Final = (
    "import sys, ensurepip, venv; v = sys.version_info;"
    "print(v.minor if v.major == 3 and v.releaselevel == 'final' and sys.implementation.name == 'cpython' else 0)"
)


def folders() -> list[Path]:
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # That which runs this may be of a pyenv that neither the home folder nor a variable leads to.
    beside = Path(sys.base_prefix).parent
    return [*path, *sorted({*pyenv.glob("versions/*/bin"), *beside.glob("3.*/bin")})]


def newest(places: Iterable[Path]) -> tuple[int, Path] | None:
    """The minor version and the path of the newest Python in some folders; None where there is no Python."""
    found = (each for place in places if place.is_dir() for each in place.iterdir())
    pythons = [each for each in found if re.fullmatch(r"python3\.\d+", each.name)]
    answers = ((answer, python) for python in pythons if (answer := minor(python)))
    return max(answers, default=None, key=lambda answer: answer[0])


def minor(python: Path) -> int:
    """3.13 is 13; 0 for what does not run, or is not to be tested on."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, encoding="utf-8", check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(done.stdout) if done.returncode == 0 else 0


def main() -> int:
    own = sys.version_info.minor
    found = newest(folders())
    if found is None or found[0] <= own:
        sys.stderr.write(
            f"no Python newer than 3.{own} is on PATH or in pyenv; install one, so that the tests run on it too\n"
        )
        return 1
    sys.stdout.write(f"{found[1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
