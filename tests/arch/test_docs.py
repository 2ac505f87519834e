"""What the documents say is so: links, settings, flags, commands, routes, error codes and metrics."""

from __future__ import annotations

import ast
import json
import re
import shlex
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import pytest
import urllib3
import yaml

from support.pages import PAGES, ROOT, Block, blocks, name, prose
from support.server import Trow
from tools import reference
from trow.access.identity import Identity, Method
from trow.access.permissions import ACTIONS, Permission
from trow.access.reviews import SubjectAccessReviewStatus
from trow.audit.queries import Query
from trow.audit.record import Record, RecordedActor, RecordedClient, RecordedWorkload
from trow.cli import command_line
from trow.config import SETTINGS, AccessRule, Config, ConfigError, load
from trow.http.errors import status_of
from trow.http.routes import table
from trow.identity.rbac import RbacAuthorizer, RepositoryMap
from trow.lib.globs import RepositoryGlob
from trow.oci.errors import OciError, RequestInvalid
from trow.oci.names import Repository
from trow.registry.events import Action, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

BLOCKS: Final = [block for page in PAGES for block in blocks(page)]
EXAMPLE: Final = ROOT / "examples" / "trow.yaml"
ARCHITECTURE: Final = ROOT / "docs" / "explanation" / "architecture.md"


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


def test_files_that_the_reader_of_the_code_is_told_of_exist() -> None:
    for page in (ROOT / "CONTRIBUTING.md", ARCHITECTURE):
        named = set(re.findall(r"`(tests/[\w./-]+|(?:[\w-]+/)+(?:[\w-]+\.\w+)?)`", prose(page)))
        assert len(named) > 10
        assert [each for each in named if not any((place / each).exists() for place in (ROOT, ROOT / "src/trow"))] == []


def test_the_tree_in_the_architecture_is_the_tree_of_the_packages() -> None:
    shown = next(block.code for block in blocks(ARCHITECTURE) if "├──" in block.code)
    inside, drawn = "", set()
    for indented, package in re.findall(r"^([│ ]*)[├└]── (\w+)/", shown, re.MULTILINE):
        drawn.add(f"{inside}/{package}" if indented else package)
        inside = inside if indented else package
    source = ROOT / "src" / "trow"
    assert drawn == {
        str(path.parent.relative_to(source))
        for path in source.rglob("__init__.py")
        if path.parent != source and path.parent.name not in {"migrations", "shared_migrations", "transactions"}
    }


def test_what_the_architecture_names_is_in_the_code() -> None:
    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", prose(ARCHITECTURE)))
    assert len(named) > 20
    known = members()
    assert {f"{owner}.{member}" for owner, member in named if member not in known.get(owner, set())} == set()


def members() -> dict[str, set[str]]:
    """The methods and constants of every class in the source, by the name of the class."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                defined = [each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
                assigned = [
                    target.id
                    for each in node.body
                    if isinstance(each, ast.Assign)
                    for target in each.targets
                    if isinstance(target, ast.Name)
                ]
                found.setdefault(node.name, set()).update(defined, assigned)
    return found


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
    assert written == reference.pages()[page], "run: make reference"


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
    documents = list(yaml.safe_load_all(block.code))
    if not set(documents[0]) <= {key.partition(".")[0] for key in SETTINGS}:
        assert block.file, "what is no configuration of Trow has the name of its file beside the language"
        return
    file = tmp_path / "trow.yaml"
    file.write_text(block.code, "utf-8")
    # Only the files that the reader is to provide may be missing.
    assert [wrong for wrong in wrongs(file) if not wrong.endswith("(No such file or directory)")] == []


def wrongs(file: Path) -> list[str]:
    try:
        load(file, {}, {})
    except ConfigError as error:
        return [problem.wrong for problem in error.problems]
    return []


@blocks_in("yaml")
def test_kubernetes_object_in_a_page_is_one(block: Block) -> None:
    for document in yaml.safe_load_all(block.code):
        assert "apiVersion" not in document or {"kind", "metadata"} <= set(document)


@blocks_in("json")
def test_json_in_a_page_is_json(block: Block) -> None:
    assert json.loads(block.code)


@blocks_in("sh")
def test_trow_command_in_a_page_is_understood(block: Block) -> None:
    for line in block.code.replace("\\\n", " ").splitlines():
        for command in trow_commands(line):
            command_line().parse_args(command)


def trow_commands(line: str) -> Iterator[list[str]]:
    """The arguments of each `trow` in a line, which may be a pipe and begin with variables."""
    words = shlex.shlex(re.sub(r'"\$\(.*?\)"', "a" * 12, line), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    for is_pipe, command in groupby(words, lambda word: word in ("|", "&&", ";", "(", ")")):
        arguments = list(takewhile(lambda word: word[0] not in "<>", command))
        while arguments and re.match(r"[A-Z_]+=", arguments[0]):
            arguments.pop(0)
        if not is_pipe and arguments[:1] == ["trow"]:
            yield arguments[1:]


# What looks like the name of a setting and is something else; settings of other registries, and of the chart.
OF_OTHERS: Final = {"auth.htpasswd", "auth.token", "log.accesslog", "log.audit", "log.formatter", "log.output"}
OF_THE_CHART: Final = {"admission.enabled"}
NO_SETTINGS: Final = (
    {action.value for action in Action} | {"audit.db", "audit.pem", "kubernetes.io"} | OF_OTHERS | OF_THE_CHART
)

# What a page makes in the folder that it is tried in, and nobody else should find there.
SECRET: Final = re.compile(
    r"> (\w[\w.-]*\.(?:token|password))\b|-keyout (\S+)|mkdir (?:--parents )?(backup|copy|certs\.d)\b|mv data (\S+)"
)
REMOVED: Final = re.compile(r"^rm -r?f (.+)$", re.MULTILINE)


def test_no_page_leaves_secrets_behind() -> None:
    run = [block.code for page in PAGES for block in blocks(page) if "run" in block.words]
    made = {name for code in run for found in SECRET.findall(code) for name in found if name}
    removed = {name for code in run for names in REMOVED.findall(code) for name in names.split()}
    assert {"admin.password", "ci.token", "client.key", "backup"} <= made
    assert made - removed == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_setting_named_in_a_page_exists(page: Path) -> None:
    sections = "|".join({key.partition(".")[0] for key in SETTINGS if "." in key})
    named = re.findall(rf"`((?:{sections})\.\w+)`", prose(page))
    assert set(named) - NO_SETTINGS <= set(SETTINGS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_target_named_in_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", prose(page))) <= targets


# The HTTP interface


def test_every_route_is_documented_and_no_other() -> None:
    anything = cast("Any", type("Anything", (), {"__getattr__": lambda *_: None})())
    routes = {(route.method, route.path.rstrip("/")) for route in table(*[anything] * 6)}
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


@pytest.mark.slow
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
    assert members == set(access[0]) | {"reason"}  # which stands in the lines of those that were refused


def test_every_parameter_of_the_audit_search_is_documented() -> None:
    section = prose(ROOT / "docs" / "reference" / "http-api.md").partition("## Audit")[2].partition("\n## ")[0]
    named = " ".join(re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE))
    with pytest.raises(RequestInvalid) as refused:
        Query.parse({"nothing": ""}, 0)
    assert set(re.findall(r"`(\w+)`", named)) == set(refused.value.message.partition("use ")[2].split(", "))


# Rules and records


def first_cells(page: str, title: str) -> list[str]:
    """What stands in code in the first column of the table below a title."""
    text = (ROOT / "docs" / "reference" / page).read_text("utf-8")
    section = text.partition(f"# {title}\n")[2].partition("\n#")[0]
    cells = " ".join(re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE))
    return re.findall(r"`([^`]+)`", cells)


def test_every_member_of_a_rule_is_documented() -> None:
    assert first_cells("access-rules.md", "Members of a rule") == list(AccessRule.__struct_fields__)


def test_every_action_of_a_rule_is_documented() -> None:
    assert first_cells("access-rules.md", "Actions") == [action.value for action in ACTIONS]


def test_documented_globs_cover_what_is_said() -> None:
    page = (ROOT / "docs" / "reference" / "access-rules.md").read_text("utf-8")
    rows = re.findall(r"^\| `(.+?)` \| (.*) \| (.*?) ?\|$", page.partition("## Globs")[2], re.MULTILINE)
    assert len(rows) == 5
    for glob, covered, others in rows:
        parsed = RepositoryGlob.parse(glob)
        for names, wanted in ((covered, True), (others, False)):
            for each in re.findall(r"`(.+?)`", names):
                assert parsed.covers(Repository.parse(each)) is wanted, (glob, each)


@pytest.mark.parametrize(
    ("title", "struct"),
    [("Members", Record), ("actor", RecordedActor), ("workload", RecordedWorkload), ("client", RecordedClient)],
)
def test_every_member_of_a_record_is_documented(title: str, struct: type[msgspec.Struct]) -> None:
    assert sorted(first_cells("audit-record.md", title)) == sorted(struct.__struct_fields__)


@pytest.mark.parametrize(("title", "words"), [("Actions", Action), ("Outcomes", Outcome)])
def test_every_action_and_outcome_of_a_record_is_documented(title: str, words: type[Action | Outcome]) -> None:
    assert first_cells("audit-record.md", title) == [word.value for word in words]


def test_documented_record_is_one() -> None:
    shown = [block for block in BLOCKS if "record" in block.words]
    assert shown
    for block in shown:
        msgspec.json.decode(block.code, type=Record)


def test_actions_of_the_guide_are_those_of_the_reference() -> None:
    guide = (ROOT / "docs" / "how-to" / "audit.md").read_text("utf-8")
    rows = " ".join(re.findall(r"^\| (`.+) \|$", guide.partition("### One")[0], re.MULTILINE))
    named = set(re.findall(r"`([a-z.]+)`", rows)) - {"audit.fail_closed"}
    assert named == {action.value for action in Action} - {"collection"}


# Kubernetes


def kubernetes_table(title: str) -> list[list[str]]:
    page = (ROOT / "docs" / "how-to" / "kubernetes-rbac.md").read_text("utf-8")
    section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [[cell.strip(" `") for cell in row.split("|")] for row in rows][1:]


def test_documented_repositories_are_where_the_page_says() -> None:
    places = RepositoryMap()
    for repository, resource, namespace, named in kubernetes_table("Which namespace"):
        place = places.locate(Repository.parse(repository))
        if not resource:
            assert place is None
            continue
        wanted = "" if namespace.startswith("none") else namespace
        assert place == (resource, wanted, named)


class Asked:
    """An API server that allows nothing and remembers what it was asked for."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, str]] = []

    async def access(
        self, user: str, uid: str, groups: Sequence[str], extra: object, attributes: Mapping[str, str]
    ) -> SubjectAccessReviewStatus:
        resource = "/".join(filter(None, (attributes["resource"], attributes.get("subresource", ""))))
        self.questions.append((attributes["verb"], resource))
        return SubjectAccessReviewStatus(allowed=False)


@pytest.mark.parametrize("row", range(9))
async def test_the_cluster_is_asked_what_the_page_says(row: int) -> None:
    permission, exists, beside = ROWS[row]
    asked = Asked()

    async def there(_: Repository) -> bool:
        return exists

    rbac = RbacAuthorizer(asked, RepositoryMap(), there)
    somebody = Identity("alice", Method.PASSWORD)
    repository = "" if permission in (Permission.AUDIT, Permission.ADMIN) else "team-a/app"
    await rbac.decide(somebody, permission, Repository(repository))
    _, verb, resource, _ = kubernetes_table("What is asked")[row]
    assert (verb, resource) in asked.questions
    assert len(asked.questions) == 1 + beside


# In the order of the page: what is asked for, whether the repository is there, and how many other rights would do.
ROWS: Final = [
    (Permission.PULL, True, 0),
    (Permission.PUSH, True, 0),
    (Permission.PUSH, False, 0),
    (Permission.ATTACH, True, 1),
    (Permission.TAG_OVERWRITE, True, 0),
    (Permission.DELETE, True, 0),
    (Permission.LIST, True, 0),
    (Permission.AUDIT, True, 0),
    (Permission.ADMIN, True, 0),
]
