"""Kinds of others: objects as their projects document them, and the images that are found in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.pages import ROOT
from trow.admission.image_extractor import ImageExtractor
from trow.policy.kinds import WELL_KNOWN, has_parameters, seems_to_name_images
from trow.policy.pods import POD_SPECS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SPECS: Final[Mapping[str, Any]] = yaml.safe_load((ROOT / "tests" / "data" / "kinds.yaml").read_text("utf-8"))


def item_of(title: str, spec: object, version: str = "v1") -> dict[str, Any]:
    group, _, kind = title.partition("/")
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def found(item: dict[str, Any]) -> list[str]:
    return [use.text for use in ImageExtractor({}).uses(Kind.of(item), item)]


@pytest.mark.parametrize("title", SPECS)
@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
def test_every_image_is_found(title: str, version: str) -> None:
    wanted = sorted(re.findall(r"\bi\d+\b", str(SPECS[title])))
    assert sorted(found(item_of(title, SPECS[title], version))) == wanted


def test_every_kind_of_the_table_is_tried() -> None:
    assert {str(kind) for kind in WELL_KNOWN} == set(SPECS)
    assert not any((kind.group, kind.name) in POD_SPECS for kind in WELL_KNOWN)


@pytest.mark.parametrize("title", SPECS)
def test_an_object_that_says_little_names_little(title: str) -> None:
    for spec in ("{}", "null", "{template: null, templates: [], tasks: [], volumes: []}"):
        assert found(item_of(title, yaml.safe_load(spec))) == []


def test_another_group_is_another_kind() -> None:
    assert found(item_of("argoproj.example.com/Rollout", SPECS["argoproj.io/Rollout"])) == []


def resources() -> Iterator[tuple[str, str]]:
    for known in WELL_KNOWN.values():
        yield known.kind.group, known.resource


def test_no_two_kinds_of_a_group_have_the_same_resource() -> None:
    assert len(set(resources())) == len(list(resources()))


@pytest.mark.parametrize("text", ["{{inputs.parameters.image}}", "a:{{workflow.name}}", "$(params.image)", "a@$(x)"])
def test_parameters_are_filled_in_later_but_not_in_pods(text: str) -> None:
    assert has_parameters(Kind("tekton.dev", "Task"), text)
    assert not has_parameters(Kind("", "Pod"), text)
    assert not has_parameters(Kind("apps", "Deployment"), text)


@pytest.mark.parametrize(
    ("group", "spec", "wanted"),
    [
        ("example.com", "{containers: [{name: a, image: nginx}]}", True),
        ("example.com", "{a: [{b: {initContainers: [{image: nginx}]}}]}", True),
        ("example.com", "{image: nginx}", True),
        ("example.com", "{web: {image: 'nginx:1'}}", True),
        ("example.com", "{steps: [{image: nginx}]}", True),
        ("example.com", "{replicas: 3}", False),
        ("example.com", "{image: {repository: nginx}}", False),
        ("example.com", "{containers: 3}", False),
        ("example.com", "{image: ''}", False),
        ("", "{image: nginx}", False),
        ("networking.k8s.io", "{image: nginx}", False),
    ],
)
def test_what_looks_like_images_is_noticed(group: str, spec: str, wanted: object) -> None:
    item = item_of(f"{group}/Thing", yaml.safe_load(spec))
    assert seems_to_name_images(Kind(group, "Thing"), item) is wanted
