"""No regular expression of the program can be made slow by the text that it reads."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.ambiguity import ambiguous
from trow.http import routes

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = Path(routes.__file__).parents[1]
METHODS: Final = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# Made while the program runs, and looked at in a test of their own.
MADE_LATER: Final = {"trow.http.routes"}


@pytest.mark.parametrize(
    ("expression", "method"),
    [
        (r"a*a*", "fullmatch"),
        (r"a*b?a*", "fullmatch"),
        (r"(a*)*", "fullmatch"),
        (r"(a|a)*", "fullmatch"),
        (r"(a|aa)+", "fullmatch"),
        (r"(?:a+b?)+", "fullmatch"),
        (r"bytes=\s*(\d{0,19})\s*-\s*", "fullmatch"),
        (r"(?:[^a]|b)*[^c]*", "fullmatch"),
        (r"(.*)/(.*)/(.*)", "match"),
        (r"(?!.*a.*b)c", "fullmatch"),
        (r"\s+$x", "search"),
        (r"-BEGIN-.*?-END-", "search"),
        (r"x*y", "search"),
        (r"(?:\b|y) *x", "search"),
    ],
)
def test_an_expression_that_could_read_a_text_in_many_ways_is_found(expression: str, method: str) -> None:
    assert ambiguous(expression, re.DOTALL, method)


@pytest.mark.parametrize(
    ("expression", "method"),
    [
        (r"a*ba*", "fullmatch"),
        (r"a*", "search"),
        (r"(?:^|\n) *x", "search"),
        (r"[^a-z]+", "sub"),
        (r"[a-z]+(?:[._-][a-z]+)*", "fullmatch"),
        (r"bytes= *(?:\d+ *)?-(?: *\d+)? *", "fullmatch"),
        (r"(?:[0-9]{0,3}){2}", "fullmatch"),
        (r"/v2/(.+)/tags/([^/]+)", "fullmatch"),
        (r"([^ ]+) +.*", "fullmatch"),
        (r"(?P<q>['\"])x(?P=q)", "fullmatch"),
    ],
)
def test_an_expression_that_reads_a_text_in_one_way_is_not(expression: str, method: str) -> None:
    assert not ambiguous(expression, re.DOTALL, method)


# ---- those of the program


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        name = ".".join(("trow", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        if name != "trow.__main__":  # importing it runs the program
            yield name, ast.parse(file.read_text(encoding="utf-8"))


def named(module: str) -> dict[str, re.Pattern[str]]:
    """The expressions that a module gives a name or imports by it."""
    values = vars(importlib.import_module(module))
    return {name: value for name, value in values.items() if isinstance(value, re.Pattern)}


def methods(tree: ast.Module) -> set[tuple[str, str]]:
    """Names and what is asked of them: ``_DIGEST.fullmatch(text)`` is ("_DIGEST", "fullmatch")."""
    return {
        (ast.unparse(node.value).rpartition(".")[2], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in METHODS
    }


def calls(tree: ast.Module, methods: set[str]) -> list[tuple[str, ast.Call]]:
    """Calls of the module ``re`` itself."""
    return [
        (node.func.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func.value) == "re"
        and node.func.attr in methods
    ]


def flags(call: ast.Call) -> int:
    given = [ast.unparse(each) for each in (*call.args[1:], *[word.value for word in call.keywords])]
    return int(eval(next((text for text in given if text.startswith("re.")), "0"), {"re": re}))


@pytest.mark.slow
def test_every_expression_of_the_program_reads_a_text_in_one_way() -> None:
    used = set.union(*(methods(tree) for _, tree in modules()))
    found = []
    for module, tree in modules():
        for name, value in named(module).items():
            asked = [method for owner, method in used if owner == name]
            assert asked, f"nobody uses {module}.{name}"
            found += [f"{module}.{name}.{each}" for each in asked if ambiguous(value.pattern, value.flags, each)]
        for method, call in calls(tree, METHODS):
            text = ast.literal_eval(call.args[0])
            found += [f"{module}: {text}"] if ambiguous(text, flags(call), method) else []
    assert not found


@pytest.mark.slow
def test_an_expression_without_a_name_reads_a_text_in_one_way_too() -> None:
    for module, tree in modules():
        values = {ast.unparse(n.value) for n in tree.body if isinstance(n, ast.AnnAssign | ast.Assign) and n.value}
        hidden = [call for _, call in calls(tree, {"compile"}) if ast.unparse(call) not in values]
        unknown = [call for call in hidden if not isinstance(call.args[0], ast.Constant)]
        assert len(unknown) == (module in MADE_LATER), f"{module} makes an expression that no test looks at"
        for call in set(hidden) - set(unknown):
            assert not ambiguous(ast.literal_eval(call.args[0]), flags(call), "search"), ast.unparse(call)


def test_every_path_reads_a_text_in_one_way() -> None:
    tree = ast.parse(Path(routes.__file__).read_text(encoding="utf-8"))
    paths = [
        ast.literal_eval(node.args[1])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Endpoint"
    ]
    assert len(paths) > 20
    assert not [path for path in paths if ambiguous(routes.expression(path).pattern, re.DOTALL)]
