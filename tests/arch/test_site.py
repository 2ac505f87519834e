"""The site that `make site` builds: without a warning, and each page is reached from the navigation."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.makefile import recipe
from support.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS: Final = ROOT / "docs"
BUILD_SECONDS: Final = 120
OVERVIEW: Final = "# Pages\n\n## Do\n\n- [Push](push.md)\n"
PUSH: Final = "# Push\n\n## First\n\nSee [this](#first), and [all](README.md).\n"


def build(docs: Path, to: Path) -> tuple[int, str]:
    """As the Makefile does it, in other folders."""
    [command] = [line for line in recipe("site") if "sphinx-build" in line]
    places = {"build/doctrees": str(to / "doctrees"), "docs": str(docs), "build/site": str(to / "site")}
    _, *arguments = shlex.split(command)
    program = str(Path(sys.executable).parent / "sphinx-build")
    done = subprocess.run(
        [program, *(places.get(each, each) for each in arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=BUILD_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


class Page(HTMLParser):
    """The links of a built page, and those of its navigation."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.navigation: set[str] = set()
        self._depth = 0  # of blocks within the navigation
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "div" and (self._depth or "sidebar-tree" in (values.get("class") or "")):
            self._depth += 1
        if tag == "a" and (link := values.get("href")):
            self.links.add(link)
            if self._depth:
                self.navigation.add(link)

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self._depth:
            self._depth -= 1


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_every_page_is_in_its_navigation(tmp_path: Path) -> None:
    assert build(DOCS, tmp_path) == (0, "")
    site = tmp_path / "site"
    pages = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert {str(page.relative_to(site)) for page in site.rglob("*.html")} == pages | {"index.html", "search.html"}
    assert pages - Page(site / "index.html").navigation == {"README.html"}
    assert "README.html" in Page(site / "glossary.html").links
    listed = (site / "external-links.txt").read_text("utf-8").splitlines()
    assert "https://www.rfc-editor.org/rfc/rfc7239" in listed
    assert all(link.startswith(("https://", "http://")) for link in listed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"push.md": PUSH + "[no page](pull.md)\n"}, "pull.md"),
        ({"push.md": PUSH + "[no title](#second)\n"}, "second"),
        ({"push.md": PUSH + "[no title there](README.md#pull)\n"}, "pull"),
        ({"push.md": PUSH, "orphan.md": "# Orphan\n"}, "orphan.md"),
        ({}, "push"),
    ],
    ids=["a page that is not there", "a title", "a title of another page", "an orphan", "a page of the overview"],
)
def test_a_link_that_leads_nowhere_and_a_page_that_nothing_leads_to_are_errors(
    changed: Mapping[str, str], said: str, tmp_path: Path
) -> None:
    """Beside the same pages without the fault, which are built."""
    assert site_of(tmp_path / "right", {"push.md": PUSH}) == (0, "")
    code, printed = site_of(tmp_path / "wrong", changed)
    assert code != 0
    assert re.search(rf"WARNING: .*{said}", printed) or re.search(rf"{said}.*WARNING", printed), printed


def site_of(folder: Path, pages: Mapping[str, str]) -> tuple[int, str]:
    docs = folder / "docs"
    docs.mkdir(parents=True)
    shutil.copy(DOCS / "conf.py", docs)
    for page, text in {"README.md": OVERVIEW, **pages}.items():
        (docs / page).write_text(text, "utf-8")
    return build(docs, folder)
