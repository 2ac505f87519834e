"""Every refusal that an HTTP answer can have says what happened, where, and what to do about it.

The list is the code's own: each place that makes an error of the family of ``trow.oci.errors``. A new one without these
words fails here, by its file and line.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from trow.oci import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow

SOURCE: Final = Path(errors.__file__).parents[1]
UNSAID: Final = "…"
# Functions that make an error of words they are given: those who call them have the words.
PASSED_ON: Final = {"_trouble", "_sentence", "blobs_unknown", "NotReady"}
HANDED_ON: Final = {"what", "message", "why", "str(error)", "error.message", "first.message", "refused"}
# What is put together of parts that have their own tests: where, and which.
COMPOSED: Final = {
    # The words of policies: what was not allowed, by which rule, and what would be (tests/unit/policy/test_decide.py).
    ("admission/pull_policy.py", "a policy does not allow this image: …"),
    # Who may not do what and why; the fix is that of the decision, below.
    ("http/access.py", "… ……"),
    ("http/access.py", "…; …"),
    # What the client of `trow.lib.http_client` says, and its fix (tests/unit/lib/test_http_client.py).
    ("kube/client.py", "the Kubernetes API server at … …; …"),
    # The words of another refusal, with the place in the manifest.
    ("oci/manifest.py", "….digest: …"),
    # What is missing and what to do come from the callers, which are looked at.
    ("oci/errors.py", "… …; …"),
    # Said of what `trow.app.application` checks.
    ("lib/displacement.py", "it was moved or replaced while it is in use; put it back, or restart Trow"),
    # Each parser of the search has a word for what would be right (tests/unit/audit/test_queries.py).
    ("audit/queries.py", "…: …"),
}
# A sentence that tells somebody what to do begins with one of these, after what happened.
VERBS: Final = """
    ask begin bind build check choose compare continue correct delete enlarge finish free get give go have issue leave
    log look make mount name narrow push put repair report restart run see send set shorten split start take try use
    verify wait write
""".split()  # noqa: SIM905 - read as a list of words
FIX: Final = re.compile(rf"(?:^|[;:.,] |, or |, then )(?:{'|'.join(VERBS)})\b")
# Where: a field, a header, an object, a part of the registry. A sentence may also begin with a name that is put in.
PLACES: Final = re.compile(
    r"\b(token|credentials?|password|certificate|header|Host|query|parameters?|body|form|request|"
    r"Content-\w+|Transfer-Encoding|grant_type|digest(-algorithm)?|tags?|manifests?|artifactType|schemaVersion|"
    r"repository|upload|chunk|blob|range|content|list|lists|images?|last|n|q|AdmissionReview|policies|record|trail|"
    r"database|storage|registry|data|webhooks|logins?|keys of OIDC issuer|endpoint|search|clients|page|log in|"
    r"Kubernetes|address|connection)\b"
)
# These are about one thing, which has a name.
ABOUT_ONE: Final = (
    errors.NameUnknown, errors.ManifestUnknown, errors.BlobUnknown, errors.TagExists, errors.ManifestExists,
    errors.DigestMismatch, errors.ManifestBlobUnknown, errors.RangeNotSatisfiable, errors.ChunkOutOfOrder,
    errors.ManifestTooLarge, errors.BlobTooLarge, errors.RequestTooLarge, errors.TooManyTags, errors.BodyIncomplete,
)  # fmt: skip
# The name of an upload is in the path that the client was given, and its bytes are gone with it.
# Where the bucket refuses, the call that meant one blob names it.
NAMELESS: Final = {
    ("storage/filesystem.py", "the bytes of this upload are gone; begin another"),
    ("storage/bucket.py", "an object of the bucket is lost; push its blob again"),
}


@dataclass(frozen=True)
class Refusal:
    """One place that refuses."""

    file: str
    line: int
    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.kind}: {self.words}"


class Module:
    """A file, and what its names stand for as far as that are words."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.relative_to(SOURCE))
        self.tree = ast.parse(path.read_text("utf-8"))
        self._values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                for target in targets:
                    if isinstance(target, ast.Name):
                        self._values.setdefault(target.id, []).append(node.value)
            elif isinstance(node, ast.FunctionDef):
                returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
                self._values.setdefault(f"{node.name}()", []).extend(returned)

    def words(self, node: ast.expr, depth: int = 0) -> list[str]:
        """What an expression may say; … stands for what only a request tells."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, depth)
        if isinstance(node, ast.FormattedValue):
            # A constant or a function of the module; a variable is somebody's name or number.
            fixed = isinstance(node.value, ast.Call) or _name(node.value).strip("_").isupper()
            return self.words(node.value, depth) if fixed else [UNSAID]
        values = self._values.get(_name(node), []) if depth < 3 and _name(node) else []
        found = [words for value in values for words in self.words(value, depth + 1)]
        return [each for each in found if each not in {"", UNSAID}] or [UNSAID]

    def _joined(self, node: ast.JoinedStr, depth: int) -> list[str]:
        told = [""]
        for part in node.values:
            told = [before + words for before in told for words in self.words(part, depth)]
        return told


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return f"{_name(node.func)}()" if _name(node.func) else ""
    if isinstance(node, ast.Attribute):
        return node.attr if isinstance(node.value, ast.Name) and node.value.id == "self" else ""
    return node.id if isinstance(node, ast.Name) else ""


@cache
def family() -> dict[str, type[errors.OciError]]:
    """The errors by name, wherever they are defined."""
    for path in SOURCE.rglob("*.py"):
        if path.stem not in {"__main__", "__init__"}:
            importlib.import_module(".".join(("trow", *path.relative_to(SOURCE).with_suffix("").parts)))
    found: dict[str, type[errors.OciError]] = {}
    waiting: list[type[errors.OciError]] = [errors.OciError]
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found


@cache
def modules() -> Sequence[Module]:
    return [Module(path) for path in sorted(SOURCE.rglob("*.py"))]


@cache
def refusals() -> Sequence[Refusal]:
    return list(_refusals())


def _refusals() -> Iterator[Refusal]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and node.args:
                kind = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if kind not in family() and kind not in PASSED_ON:
                    continue
                for words in _said(module, node, kind):
                    yield Refusal(module.name, node.lineno, kind, words)


def _said(module: Module, call: ast.Call, kind: str) -> Iterator[str]:
    first, *others = call.args
    # The words of a caller, which is looked at for itself.
    told = module.words(first)
    if (ast.unparse(first) in HANDED_ON and told == [UNSAID]) or (kind == "blobs_unknown" and len(others) < 2):
        return
    if isinstance(first, ast.Call) and _name(first.func) in PASSED_ON:
        return
    before = "the Kubernetes API server at … " if kind in {"_trouble", "_sentence"} else ""
    for words in told:
        fix = module.words(others[-1]) if kind == "blobs_unknown" else []
        yield f"{words} {UNSAID}; {fix[0]}" if fix else before + words


def composed(refusal: Refusal) -> bool:
    return (refusal.file, refusal.words) in COMPOSED


def test_the_walk_finds_refusals_of_all_parts_and_of_nearly_every_kind() -> None:
    parts = {each.file.partition("/")[0] for each in refusals()}
    assert {"oci", "registry", "http", "identity", "metadata", "storage", "audit", "admission", "kube", "lib"} <= parts
    # What is never made itself but only as one of those below it, or by a function in the place of it.
    never_made = {"KubeRefused"}
    made = {each.kind for each in refusals()} | {"ManifestBlobUnknown"}
    assert set(family()) - made - never_made == set()


def test_what_is_put_together_of_parts_is_still_there() -> None:
    assert COMPOSED - {(each.file, each.words) for each in refusals()} == set()


def test_each_refusal_says_what_to_do() -> None:
    assert [str(each) for each in refusals() if not composed(each) and not FIX.search(each.words)] == []


def test_each_refusal_says_what_it_is_about() -> None:
    vague = [
        each
        for each in refusals()
        if not composed(each)
        and not each.words.startswith((UNSAID, f"too many {UNSAID}"))
        and not PLACES.search(each.words)
    ]
    assert [str(each) for each in vague] == []


def test_each_refusal_about_one_thing_names_it() -> None:
    names = {name for name, kind in family().items() if issubclass(kind, ABOUT_ONE)}
    about_one = [each for each in refusals() if each.kind in names and UNSAID not in each.words]
    assert [str(each) for each in about_one if (each.file, each.words) not in NAMELESS] == []


def test_each_denial_of_a_right_says_what_would_allow_it() -> None:
    bare = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Decision" and _denies(node)
    ]
    # Nobody is logged in: the answer is 401, and says so. The others get their fix from the guard.
    where = [each.partition(":")[0] for each in bare]
    assert where == ["access/rules.py", "identity/authorizer.py", "identity/rbac.py"]


def _denies(call: ast.Call) -> bool:
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    return given.get("allowed") == "False" and "fix" not in given


@pytest.mark.parametrize("words", ["the token is odd", "the token is odd; it was made elsewhere"])
def test_words_without_a_next_step_are_found(words: str) -> None:
    assert not FIX.search(words)
