"""The project's documents, and the code blocks in them.

The words after a block's language say what it is for: `run` blocks are commands that a test runs in order, a name such
as `trow.yaml` is the file that the block is to be saved as, and `output` is what the commands before it print, with
`...` for what is left out. With `run` may stand: `fails`, when the commands are to be refused; `soon`, when it takes a
while until they do what they should; `stopped`, when the registry has to be stopped; `kubernetes`, when they need a
control plane; `nodes`, when they need a whole cluster; `set-up`, when its nodes have the agent; `on-the-node`, when
they are typed on each of its nodes; `terminal`, when they go on in a terminal of their own; `distribution` or
`layouts`, when they need what such a registry has; `postgres`, when they need a server of it; `bucket`, when they need
one; `image`, when they need Trow's own image; `afterwards`, when they take away what other pages go on from. `serve`
starts Trow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE: Final = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced code block: the language, the words after it, and the code."""

    page: Path
    language: str
    words: frozenset[str]
    code: str

    @property
    def file(self) -> str:
        """The file that the reader saves it as, "" for none."""
        return next((word for word in self.words if "." in word), "")


def blocks(page: Path) -> Iterator[Block]:
    for match in FENCE.finditer(page.read_text("utf-8")):
        language, *words = match["info"].split() or [""]
        yield Block(page, language, frozenset(words), match["code"])


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))
