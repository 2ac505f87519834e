"""Where images are in kinds that others have defined."""

from __future__ import annotations

from typing import Any

import pytest

from support.admission import containers
from trow.policy.paths import Path, Shape
from trow.policy.pods import MOST_IMAGES, ImageUse, UnreadableObject, UsedBy


def images_at(item: dict[str, Any], *paths: str, strict: bool = True) -> tuple[ImageUse, ...]:
    return Shape(map(Path.parse, paths)).images_in(item, strict=strict)


def found(text: str, item: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(use.field, use.text, use.pull_policy) for use in images_at(item, text)]


def texts(text: str, item: dict[str, Any]) -> list[str]:
    return [use.text for use in images_at(item, text)]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("spec", ["spec"]),
        ("spec.image", ["spec", "image"]),
        ("$.spec.image", ["spec", "image"]),
        (".spec.image", ["spec", "image"]),
        ("spec.steps[*].image", ["spec", "steps", "[*]", "image"]),
        ("a[*].b[*]", ["a", "[*]", "b", "[*]"]),
        ("a[*][*].b", ["a", "[*]", "[*]", "b"]),
        ("spec.roles.*.spec", ["spec", "roles", "*", "spec"]),
        ("a-b.c_D.0", ["a-b", "c_D", "0"]),
        (".".join("a" * 32), ["a"] * 32),
    ],
)
def test_paths(text: str, steps: list[str]) -> None:
    assert list(Path.parse(text)) == steps


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "$",
        "$.",
        "..a",
        "a..b",
        "a.",
        "a[*",
        "a[*]b",
        "[*]",
        "a.[*]",
        "a[0]",
        "a['b']",
        "a[?(@.b)]",
        "a*",
        "a.**",
        "$..image",
        "a b",
        "a\n",
        "a/b",
        "a~1b",
        "ä",
        ".".join("a" * 33),
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        Path.parse(text)


def test_a_text_is_an_image() -> None:
    assert found("spec.image", {"spec": {"image": "a:1"}}) == [("spec.image", "a:1", "")]


def test_every_entry_of_a_list() -> None:
    item = {"spec": {"steps": [{"image": "a"}, {"image": "b"}, {"script": "true"}]}}
    assert found("spec.steps[*].image", item) == [("spec.steps[0].image", "a", ""), ("spec.steps[1].image", "b", "")]
    assert found("images[*]", {"images": ["a", "b"]}) == [("images[0]", "a", ""), ("images[1]", "b", "")]
    nested = {"a": [{"b": [{"image": "x"}]}, {"b": [{"image": "y"}, {"image": "z"}]}]}
    assert texts("a[*].b[*].image", nested) == ["x", "y", "z"]


def test_every_entry_of_lists_in_a_list() -> None:
    item = {"spec": {"steps": [[{"image": "a"}, {"image": "b"}], [], [{"image": "c"}]]}}
    assert found("spec.steps[*][*].image", item) == [
        ("spec.steps[0][0].image", "a", ""),
        ("spec.steps[0][1].image", "b", ""),
        ("spec.steps[2][0].image", "c", ""),
    ]


def test_every_member_of_an_object() -> None:
    item = {"spec": {"roles": {"Master": {"image": "a"}, "Worker": {"image": "b"}, "None": None}}}
    assert found("spec.roles.*.image", item) == [
        ("spec.roles.Master.image", "a", ""),
        ("spec.roles.Worker.image", "b", ""),
    ]


def test_paths_with_the_same_beginning_are_walked_together() -> None:
    item = {"spec": {"image": "a", "steps": [{"image": "b", "other": "c"}]}}
    uses = images_at(item, "spec.image", "spec.steps[*].image", "spec.steps[*].other", "spec.image")
    assert [use.text for use in uses] == ["a", "b", "c"]


def test_a_shape_may_be_a_part_of_itself() -> None:
    template = Shape([Path.parse("image")])
    template.nest("steps[*].inline", template)
    item: dict[str, Any] = {"image": "0"}
    for depth in range(1, 6):
        item = {"image": str(depth), "steps": [{}, {"inline": item}]}
    assert [use.text for use in template.images_in(item, strict=True)] == list("543210")


def test_where_nobody_insists_an_operator_may_add_the_image() -> None:
    item = {"spec": {"containers": [{"name": "config-reloader", "resources": {}}, {"name": "x", "image": "a"}, None]}}
    assert [use.text for use in images_at(item, "spec.containers[*]", strict=False)] == ["a"]
    assert [use.text for use in images_at({"spec": {"containers": [{"image": ""}]}}, "spec", strict=False)] == []
    with pytest.raises(UnreadableObject, match="is not an image"):
        images_at(item, "spec.containers[*]")


def test_an_object_is_an_image_volume() -> None:
    item = {"volumes": [{"name": "x", "image": {"reference": "a", "pullPolicy": "Never"}}, {"name": "y"}]}
    assert found("volumes[*].image", item) == [("volumes[0].image.reference", "a", "Never")]


def test_an_object_is_a_specification_of_pods() -> None:
    spec = {
        "containers": containers("a"),
        "initContainers": containers("b"),
        "ephemeralContainers": containers("c"),
        "volumes": [{"name": "v", "image": {"reference": "d"}}],
    }
    assert found("spec.template.spec", {"spec": {"template": {"spec": spec}}}) == [
        ("spec.template.spec.initContainers[0].image", "b", ""),
        ("spec.template.spec.containers[0].image", "a", ""),
        ("spec.template.spec.ephemeralContainers[0].image", "c", ""),
        ("spec.template.spec.volumes[0].image.reference", "d", ""),
    ]


def test_an_object_is_a_container() -> None:
    """Who writes a path to containers must not get one to nothing."""
    item = {
        "spec": {"containers": [{"name": "x", "image": "a", "imagePullPolicy": "Never"}, {"name": "y", "image": "b"}]}
    }
    assert found("spec.containers[*]", item) == [
        ("spec.containers[0].image", "a", "Never"),
        ("spec.containers[1].image", "b", ""),
    ]
    disk = {"spec": {"volumes": [{"containerDisk": {"image": "c"}}, {"emptyDisk": {}}]}}
    assert found("spec.volumes[*].containerDisk", disk) == [("spec.volumes[0].containerDisk.image", "c", "")]


def test_an_object_is_both() -> None:
    """As the Prometheus operator's specification: an image of its own beside further containers."""
    assert texts("spec", {"spec": {"image": "a", "containers": containers("b")}}) == ["b", "a"]


def test_what_is_absent_names_nothing() -> None:
    templates: list[object] = [None, {}, {"spec": None}, {"spec": {}}]
    items: list[dict[str, Any]] = [{}, {"spec": None}, *({"spec": {"template": each}} for each in templates)]
    for item in items:
        assert images_at(item, "spec.template.spec") == ()
    assert images_at({"spec": {"steps": []}}, "spec.steps[*].image") == ()


def test_an_empty_text_is_an_image_that_cannot_be_read() -> None:
    assert images_at({"spec": ""}, "spec") == (ImageUse("spec", "spec", "", used_by=UsedBy.CONTAINERS),)


@pytest.mark.parametrize(
    ("text", "item", "where"),
    [
        ("spec.image", {"spec": "x"}, "spec is not an object"),
        ("spec.image", {"spec": ["x"]}, "spec is not an object"),
        ("spec.image", {"spec": {"image": ["x"]}}, "spec.image is not an image"),
        ("spec.image", {"spec": {"image": 1}}, "spec.image is not an image"),
        ("spec.image", {"spec": {"image": False}}, "spec.image is not an image"),
        ("spec.steps[*].image", {"spec": {"steps": {"a": {"image": "x"}}}}, "spec.steps is not a list"),
        ("spec.steps[*].image", {"spec": {"steps": "x"}}, "spec.steps is not a list"),
        ("spec.steps[*].image", {"spec": {"steps": [{"image": "x"}, None]}}, "spec.steps[1] is not an object"),
        ("spec.steps[*].image", {"spec": {"steps": [["x"]]}}, "spec.steps[0] is not an object"),
        ("spec.template", {"spec": {"template": {"metadata": {}, "spec": {"containers": []}}}}, "spec.template is no"),
        ("images[*]", {"images": ["a", None]}, "images[1] is not an image"),
        ("spec", {"spec": {"containers": "x"}}, "spec.containers is not a list"),
        ("spec", {"spec": {"image": {"repository": "x", "tag": "1"}}}, "spec.image"),
        ("spec", {"spec": {"image": "x", "imagePullPolicy": ["Never"]}}, "spec.image"),
    ],
)
def test_anything_else_cannot_be_read(text: str, item: dict[str, Any], where: str) -> None:
    with pytest.raises(UnreadableObject) as caught:
        images_at(item, text)
    assert where in str(caught.value)


def test_too_many_images_cannot_be_read() -> None:
    names = [f"a:{number}" for number in range(MOST_IMAGES + 1)]
    assert texts("images[*]", {"images": names[:-1]}) == names[:-1]
    with pytest.raises(UnreadableObject, match="more than"):
        images_at({"images": names}, "images[*]")


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("a[*].image", {"a": [{}] * 10_001}),
        ("a[*][*]", {"a": [[{}] * 9_000] * 2}),
        ("a.*.image", {"a": {str(number): {"image": ""} for number in range(10_001)}}),
    ],
)
def test_what_is_walked_has_an_end(path: str, item: dict[str, Any]) -> None:
    with pytest.raises(UnreadableObject, match="more than 10000"):
        Shape([Path.parse(path)]).images_in(item, strict=False)
