from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trow.policy.pods import (
    MOST_IMAGES,
    POD_SPECS,
    ImageUse,
    Kind,
    UnreadableObject,
    UsedBy,
    images_of,
    images_of_spec,
)

INIT, MAIN, EPHEMERAL, VOLUME = UsedBy

POD: Final = Kind("", "Pod")
KINDS: Final = sorted(POD_SPECS)


def pod(**spec: object) -> dict[str, object]:
    """A Pod with one container besides what is given."""
    return {"spec": {"containers": [{"name": "web", "image": "web:1"}], **spec}}


def within(kind: tuple[str, str], spec: object) -> dict[str, Any]:
    """An object of this kind that has this specification of Pods."""
    for key in reversed(POD_SPECS[kind]):
        spec = {key: spec}
    assert isinstance(spec, dict)
    return spec


# Kinds


@pytest.mark.parametrize(
    ("version", "name", "path"),
    [
        ("v1", "Pod", "spec"),
        ("v1", "PodTemplate", "template.spec"),
        ("v1", "ReplicationController", "spec.template.spec"),
        ("apps/v1", "Deployment", "spec.template.spec"),
        ("apps/v1", "ReplicaSet", "spec.template.spec"),
        ("apps/v1", "StatefulSet", "spec.template.spec"),
        ("apps/v1", "DaemonSet", "spec.template.spec"),
        ("apps/v1beta2", "Deployment", "spec.template.spec"),
        ("batch/v1", "Job", "spec.template.spec"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template.spec"),
    ],
)
def test_where_each_kind_names_images(version: str, name: str, path: str) -> None:
    item: Any = {"containers": [{"name": "web", "image": "web:1"}]}
    for key in reversed(path.split(".")):
        item = {key: item}
    kind = Kind.of({"apiVersion": version, "kind": name})
    assert images_of(kind, item) == (ImageUse(f"{path}.containers[0].image", "container web", "web:1", used_by=MAIN),)
    assert kind.known


def test_every_kind_is_in_the_table_above() -> None:
    assert len(KINDS) == 9


@pytest.mark.parametrize(
    ("group", "name", "is_pod", "known", "is_list", "shown"),
    [
        ("", "Pod", True, True, False, "Pod"),
        ("", "PodTemplate", False, True, False, "PodTemplate"),
        ("", "PodList", False, False, True, "PodList"),
        ("", "List", False, False, True, "List"),
        ("apps", "Deployment", False, True, False, "apps/Deployment"),
        ("apps", "DeploymentList", False, False, True, "apps/DeploymentList"),
        ("apps", "Pod", False, False, False, "apps/Pod"),
        ("apps", "PodList", False, False, False, "apps/PodList"),
        ("", "Deployment", False, False, False, "Deployment"),
        ("", "ConfigMapList", False, False, False, "ConfigMapList"),
        ("example.com", "AllowList", False, False, False, "example.com/AllowList"),
        ("", "pod", False, False, False, "pod"),
        ("", "Service", False, False, False, "Service"),
    ],
)
def test_what_kinds_are(group: str, name: str, is_pod: bool, known: bool, is_list: bool, shown: str) -> None:  # noqa: FBT001
    kind = Kind(group, name)
    assert (kind.is_pod, kind.known, kind.is_list, str(kind)) == (is_pod, known, is_list, shown)


@pytest.mark.parametrize(
    ("version", "expected"), [("v1", ""), ("apps/v1", "apps"), ("example.com/v1alpha1", "example.com"), ("", "")]
)
def test_the_group_of_a_kind(version: str, expected: str) -> None:
    assert Kind.of({"apiVersion": version, "kind": "Thing"}) == Kind(expected, "Thing")


@pytest.mark.parametrize(
    "item",
    [{}, {"kind": "Pod"}, {"apiVersion": "v1"}, {"apiVersion": None, "kind": "Pod"}, {"apiVersion": "v1", "kind": 1}],
)
def test_an_object_that_does_not_say_what_it_is(item: dict[str, object]) -> None:
    with pytest.raises(UnreadableObject, match="the object has no apiVersion and kind"):
        Kind.of(item)


def test_other_kinds_name_no_images() -> None:
    for kind in (Kind("", "Service"), Kind("example.com", "Pod"), Kind("", "Deployment"), Kind("", "")):
        assert images_of(kind, pod()) == ()


@pytest.mark.parametrize("kind", [Kind("", "List"), Kind("", "PodList"), Kind("batch", "JobList")])
def test_a_list_is_not_nothing(kind: Kind) -> None:
    with pytest.raises(UnreadableObject, match=f"{kind} is a list of objects; hand them in one by one"):
        images_of(kind, {"items": [pod()]})


# Fields


def test_every_field_that_makes_a_node_fetch_something() -> None:
    spec = {
        "volumes": [
            {"name": "tools", "image": {"reference": "tools:1", "pullPolicy": "Always"}},
            {"name": "scratch", "emptyDir": {}},
            {"image": {"reference": "more:1"}},
        ],
        "ephemeralContainers": [{"name": "debug", "image": "debug:1", "targetContainerName": "web"}],
        "containers": [
            {"name": "web", "image": "web:1", "imagePullPolicy": "Never"},
            {"image": "nameless:1"},
            {"name": "side", "image": "side:1", "env": [{"name": "image", "value": "not-an-image"}]},
        ],
        "initContainers": [{"name": "init", "image": "init:1", "restartPolicy": "Always"}],
    }
    assert images_of(POD, {"spec": spec}) == (
        ImageUse("spec.initContainers[0].image", "init container init", "init:1", used_by=INIT),
        ImageUse("spec.containers[0].image", "container web", "web:1", "Never", used_by=MAIN),
        ImageUse("spec.containers[1].image", "container 1", "nameless:1", used_by=MAIN),
        ImageUse("spec.containers[2].image", "container side", "side:1", used_by=MAIN),
        ImageUse(
            "spec.ephemeralContainers[0].image",
            "ephemeral container debug",
            "debug:1",
            used_by=EPHEMERAL,
        ),
        ImageUse("spec.volumes[0].image.reference", "image volume tools", "tools:1", "Always", used_by=VOLUME),
        ImageUse("spec.volumes[2].image.reference", "image volume 2", "more:1", used_by=VOLUME),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_every_field(kind: tuple[str, str]) -> None:
    spec = {
        **{key: [{"name": "a", "image": key}] for key in ("initContainers", "containers", "ephemeralContainers")},
        "volumes": [{"name": "a", "image": {"reference": "volumes"}}],
    }
    found = images_of(Kind(*kind), within(kind, spec))
    assert {use.text for use in found} == set(spec)
    assert all(use.field.startswith(".".join(POD_SPECS[kind])) for use in found)


@pytest.mark.parametrize("absent", [{}, {"image": None}, {"image": ""}])
def test_a_container_without_an_image_is_one_that_names_nothing(absent: dict[str, object]) -> None:
    """It is not left out: nothing can be said of it, so that it is denied."""
    found = images_of(POD, pod(containers=[{"name": "web", **absent}]))
    assert found == (ImageUse("spec.containers[0].image", "container web", "", used_by=MAIN),)


@pytest.mark.parametrize("source", [{}, {"reference": None}, {"reference": ""}, {"pullPolicy": ""}])
def test_an_image_volume_without_a_reference_is_one_that_names_nothing(source: dict[str, object]) -> None:
    found = images_of(POD, pod(volumes=[{"name": "tools", "image": source}]))
    assert found[1:] == (ImageUse("spec.volumes[0].image.reference", "image volume tools", "", used_by=VOLUME),)


@pytest.mark.parametrize("volume", [{}, {"image": None}, {"name": "a", "configMap": {"name": "image"}}])
def test_other_volumes_name_no_image(volume: dict[str, object]) -> None:
    assert len(images_of(POD, pod(volumes=[volume]))) == 1


@pytest.mark.parametrize("field", ["initContainers", "ephemeralContainers", "volumes"])
@pytest.mark.parametrize("nothing", [None, []])
def test_lists_may_be_empty_or_absent(field: str, nothing: object) -> None:
    assert len(images_of(POD, pod(**{field: nothing}))) == 1


def test_a_text_is_kept_as_it_was_written() -> None:
    text = " NGINX\n\u0430 "
    assert images_of(POD, pod(containers=[{"image": text}]))[0].text == text


# What cannot be told


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ({}, "spec is not an object"),
        ({"spec": None}, "spec is not an object"),
        ({"spec": []}, "spec is not an object"),
        ({"spec": "nginx"}, "spec is not an object"),
        # a Pod runs something: to look at nothing and find nothing wrong is no answer
        ({"spec": {}}, "spec.containers is empty; a Pod has at least one"),
        (pod(containers=None), "spec.containers is empty; a Pod has at least one"),
        (pod(containers=[]), "spec.containers is empty; a Pod has at least one"),
        (pod(containers={}), "spec.containers is not a list"),
        (pod(containers={"0": {"image": "x"}}), "spec.containers is not a list"),
        (pod(containers="nginx"), "spec.containers is not a list"),
        (pod(containers=False), "spec.containers is not a list"),
        (pod(containers=0), "spec.containers is not a list"),
        (pod(containers=[None]), "spec.containers[0] is not an object"),
        (pod(containers=[{"image": "x"}, "nginx"]), "spec.containers[1] is not an object"),
        (pod(containers=[[{"image": "x"}]]), "spec.containers[0] is not an object"),
        (pod(containers=[{"image": ["x"]}]), "spec.containers[0].image is not a text"),
        (pod(containers=[{"image": {"reference": "x"}}]), "spec.containers[0].image is not a text"),
        (pod(containers=[{"image": 1}]), "spec.containers[0].image is not a text"),
        (pod(containers=[{"image": False}]), "spec.containers[0].image is not a text"),
        (pod(containers=[{"image": "x", "name": 1}]), "spec.containers[0].name is not a text"),
        (pod(containers=[{"image": "x", "imagePullPolicy": []}]), "spec.containers[0].imagePullPolicy is not a text"),
        (pod(initContainers={}), "spec.initContainers is not a list"),
        (pod(initContainers=[1]), "spec.initContainers[0] is not an object"),
        (pod(ephemeralContainers=""), "spec.ephemeralContainers is not a list"),
        (pod(ephemeralContainers=[{"image": 1}]), "spec.ephemeralContainers[0].image is not a text"),
        (pod(volumes={}), "spec.volumes is not a list"),
        (pod(volumes=[None]), "spec.volumes[0] is not an object"),
        (pod(volumes=[{"image": "x"}]), "spec.volumes[0].image is not an object"),
        (pod(volumes=[{"image": []}]), "spec.volumes[0].image is not an object"),
        (pod(volumes=[{"image": False}]), "spec.volumes[0].image is not an object"),
        (pod(volumes=[{"image": {"reference": 1}}]), "spec.volumes[0].image.reference is not a text"),
        (
            pod(volumes=[{"image": {"reference": "x", "pullPolicy": 1}}]),
            "spec.volumes[0].image.pullPolicy is not a text",
        ),
        (pod(volumes=[{"name": 1, "image": {}}]), "spec.volumes[0].name is not a text"),
    ],
)
def test_objects_that_cannot_be_told(item: dict[str, object], complaint: str) -> None:
    with pytest.raises(UnreadableObject, match=f"^{re.escape(complaint)}$"):
        images_of(POD, item)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_is_missing_is_named(kind: tuple[str, str]) -> None:
    path = POD_SPECS[kind]
    for depth in range(len(path)):
        item: dict[str, Any] = {}
        for key in reversed(path[:depth]):
            item = {key: item}
        with pytest.raises(UnreadableObject, match=f"^{re.escape('.'.join(path[: depth + 1]))} is not an object$"):
            images_of(Kind(*kind), item)


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_runs_nothing_cannot_be_told(kind: tuple[str, str]) -> None:
    with pytest.raises(UnreadableObject, match="containers is empty"):
        images_of(Kind(*kind), within(kind, {"initContainers": [{"image": "x"}]}))


def test_there_are_no_more_images_than_any_node_could_run() -> None:
    containers = [{"image": f"x:{number}"} for number in range(MOST_IMAGES)]
    assert len(images_of(POD, pod(containers=containers))) == MOST_IMAGES
    with pytest.raises(UnreadableObject, match=f"spec names {MOST_IMAGES + 1} images, more than {MOST_IMAGES}"):
        images_of(POD, pod(containers=containers, volumes=[{"image": {"reference": "x"}}]))


def test_a_specification_elsewhere_is_read_by_itself() -> None:
    """Kinds of others may have parts of a Pod's specification."""
    assert images_of_spec({}, "spec.podSpec") == ()
    found = images_of_spec({"initContainers": [{"image": "x"}]}, "spec.podSpec")
    assert found == (ImageUse("spec.podSpec.initContainers[0].image", "init container 0", "x", used_by=INIT),)


# Anything at all

KEYS: Final = st.sampled_from(
    [
        *("spec", "template", "jobTemplate", "containers", "initContainers", "ephemeralContainers", "volumes"),
        *("image", "reference", "name", "imagePullPolicy", "pullPolicy", ""),
    ]
)
SCALARS: Final = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)
OBJECTS: Final = st.dictionaries(KEYS, JSON, max_size=4)


@given(st.sampled_from(KINDS), OBJECTS, st.booleans())
@example(("", "Pod"), {"spec": {"containers": [{"image": "\ud800"}]}}, False)
def test_images_are_told_or_the_object_is_refused(kind: tuple[str, str], item: dict[str, Any], below: bool) -> None:  # noqa: FBT001
    item = within(kind, item) if below else item
    try:
        found = images_of(Kind(*kind), item)
    except UnreadableObject as error:
        assert str(error).startswith(POD_SPECS[kind][0])  # noqa: PT017 - what is read may be anything
    else:
        assert found
        for use in found:
            assert (at(item, use.field) or "") == use.text


def at(item: Any, field: str) -> object:
    """What is at a field such as ``spec.containers[0].image``; None if the last step leads nowhere."""
    *before, last = re.findall(r"\w+", field)
    for step in before:
        item = item[int(step) if isinstance(item, list) else step]
    return item.get(last)


CONTAINERS: Final = st.lists(st.fixed_dictionaries({"image": st.text(max_size=5)}), max_size=3)
VOLUMES: Final = st.lists(
    st.fixed_dictionaries({}, optional={"image": st.fixed_dictionaries({"reference": st.text(max_size=5)})}), max_size=3
)


@given(st.sampled_from(KINDS), CONTAINERS, CONTAINERS, CONTAINERS, VOLUMES)
def test_no_image_is_left_out(
    kind: tuple[str, str],
    some: list[dict[str, str]],
    more: list[dict[str, str]],
    others: list[dict[str, str]],
    volumes: list[dict[str, Any]],
) -> None:
    containers = [{"image": "first"}, *some]
    spec = {"containers": containers, "initContainers": more, "ephemeralContainers": others, "volumes": volumes}
    expected = [each["image"] for each in (*more, *containers, *others)]
    expected += [each["image"]["reference"] for each in volumes if "image" in each]
    assert [use.text for use in images_of(Kind(*kind), within(kind, spec))] == expected


@pytest.mark.parametrize("member", ["containers", "initContainers", "ephemeralContainers"])
def test_containers_are_counted_before_anything_is_made_of_them(member: str) -> None:
    spec = {"containers": [{"image": "a"}]} | {member: [None] * 1001}
    with pytest.raises(UnreadableObject, match="more than 1000"):
        images_of(Kind("", "Pod"), {"spec": spec})


def test_lists_that_are_looked_through_have_an_end() -> None:
    spec = {"containers": [{"image": "a"}], "volumes": [{}] * 10_001}
    with pytest.raises(UnreadableObject, match=r"spec\.volumes has 10001 entries, more than 10000"):
        images_of(Kind("", "Pod"), {"spec": spec})
