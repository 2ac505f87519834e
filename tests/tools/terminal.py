"""A terminal session as a picture: an SVG that plays once, and shows its last screen where nothing can play.

https://www.w3.org/TR/css-animations-1/: an animation that fills backwards hides a line until its time, and a viewer
without animations shows all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS: Final = 100
ROWS: Final = 28
# In pixels: a monospaced letter of 14 px is 8.4 px wide.
LETTER: Final = 8.4
LINE: Final = 20
MARGIN: Final = 16
BAR: Final = 32
# In seconds.
BEFORE_A_COMMAND: Final = 1.2
BETWEEN_LINES: Final = 0.04
LONGEST_WAIT: Final = 2.5
AT_THE_END: Final = 3.0

STYLE: Final = """
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre; fill: #c9d1d9 }
.title { fill: #8b949e }
.command { fill: #7ee787 }
.line { animation: appear 1ms backwards }
@keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { .line, .screen { animation: none } }
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A command that was run.

    Attributes:
        command: as it was typed; it may have several lines.
        output: all that it printed.
        seconds: how long it took.
    """

    command: str
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen: a `command` or its `output`, and when it appears, in seconds."""

    text: str
    kind: str
    at: float


def draw(title: str, steps: Sequence[Step]) -> str:
    """The picture of a session.

    Args:
        title: is said to those who cannot see it, and stands above the screen.
        steps: in their order. Longer waits than `LONGEST_WAIT` are cut; longer lines than the screen go on below.
    """
    lines = [*_lines(steps)]
    width, height = round(COLUMNS * LETTER + 2 * MARGIN), BAR + ROWS * LINE + MARGIN
    end = (lines[-1].at if lines else 0.0) + AT_THE_END
    last = max(0, len(lines) - ROWS)
    shown = "\n".join(_text(number, line) for number, line in enumerate(lines))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
xml:space="preserve">
<title>{escape(title)}</title>
<style>{STYLE}{_scrolling(lines, end)}
.screen {{ transform: translateY(-{last * LINE}px); animation: scroll {end:.2f}s step-end backwards }}</style>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>
<circle cx="18" cy="16" r="5" fill="#ff5f56"/><circle cx="36" cy="16" r="5" fill="#ffbd2e"/>
<circle cx="54" cy="16" r="5" fill="#27c93f"/>
<text class="title" x="{width / 2}" y="21" text-anchor="middle">{escape(title)}</text>
<clipPath id="window"><rect y="{BAR}" width="{width}" height="{height - BAR}"/></clipPath>
<g clip-path="url(#window)"><g class="screen">
{shown}
</g></g>
</svg>
"""


def _lines(steps: Sequence[Step]) -> Iterator[Line]:
    """What appears when: a command, then after its time, or a part of it, what it printed."""
    now = 0.0
    for step in steps:
        now += BEFORE_A_COMMAND
        for text in step.command.rstrip("\n").split("\n"):
            yield from _folded(text, "command", now)
        now += min(step.seconds, LONGEST_WAIT)
        for text in step.output.rstrip("\n").split("\n") if step.output.strip() else ():
            now += BETWEEN_LINES
            yield from _folded(text, "output", now)
        yield Line("", "output", now + BETWEEN_LINES)


def _folded(text: str, kind: str, at: float) -> Iterator[Line]:
    """The lines of a screen that a line of text takes."""
    text = text.expandtabs(8)
    for start in range(0, max(len(text), 1), COLUMNS):
        yield Line(text[start : start + COLUMNS], kind, at)


def _text(number: int, line: Line) -> str:
    y = BAR + (number + 1) * LINE - 5
    words = escape(line.text, quote=False)
    return f'<text class="line {line.kind}" x="{MARGIN}" y="{y}" style="animation-delay:{line.at:.2f}s">{words}</text>'


def _scrolling(lines: Sequence[Line], end: float) -> str:
    """The keyframes of the screen: it moves up by a line with each line below the last row."""
    places = {0.0: 0} | {line.at: number - ROWS + 1 for number, line in enumerate(lines) if number >= ROWS}
    frames = (f"{at / end:.4%} {{ transform: translateY(-{rows * LINE}px) }}" for at, rows in places.items())
    return f"@keyframes scroll {{ {' '.join(frames)} }}"
