"""`make recording`: follows the tutorial in a real cluster, and draws what was typed and what came back."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Final

from support.own import built
from support.pages import ROOT
from support.tutorial import follow
from tools.terminal import Step, draw

PICTURE: Final = ROOT / "docs" / "images" / "denied-by-policy.svg"
TITLE: Final = "From an empty cluster to denied by policy"
MOST_LINES: Final = 24


def is_shown(code: str) -> bool:
    """Whether a block of the page is in the picture: a terminal of its own and the clearing away are not."""
    return "port-forward" not in code and "--uninstall" not in code


def steps(heard: list[tuple[str, str, float]]) -> list[Step]:
    """What is drawn: of commands that were tried until they did what they should, the last try."""
    last = {code: (printed, seconds) for code, printed, seconds in heard if is_shown(code)}
    return [Step(_prompted(code), _shortened(printed), seconds) for code, (printed, seconds) in last.items()]


def _prompted(code: str) -> str:
    """With a prompt before each command; lines that go on with one are indented."""
    return re.sub(r"^(?=[^ #\n])", "$ ", code, flags=re.MULTILINE)


def _shortened(printed: str) -> str:
    lines = printed.splitlines()
    return "\n".join(lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "..."])


def main() -> None:
    """Follow it and draw it."""
    with tempfile.TemporaryDirectory(prefix="trow-recording-") as folder:
        heard = follow(Path(folder), built())
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(TITLE, steps(heard)), "utf-8")


if __name__ == "__main__":
    main()
