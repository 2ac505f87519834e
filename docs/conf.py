"""The site of these pages: `make site` builds it with Sphinx and MyST. The pages stay plain Markdown.

The navigation is what `README.md` lists: each of its headings is a part of it. So a page that is not listed there is an
orphan, which is a warning, and warnings are errors.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

from docutils import nodes

from trow import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Addresses that the site leads to outside of itself. Nothing asks them: a build needs no network.
EXTERNAL_LINKS: Final = "external-links.txt"

project = "Trow"
release = __version__
extensions = ["myst_parser", "sphinx_copybutton"]
root_doc = "README"
nitpicky = True

myst_heading_anchors = 6  # anchors as GitHub makes them
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"Trow {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False


def with_navigation(overview: str) -> str:
    """The overview, followed by a table of contents that is not shown for each heading with a list of pages."""
    contents = []
    for section in re.split(r"^##+ ", overview, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        if pages := re.findall(r"^- \[[^\]]+\]\(([\w./-]+)\.md\)", text, re.MULTILINE):
            contents += ["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""]
    return "\n".join([overview, *contents])


def setup(app: Sphinx) -> None:
    external: set[str] = set()

    def add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
        if page == root_doc:
            source[0] = with_navigation(source[0])

    def collect(_: Sphinx, document: nodes.document, __: str) -> None:
        links = (link.get("refuri", "") for link in document.findall(nodes.reference))
        external.update(link for link in links if link.startswith(("http://", "https://")))

    def finish(built: Sphinx, error: Exception | None) -> None:
        if error is None:
            (built.outdir / EXTERNAL_LINKS).write_text("".join(f"{link}\n" for link in sorted(external)), "utf-8")
            shutil.copyfile(built.outdir / f"{root_doc}.html", built.outdir / "index.html")

    app.connect("source-read", add_navigation)
    app.connect("doctree-resolved", collect)
    app.connect("build-finished", finish)
