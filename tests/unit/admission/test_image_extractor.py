"""Which images of a review are to be decided."""

from __future__ import annotations

from typing import Any, Final

import pytest

from support.admission import body, containers, owned, pod, workload
from trow.admission.image_extractor import ImageExtractor, whole_object
from trow.admission.review import decode
from trow.policy.paths import Path
from trow.policy.pods import MOST_IMAGES, POD_SPECS, ImageUse, Kind, Stage, UnreadableObject
from trow.policy.verdict import ImageRequest

Json = dict[str, Any]
SUBJECTS: Final = ImageExtractor({})
ROLLOUT: Final = Kind("argoproj.io", "Rollout")
TASK: Final = Kind("tekton.dev", "Task")
EXTRA: Final = ImageExtractor(
    {ROLLOUT: [Path.parse("spec.template.spec")], TASK: [Path.parse("spec.steps[*].image"), Path.parse("spec.image")]}
)
KINDS: Final = [kind for _, kind in POD_SPECS]


STAGES: Final = {"Pod": Stage.POD, "Job": Stage.JOB}


def asked(
    item: Json | None, old: Json | None = None, subjects: ImageExtractor = SUBJECTS, **members: Any
) -> ImageRequest | None:
    return subjects.of(decode(body(item, old, **members)))


def images(
    item: Json | None, old: Json | None = None, subjects: ImageExtractor = SUBJECTS, **members: Any
) -> list[str]:
    found = asked(item, old, subjects, **members)
    return [use.text for use in found.uses] if found else []


def every(name: str) -> Json:
    """A specification with an image in every field that can have one."""
    return {
        "containers": containers(f"{name}/container"),
        "initContainers": containers(f"{name}/init"),
        "ephemeralContainers": containers(f"{name}/ephemeral"),
        "volumes": [{"name": "v", "image": {"reference": f"{name}/volume"}}, {"name": "w", "emptyDir": {}}],
    }


# ---- what is asked about


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_kind(kind: str) -> None:
    item = workload(kind, every("a"))
    assert images(item) == ["a/init", "a/container", "a/ephemeral", "a/volume"]
    found = asked(item)
    assert found is not None
    assert (found.namespace, found.stage) == ("team-a", STAGES.get(kind, Stage.CONTROLLER))


def test_the_namespace_is_that_of_the_request() -> None:
    """That of the object may be absent, and is what its author says (admission/v1, AdmissionRequest)."""
    item = pod("a")
    item["metadata"]["namespace"] = "kube-system"
    found = asked(item, namespace="team-b")
    assert found is not None
    assert found.namespace == "team-b"


def test_the_kind_is_that_of_the_request() -> None:
    item = pod("a") | {"apiVersion": "v1", "kind": "Secret"}
    assert images(item, kind={"group": "", "version": "v1", "kind": "Pod"}) == ["a"]


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
@pytest.mark.parametrize("item", [None, pod("a"), pod() | {"spec": "?"}])
@pytest.mark.parametrize("old", [None, pod("b"), pod() | {"spec": "?"}])
def test_what_goes_away_or_is_connected_to_runs_nothing(operation: str, item: Json | None, old: Json | None) -> None:
    assert asked(item, old, operation=operation) is None


def test_kinds_that_name_no_image() -> None:
    for kind in ("Service", "Binding", "Eviction", "Namespace"):
        assert asked({"apiVersion": "v1", "kind": kind, "spec": {"containers": containers("a")}}) is None
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 3}}
    assert asked(scale, scale, subResource="scale") is None
    assert asked(None, kind={"group": "", "version": "v1", "kind": "Service"}) is None


def test_a_name_of_a_built_in_kind_in_another_group_is_another_kind() -> None:
    knative = workload("Pod", every("a")) | {"apiVersion": "serving.knative.dev/v1"}
    assert asked(knative) is None


# ---- updates


def test_an_update_is_asked_about_what_is_new() -> None:
    assert images(pod("a", "b"), pod("a")) == ["b"]
    assert asked(pod("a"), pod("a", "b")) is None
    assert asked(pod("b", "a"), pod("a", "b")) is None
    assert images(pod("a:2"), pod("a:1")) == ["a:2"]
    assert images(pod("docker.io/library/a"), pod("a")) == ["docker.io/library/a"]


@pytest.mark.parametrize("field", ["initContainers", "ephemeralContainers"])
def test_a_new_image_in_any_field(field: str) -> None:
    old = pod("a", **{field: containers("c")})
    assert images(pod("a", **{field: containers("c", "b")}), old) == ["b"]
    assert images(pod("a", **{field: containers("c", "a")}), old) == ["a"]


def test_a_new_image_volume() -> None:
    volumes = [{"name": "v", "image": {"reference": "b"}}]
    assert images(pod("a", volumes=volumes), pod("a", volumes=[])) == ["b"]


def test_another_pull_policy_is_another_use() -> None:
    """With `Never` a node runs whatever it has under that name."""
    old, new = pod("a"), pod("a")
    old["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    new["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    assert images(new, old) == ["a"]
    assert asked(new, new) is None


def test_debugging_by_ephemeral_containers() -> None:
    """``kubectl debug`` updates a subresource, with a whole Pod (CVE-2023-2727)."""
    new = pod("a", ephemeralContainers=containers("shell"))
    assert images(new, pod("a"), subResource="ephemeralcontainers") == ["shell"]


def test_a_status_that_changes_runs_nothing_new() -> None:
    new = pod("a") | {"status": {"phase": "Running", "containerStatuses": [{"image": "b"}]}}
    assert asked(new, pod("a"), subResource="status") is None
    assert images(pod("b"), pod("a"), subResource="status") == ["b"]


def test_finalizers_can_be_removed_whatever_runs() -> None:
    old = pod("forbidden")
    new = pod("forbidden")
    new["metadata"] |= {"finalizers": [], "deletionTimestamp": "2026-11-24T12:00:00Z"}
    assert asked(new, old) is None


def test_an_image_that_moves_to_another_kind_of_container_is_asked_about() -> None:
    """What may initialise a Pod may not always run in it."""
    old = pod("a", initContainers=containers("b"))
    assert images(pod("b", initContainers=containers("b")), old) == ["b"]


def test_an_update_without_the_old_object_is_asked_about_everything() -> None:
    assert images(pod("a"), operation="UPDATE") == ["a"]


@pytest.mark.parametrize("spec", [None, "?", [], {}, {"containers": []}, {"containers": [{"image": 1}]}])
def test_an_old_object_that_cannot_be_read_vouches_for_nothing(spec: object) -> None:
    old = pod() | {"spec": spec}
    assert images(pod("a"), old) == ["a"]


# ---- what cannot be read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_an_object_that_is_missing_cannot_be_read(kind: str, operation: str) -> None:
    group = next(group for group, name in POD_SPECS if name == kind)
    with pytest.raises(UnreadableObject):
        asked(None, kind={"group": group, "version": "v1", "kind": kind}, operation=operation)


@pytest.mark.parametrize(
    "spec",
    [
        None,
        "nginx",
        [],
        {},
        {"containers": None},
        {"containers": {}},
        {"containers": ["nginx"]},
        {"containers": [None]},
        {"containers": [{"name": "a", "image": ["nginx"]}]},
        {"containers": [{"name": "a", "image": "nginx", "imagePullPolicy": 1}]},
        {"containers": containers("a"), "initContainers": {"0": {"image": "b"}}},
        {"containers": containers("a"), "ephemeralContainers": "b"},
        {"containers": containers("a"), "volumes": {"image": {"reference": "b"}}},
        {"containers": containers("a"), "volumes": [{"image": "b"}]},
        {"containers": containers("a"), "volumes": [{"image": {"reference": 1}}]},
        {"containers": containers(*map(str, range(MOST_IMAGES + 1)))},
    ],
)
@pytest.mark.parametrize("kind", ["Pod", "Deployment", "CronJob"])
def test_a_field_of_another_type_cannot_be_read(kind: str, spec: object) -> None:
    item = workload(kind, spec)
    for old in (None, workload(kind, {"containers": containers("a")})):
        with pytest.raises(UnreadableObject):
            asked(item, old)


def test_the_whole_object_stands_for_images_that_cannot_be_told() -> None:
    review = decode(body(owned(pod("a"), "1"), namespace="team-b", name=""))
    assert whole_object(review) == ImageRequest("team-b", (ImageUse("", "Pod team-b/web-", ""),), Stage.POD)
    assert whole_object(decode(body(workload("Job", None)))).stage is Stage.JOB


# ---- kinds of others


def rollout(*names: str) -> Json:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "spec": {"template": {"spec": pod(*names)["spec"]}},
    }


def task(*names: str, **spec: object) -> Json:
    return {
        "apiVersion": "tekton.dev/v1",
        "kind": "Task",
        "spec": {"steps": [{"image": name} for name in names], **spec},
    }


def test_extra_kinds() -> None:
    assert images(rollout("a", "b"), subjects=EXTRA) == ["a", "b"]
    assert images(task("a", "b", image="c"), subjects=EXTRA) == ["a", "b", "c"]
    found = asked(task("a"), subjects=EXTRA)
    assert found is not None
    assert found.stage is Stage.CONTROLLER
    assert asked(rollout("a") | {"apiVersion": "example.com/v1"}, subjects=EXTRA) is None


def test_well_known_kinds() -> None:
    assert images(rollout("a", "b")) == ["a", "b"]
    found = asked(task("a"))
    assert found is not None
    assert found.stage is Stage.CONTROLLER
    assert asked(rollout("a") | {"apiVersion": "example.com/v1"}) is None


def test_what_a_controller_fills_in_is_left_to_its_pods() -> None:
    assert images(task("a", "$(params.image)", "{{inputs.parameters.image}}:1")) == ["a"]
    assert asked(task("$(params.image)")) is None
    assert images(pod("$(params.image)")) == ["$(params.image)"]


def test_a_kind_that_is_well_known_and_told_of_is_read_by_both() -> None:
    subjects = ImageExtractor(
        {Kind("argoproj.io", "Rollout"): [Path.parse("spec.template.spec"), Path.parse("spec.extra")]}
    )
    item = rollout("a")
    item["spec"]["extra"] = "b"
    assert images(item, subjects=subjects) == ["a", "b"]


def test_updates_of_extra_kinds() -> None:
    assert images(rollout("a", "b"), rollout("a"), subjects=EXTRA) == ["b"]
    assert images(task("a", image="b"), task("b"), subjects=EXTRA) == ["a"]


def test_paths_add_to_built_in_kinds() -> None:
    subjects = ImageExtractor({Kind("", "Pod"): [Path.parse("metadata.annotations.sidecar")]})
    item = pod("a")
    item["metadata"]["annotations"] = {"sidecar": "b"}
    assert images(item, subjects=subjects) == ["a", "b"]


def test_an_extra_kind_that_is_something_else_cannot_be_read() -> None:
    for item in (task() | {"spec": "x"}, task("a", image=["b"]), task() | {"spec": {"steps": "x"}}):
        with pytest.raises(UnreadableObject):
            asked(item, subjects=EXTRA)
