"""Whatever an object looks like, there is an answer, and an image that is denied never gets through."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.admission import GROUPS, NAMESPACE, REGISTRY, Gatekeeper, workload
from support.policies import CLUSTER_POLICY, POLICY, document, policy, rule
from trow.policy.paths import Path as FieldPath
from trow.policy.pods import POD_SPECS, Kind
from trow.registry.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.admission import Answer

pytestmark = pytest.mark.slow

Json = dict[str, Any]
KINDS: Final = [name for _, name in POD_SPECS]
EXTRA: Final = {
    Kind("argoproj.io", "Rollout"): [FieldPath.parse("spec.template.spec"), FieldPath.parse("spec.steps[*].image")]
}
THOROUGH: Final = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def policies(default: str) -> list[Json]:
    """Policies that deny one registry; one of them by a rule, the others by what they do not allow."""
    if default == "Allow":
        denying = rule("evil", "Deny", {"registry": "evil.example.com"})
        return [document(CLUSTER_POLICY, {"default": "Allow", "controllers": "enforce", "rules": [denying]})]
    allowing = rule("rest", "Allow", {"registry": REGISTRY}, {"registry": "docker.io"}, {"registry": "localhost:5000"})
    lax = document(POLICY, {"default": "Allow"}, "lax", NAMESPACE)
    return [document(CLUSTER_POLICY, policy(controllers="enforce", rules=[allowing])), lax]


@pytest.fixture(scope="module", params=["Allow", "Deny"])
def keeper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gatekeeper]:
    keeper = Gatekeeper(tmp_path_factory.mktemp("fuzz"), *policies(request.param), extra=EXTRA)
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def answered(
    keeper: Gatekeeper, runner: asyncio.Runner, item: Json | None, old: Json | None = None, **members: Any
) -> Answer:
    """The answer, which has to be one that was thought of."""
    answer = runner.run(keeper.validate(item, old, **members))
    assert "log of the registry" not in answer.message + "".join(answer.warnings)
    assert answer.allowed or answer.message
    events = keeper.audit.taken()
    assert len(events) == bool(answer.annotations)
    assert all(event.outcome is (Outcome.OK if answer.allowed else Outcome.DENIED) for event in events)
    return answer


# ---- anything at all

SCALARS: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)
)
FOUND_BY: Final = ["spec", "template", "jobTemplate", "metadata", "ownerReferences", "labels", "kind", "apiVersion"]
HOLDING: Final = ["containers", "initContainers", "ephemeralContainers", "volumes", "image", "reference", "steps"]
WORDS: Final = st.sampled_from([*FOUND_BY, *HOLDING, "name", "generateName", "imagePullPolicy", "pullPolicy", "uid"])
IMAGES: Final = st.sampled_from(["nginx", f"{REGISTRY}/a", "evil.example.com/a", "Evil.Example.com/a", "a b", "", "ä"])
ANYTHING: Final = st.recursive(
    st.one_of(SCALARS, IMAGES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(WORDS, WORDS, st.text(max_size=5)), inner, max_size=5)
    ),
    max_leaves=15,
)
OBJECTS: Final = st.dictionaries(st.one_of(WORDS, st.text(max_size=5)), ANYTHING, max_size=5)
ANY_KIND: Final = st.sampled_from(
    [*POD_SPECS, ("argoproj.io", "Rollout"), ("", "PodList"), ("apps", "List"), ("", ""), ("x" * 300, "Thing")]
)


@st.composite
def nearly(draw: st.DrawFn) -> Json:
    """An object with the path to a Pod's specification of some kind, and anything in it."""
    kind = draw(st.sampled_from(KINDS))
    spec = draw(st.one_of(ANYTHING, st.dictionaries(WORDS, ANYTHING, max_size=6)))
    return workload(kind, spec) | {"metadata": draw(ANYTHING)}


@THOROUGH
@given(
    st.one_of(OBJECTS, nearly(), st.none()),
    st.one_of(OBJECTS, nearly(), st.none()),
    st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT"]),
    ANY_KIND,
    st.one_of(st.none(), st.text(max_size=10)),
)
def test_anything_is_answered(
    keeper: Gatekeeper,
    loop: asyncio.Runner,
    item: Json | None,
    old: Json | None,
    operation: str,
    kind: tuple[str, str],
    namespace: str | None,
) -> None:
    about = {"group": kind[0], "version": "v1", "kind": kind[1]}
    members: Json = {"operation": operation, "kind": about, "namespace": namespace, "name": None}
    answer = answered(keeper, loop, item, old, **members)
    changed = loop.run(keeper.mutate(item, old, **members))
    assert (changed.patch, changed.warnings) == ([], [])
    if operation in ("DELETE", "CONNECT"):
        assert answer.allowed
    elif item is None and kind in POD_SPECS:
        assert not answer.allowed


@THOROUGH
@given(nearly(), st.one_of(st.none(), OBJECTS, nearly()))
def test_what_is_nearly_a_workload_is_answered(
    keeper: Gatekeeper, loop: asyncio.Runner, item: Json, old: Json | None
) -> None:
    answered(keeper, loop, item, old)


# ---- one image that is denied

NAMES: Final = st.sampled_from(["a", "app-1", "team/app", "a/b/c", "library/nginx", "evil/app"])
TAGS: Final = st.sampled_from(["", ":1", ":latest", f"@sha256:{'a' * 64}", f":1@sha256:{'b' * 64}"])
HOMES: Final = st.sampled_from([f"{REGISTRY}/", "docker.io/a/", "localhost:5000/", ""])
GOOD: Final = st.tuples(HOMES, NAMES, TAGS).map("".join)
HOSTS: Final = ["evil.example.com/", "EVIL.example.COM/", "evil.example.com:443/", "Evil.Example.com:80/"]
BAD: Final = st.one_of(
    st.tuples(st.sampled_from(HOSTS), NAMES, TAGS).map("".join),
    st.sampled_from(["", " ", "a b", "évil.example.com/a", "evil.example.com./a", "evil.example.com/A", "a@b", "a:"]),
)
POLICIES: Final = st.sampled_from([{}, {"imagePullPolicy": "Always"}, {"imagePullPolicy": "Never"}])


def container(image: str, number: int, more: Json) -> Json:
    return {"name": f"c{number}", "image": image, "resources": {}, "terminationMessagePath": "/dev/log", **more}


def volume(image: str, number: int, more: Json) -> Json:
    del more
    return {"name": f"v{number}", "image": {"reference": image, "pullPolicy": "IfNotPresent"}}


FIELDS: Final[dict[str, Callable[[str, int, Json], Json]]] = {
    "containers": container,
    "initContainers": container,
    "ephemeralContainers": container,
    "volumes": volume,
}


@st.composite
def specifications(draw: st.DrawFn) -> Json:
    """Valid ones with good images only."""
    spec: Json = {"restartPolicy": "Always", "nodeName": "n", "securityContext": {}}
    for field, make in FIELDS.items():
        images = draw(st.lists(st.tuples(GOOD, POLICIES), min_size=field == "containers", max_size=2))
        entries = [make(image, number, more) for number, (image, more) in enumerate(images)]
        empty = draw(st.booleans())
        if entries or empty:
            spec[field] = entries
    if "volumes" in spec:
        spec["volumes"] += [{"name": "e", "emptyDir": {}}, {"name": "p", "projected": {"sources": []}}]
    return spec


@st.composite
def spoilt(draw: st.DrawFn, spec: Json) -> Json:
    """The same with one more image, or another one, that is denied."""
    changed = copy.deepcopy(spec)
    field = draw(st.sampled_from(list(FIELDS)))
    entries: list[Json] = changed.setdefault(field, [])
    bad = FIELDS[field](draw(BAD), 9, draw(POLICIES))
    at = draw(st.integers(0, len(entries)))
    if at < len(entries) and draw(st.booleans()):
        entries[at] = bad
    else:
        entries.insert(at, bad)
    return changed


OLD: Final = st.one_of(st.none(), OBJECTS, nearly())


def without_evil(old: Json | None) -> bool:
    """What is stored already may run on, so it must not be what is denied."""
    text = json.dumps(old).lower()
    return not any(word in text for word in ("evil.", '""', '" "', "a b", "a@b", "a:", "vil."))


@THOROUGH
@given(st.data())
def test_good_images_run(keeper: Gatekeeper, loop: asyncio.Runner, data: st.DataObject) -> None:
    item = workload(data.draw(st.sampled_from(KINDS)), data.draw(specifications()))
    answer = answered(keeper, loop, item)
    assert (answer.allowed, answer.warnings) == (True, [])


@THOROUGH
@given(st.data())
def test_a_bad_image_never_runs(keeper: Gatekeeper, loop: asyncio.Runner, data: st.DataObject) -> None:
    kind, good = data.draw(st.sampled_from(KINDS)), data.draw(specifications())
    item = workload(kind, data.draw(spoilt(good)))
    old = data.draw(st.one_of(OLD.filter(without_evil), st.just(workload(kind, good))))
    sub_resource = data.draw(st.sampled_from([None, "ephemeralcontainers", "status", "resize"]))
    operation = "CREATE" if old is None else "UPDATE"
    assert not answered(keeper, loop, item, old, operation=operation, subResource=sub_resource).allowed


@THOROUGH
@given(st.data())
def test_a_bad_image_never_runs_in_kinds_of_others(
    keeper: Gatekeeper, loop: asyncio.Runner, data: st.DataObject
) -> None:
    rollout = workload("Deployment", data.draw(spoilt(data.draw(specifications()))))
    item = rollout | {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    assert not answered(keeper, loop, item).allowed
    step = workload("Deployment", data.draw(specifications()))
    step["spec"]["steps"] = [{"image": data.draw(image)} for image in (GOOD, BAD)]
    item = step | {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    assert not answered(keeper, loop, item).allowed


def test_groups_are_those_of_the_kinds() -> None:
    assert {(GROUPS.get(kind, ""), kind) for kind in KINDS} == set(POD_SPECS)
