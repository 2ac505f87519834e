"""Metrics as they are now. The server words them once a second at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


def fresh(look: Callable[[], bytes]) -> str:
    """What is worded after this was called: the processor's time, and this question itself, make it another text."""
    before = look()
    return until(lambda: now if (now := look()) != before else b"").decode()
