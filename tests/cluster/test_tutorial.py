"""The tutorial of clusters is followed, and the picture of it shows what it says."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from support.pages import blocks
from support.tutorial import TUTORIAL, follow
from tools.recording import PICTURE, is_shown

if TYPE_CHECKING:
    from pathlib import Path


def test_the_tutorial_leads_from_an_empty_cluster_to_denied_by_policy(tmp_path: Path, own_image: Path) -> None:
    follow(tmp_path, own_image)


def test_every_command_of_the_tutorial_is_run() -> None:
    for block in blocks(TUTORIAL):
        assert block.language != "sh" or block.words >= {"run", "nodes"}, block.code


def test_the_picture_shows_the_commands_of_the_tutorial() -> None:
    """`make recording` draws it from a real run; it has to be drawn again when the page has other commands."""
    drawn = re.findall(r'<text class="line command"[^>]*>([^<]*)</text>', PICTURE.read_text("utf-8"))
    run = [block.code for block in blocks(TUTORIAL) if "run" in block.words and "set-up" not in block.words]
    commands = "".join(code for code in run if is_shown(code))
    assert "".join(map(html.unescape, drawn)).replace("$ ", "") == commands.replace("\n", "")
