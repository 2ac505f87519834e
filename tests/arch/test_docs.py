"""What the documents say is so: links, settings, flags, commands, routes, error codes and metrics."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
import urllib3
import yaml

from support.pages import PAGES, ROOT, Block, blocks, name, prose
from support.server import Trow
from trow.cli import command_line, reference
from trow.config import SETTINGS, Config, ConfigError, load
from trow.http.errors import status_of
from trow.http.routes import table
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCKS: Final = [block for page in PAGES for block in blocks(page)]
EXAMPLE: Final = ROOT / "examples" / "trow.yaml"


def blocks_in(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language in languages]
    assert chosen
    return pytest.mark.parametrize("block", chosen, ids=lambda block: name(block.page))


# Pages and links


def test_documents_are_found() -> None:
    assert {"README.md", "docs/README.md", "docs/tutorial/first-push.md"} <= set(map(name, PAGES))
    assert len([block for block in BLOCKS if "run" in block.words]) > 10


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if path.startswith(("https://", "http://")):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = prose(ROOT / "docs" / "README.md")
    linked = {(ROOT / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", contents)}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - linked == {ROOT / "docs" / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_has_one_title(page: Path) -> None:
    assert len(re.findall(r"^# ", prose(page), re.MULTILINE)) == 1


# Settings and commands


@pytest.mark.parametrize("page", sorted(reference.pages()))
def test_generated_page_is_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    assert written == reference.pages()[page], "run: python -m trow.cli.reference docs/reference"


def test_every_setting_is_in_the_reference() -> None:
    text = reference.pages()["configuration.md"]
    for setting in SETTINGS.values():
        assert f"### {setting.key}\n" in text
        assert f"`{setting.environment}`" in text
        assert setting.flag in text


def test_example_file_has_every_setting_with_its_default() -> None:
    document = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    assert set(keys(document)) == set(SETTINGS)
    assert load(EXAMPLE, {}, {}) == Config()


def keys(document: dict[str, Any]) -> Iterator[str]:
    for section, content in document.items():
        yield from (f"{section}.{key}" for key in content) if isinstance(content, dict) else [section]


@blocks_in("yaml")
def test_configuration_in_a_page_is_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "trow.yaml"
    file.write_text(block.code, "utf-8")
    try:
        load(file, {}, {})
    except ConfigError as error:
        # Only the files that the reader is to provide may be missing.
        wrongs = {(problem.key, problem.wrong.rpartition(" (")[2]) for problem in error.problems}
        assert wrongs <= {(key, "No such file or directory)") for key in ("listen.tls", "auth.password_file")}


@blocks_in("json")
def test_json_in_a_page_is_json(block: Block) -> None:
    assert json.loads(block.code)


@blocks_in("sh")
def test_trow_command_in_a_page_is_understood(block: Block) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        for command in re.findall(r"(?:^|\s)trow ([^|]+)", line):
            command_line().parse_args(shlex.split(command, comments=True))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_setting_named_in_a_page_exists(page: Path) -> None:
    sections = "|".join({key.partition(".")[0] for key in SETTINGS if "." in key})
    named = re.findall(rf"`((?:{sections})\.\w+)`", prose(page))
    assert set(named) <= set(SETTINGS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_target_named_in_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", prose(page))) <= targets


# The HTTP interface


def test_every_route_is_documented_and_no_other() -> None:
    anything = cast("Any", type("Anything", (), {"__getattr__": lambda *_: None})())
    routes = {(route.method, route.path.rstrip("/")) for route in table(anything, anything, anything, anything)}
    page = prose(ROOT / "docs" / "reference" / "http-api.md")
    documented = re.findall(r"`([A-Z]+) (/[^`\s]*)`", page)
    assert {(method, path.rstrip("/")) for method, path in documented} == routes


def family(error: type[OciError]) -> Iterator[type[OciError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def test_every_error_is_documented_and_no_other() -> None:
    raised = {(error.code, status_of(error.__new__(error))) for error in family(OciError)}
    documented, code = set(), ""
    for named, status in re.findall(r"^\| (?:`(\w+)`)? ?\| (\d{3}) \|", prose(errors_page()), re.MULTILINE):
        code = named or code
        documented.add((code, int(status)))
    assert documented == raised


def errors_page() -> Path:
    return ROOT / "docs" / "reference" / "errors.md"


def test_every_metric_and_log_member_is_documented(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        assert urllib3.request("GET", f"{trow.url}/v2/").status == 200
        assert urllib3.request("POST", f"{trow.url}/v2/a/blobs/uploads/").status == 202
        metrics = urllib3.request("GET", f"{trow.url}/metrics").data.decode()
    page = prose(ROOT / "docs" / "reference" / "metrics.md")
    served = set(re.findall(r"^# TYPE (trow_\w+) (\w+)$", metrics, re.MULTILINE))
    documented = set(re.findall(r"^\| `(trow_\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert documented == served
    access = [
        line for line in map(json.loads, trow.stderr.read_text("utf-8").splitlines()) if line["event"] == "request"
    ]
    assert len(access) == 3
    members = set(
        re.findall(
            r"`(\w+)`", " ".join(re.findall(r"^\| (`.+?`) \|", page.partition("## Access log")[2], re.MULTILINE))
        )
    )
    assert members == set(access[0])
