"""The reference of image policies says what the definitions, the parsers and the decision say."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.pages import ROOT
from trow.admission import notifications as notices
from trow.lib.globs import RepositoryGlob, matches
from trow.oci.names import Repository, Tag
from trow.policy import images
from trow.policy.configured import patterns_of
from trow.policy.images import InvalidImage
from trow.policy.kinds import WELL_KNOWN
from trow.policy.paths import Path
from trow.policy.patterns import ImagePattern, covers_registry
from trow.policy.pods import Stage
from trow.policy.requirements import REQUIREMENTS
from trow.policy.rules import CLUSTER, NAMESPACED, Effect, Mode, Policy
from trow.policy.versions import VersionRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = (ROOT / "docs" / "reference" / "image-policies.md").read_text("utf-8")
CRDS: Final = ROOT / "deploy" / "kubernetes" / "crds.yaml"
SCHEMAS: Final[Mapping[str, dict[str, Any]]] = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in yaml.safe_load_all(CRDS.read_text("utf-8"))
}


def table(title: str, number: int = 0) -> list[list[str]]:
    """The rows of a table below a title, without its heads; cells as they are written."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|"))] for row in tables[number].splitlines()[2:]
    ]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# Fields


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Everything below: the path, its schema, and whether it is required."""
    for name, each in schema.get("properties", {}).items():
        at = f"{path}.{name}"
        yield at, each, name in schema.get("required", ())
        items = each.get("items")
        yield from fields(items, f"{at}[]") if items else fields(each, at)


def defined(kind: str, part: str) -> dict[str, tuple[dict[str, Any], bool]]:
    found = fields(SCHEMAS[kind]["properties"][part], part)
    return {path: (schema, required) for path, schema, required in found}


def documented(title: str) -> list[str]:
    return [path for row in table(title) for path in codes(row[0])]


@pytest.mark.parametrize(
    ("title", "kind", "part"),
    [
        ("Fields of a policy", CLUSTER, "spec"),
        ("Status of a policy", CLUSTER, "status"),
        ("Fields of an exception", "PolicyException", "spec"),
        ("Status of an exception", "PolicyException", "status"),
    ],
)
def test_every_field_is_documented_and_no_other(title: str, kind: str, part: str) -> None:
    assert sorted(documented(title)) == sorted(defined(kind, part))


def test_the_kinds_of_policies_differ_as_the_page_says() -> None:
    cluster, namespaced = (defined(kind, "spec") for kind in (CLUSTER, NAMESPACED))
    own = ("spec.namespaces", "spec.namespaceSelector", "spec.exceptions[].namespaces")
    assert {path for path in cluster if not path.startswith(own)} == set(namespaced)
    assert defined(CLUSTER, "status") == defined(NAMESPACED, "status")


@pytest.mark.parametrize(
    ("title", "kind"), [("Fields of a policy", CLUSTER), ("Fields of an exception", "PolicyException")]
)
def test_documented_values_and_defaults_are_those_of_the_definition(title: str, kind: str) -> None:
    of_kind = defined(kind, "spec")
    for field, values, default, _ in table(title):
        schema, required = of_kind[codes(field)[0]]
        if "enum" in schema:
            assert codes(values) == schema["enum"], field
        for bound in ("minItems", "maxItems"):
            assert str(schema.get(bound) or "") in values, (field, bound)
        assert (default == "required") is required, field
        if "default" in schema and not required:
            shown = codes(default)[0]
            assert schema["default"] in (shown, yaml.safe_load(shown.replace("**", "'**'"))), field


# Names of images


def test_images_are_compared_as_the_page_says() -> None:
    rows = table("How images are compared")
    assert len(rows) > 10
    for written, compared in rows:
        assert str(images.parse(codes(written)[0])) == codes(compared)[0]


def test_what_the_page_says_is_refused() -> None:
    rows = table("How images are compared", 1)
    assert len(rows) > 5
    for written, _ in rows:
        with pytest.raises(InvalidImage):
            images.parse(codes(written)[0])


def covers(part: str, pattern: str, given: str) -> bool:
    if part == "registry":
        return covers_registry(ImagePattern.parse(pattern).registry, given)
    if part == "repository":
        return RepositoryGlob.parse(pattern, in_namespaces=True).covers(Repository.parse(given), "team-a")
    if part == "semver":
        return VersionRange.parse(pattern.replace("\\", "")).covers(given)
    return matches(pattern, Tag.parse(given))


def test_patterns_cover_what_the_page_says() -> None:
    rows = table("Images")
    assert {codes(row[0])[0] for row in rows} == {"registry", "repository", "tag", "semver"}
    for part, pattern, covered, others in rows:
        for cell, wanted in ((covered, True), (others, False)):
            for given in codes(cell):
                assert covers(codes(part)[0], codes(pattern)[0], given) is wanted, (pattern, given)


def test_prefixes_cover_what_the_page_says() -> None:
    for prefix, covered, others in table("image_validation", 1):
        patterns = patterns_of(codes(prefix)[0])
        for cell, wanted in ((covered, True), (others, False)):
            assert codes(cell)
            for given in codes(cell):
                image = images.parse(given)
                assert any(each.covers(image, ignore_tag=True) for each in patterns) is wanted, (prefix, given)


# Kinds


def test_every_well_known_kind_is_documented_and_no_other() -> None:
    listed = {(codes(group)[0], kind) for _, group, kinds in table("Kinds of others") for kind in codes(kinds)}
    assert listed == {(kind.group, kind.name) for kind in WELL_KNOWN}


def test_documented_paths_are_paths() -> None:
    for path, _ in table("Kinds of others", 1):
        Path.parse(codes(path)[0])


# Requirements


@pytest.mark.parametrize("kind", [CLUSTER, NAMESPACED])
def test_the_definitions_have_every_requirement_and_no_other(kind: str) -> None:
    fields = SCHEMAS[kind]["properties"]["spec"]["properties"]["require"]["properties"]
    assert sorted(fields) == sorted(each.field() for each in REQUIREMENTS)


def test_every_requirement_is_documented_and_no_other() -> None:
    rows = [[codes(field)[0], codes(name)[0], by] for field, name, by in table("Requirements")]
    assert sorted(rows) == sorted(
        [each.field(), each.name, "Trow and the API server" if each.cel else "Trow"] for each in REQUIREMENTS
    )
    compiled, left_out = ({name for row in table("What is compiled") for name in codes(row[at])} for at in (0, 1))
    for each in REQUIREMENTS:
        assert each.name in (compiled if each.cel else left_out)


# Decisions


def test_modes_are_combined_as_the_page_says() -> None:
    rows = [[codes(cell)[0] for cell in row] for row in table("Modes")]
    policy = defined(CLUSTER, "spec")
    both = itertools.product(policy["spec.mode"][0]["enum"], policy["spec.controllers"][0]["enum"])
    assert sorted((mode, controllers) for mode, controllers, *_ in rows) == sorted(both)
    for mode, controllers, *written in rows:
        found = Policy(CLUSTER, "p", Effect.ALLOW, mode=Mode(mode), controllers=Mode(controllers))
        assert [found.mode_of(stage).value for stage in Stage] == written


@pytest.mark.slow
def test_every_event_is_documented() -> None:
    (told,) = (row[1] for row in table("What is reported") if row[0] == "Events")
    assert {notices.DENIED, notices.WARNED, notices.EXEMPT} <= set(codes(told))
