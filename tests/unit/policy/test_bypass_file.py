"""The form of tests/data/bypasses.yaml: a case that is misspelt would prove nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import pytest
import yaml
from msgspec import UNSET, Meta, Struct, UnsetType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE: Final = Path(__file__).parents[2] / "data" / "bypasses.yaml"
CASES_AT_LEAST: Final = 150
API_VERSION: Final = "policy.trow.io/v1alpha1"
_SPECIFICATION: Final = r"(?:RFC|UTS) \d+, [\d.]+|(?:WHATWG URL|distribution-spec|image-spec|Kubernetes API), \w[\w .]+"
_SOURCE: Final = r"distribution/reference, \w+\.go"
_THREAD: Final = r"[A-Za-z0-9-]+/[\w.-]+#[1-9]\d*"
_NUMBER: Final = r"CVE-\d{4}-\d{4,}|GHSA(?:-[2-9cfghjmpqrvwx]{4}){3}|CWE-\d+|KEP-\d+"
REPEATS: Final = rf"^(?:{_NUMBER}|{_THREAD}|{_SPECIFICATION}|{_SOURCE})$"
WORKLOADS: Final = {
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
}

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$", max_length=63)]
Title = Annotated[str, Meta(pattern=r"^(?:ClusterImagePolicy|ImagePolicy)/[a-z0-9-]+$|^image_validation$")]
Line = Annotated[str, Meta(pattern=r"^\S[^\n]*[^\s.]$", max_length=110)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a misspelt field is refused by."""


class Images(Strict, frozen=True):
    registry: str
    repository: str = "**"
    tag: str = "*"
    digest: str = ""


class Rule(Strict, frozen=True):
    name: Name
    action: Literal["Allow", "Deny"]
    images: Annotated[tuple[Images, ...], Meta(min_length=1)]


class Require(Strict, frozen=True):
    digest: bool = False
    exists: bool = False
    max_age: str = ""
    forbid_pull_policy_never: bool = False
    platforms: tuple[str, ...] = ()


class Namespaces(Strict, frozen=True):
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()


class Policy(Strict, frozen=True):
    default: Literal["Allow", "Deny"]
    mode: Literal["enforce", "warn", "audit"] = "enforce"
    controllers: Literal["enforce", "warn", "ignore"] = "warn"
    rules: tuple[Rule, ...] = ()
    require: Require = Require()


class ClusterPolicy(Policy, frozen=True):
    namespaces: Namespaces = Namespaces()


class PolicyException(Strict, frozen=True):
    reason: Annotated[str, Meta(min_length=10, max_length=1000)]
    requester: Name
    duration: Annotated[str, Meta(pattern=r"^\d+h$")]
    namespaces: Annotated[tuple[Name, ...], Meta(min_length=1)]
    policies: Annotated[tuple[Title, ...], Meta(min_length=1)]
    images: Annotated[tuple[Images, ...], Meta(min_length=1)]
    approver: str = ""


class Named(Strict, frozen=True):
    name: Name


class Placed(Named, frozen=True):
    namespace: Name


class Dated(Named, frozen=True):
    creation_timestamp: str


class OfCluster(Strict, frozen=True, tag_field="kind", tag="ClusterImagePolicy"):
    api_version: Literal["policy.trow.io/v1alpha1"]
    metadata: Named
    spec: ClusterPolicy


class OfNamespace(Strict, frozen=True, tag_field="kind", tag="ImagePolicy"):
    api_version: Literal["policy.trow.io/v1alpha1"]
    metadata: Placed
    spec: Policy


class OfException(Strict, frozen=True, tag_field="kind", tag="PolicyException"):
    api_version: Literal["policy.trow.io/v1alpha1"]
    metadata: Dated
    spec: PolicyException


class ImageValidation(Strict, frozen=True):
    default: Literal["Allow", "Deny"]
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    mode: Literal["enforce", "warn", "audit"] = "enforce"


class Configured(Struct, frozen=True, forbid_unknown_fields=True):
    image_validation: ImageValidation


class Case(Strict, frozen=True):
    id: Name
    repeats: Annotated[str, Meta(pattern=REPEATS)]
    note: Line
    policy: Name
    expect: Literal["deny", "allow", "warn"]
    namespace: Name = "default"
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"] = "CREATE"
    subresource: str = ""
    image: str | UnsetType = UNSET
    item: dict[str, object] | UnsetType = msgspec.field(name="object", default=UNSET)
    old: dict[str, object] | UnsetType = UNSET
    because: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET

    @property
    def request(self) -> str:
        """All that is judged, as a text that can be compared."""
        parts = (self.policy, self.namespace, self.operation, self.subresource, self.image, self.item, self.old)
        return json.dumps(parts, sort_keys=True, default=str)


class File(Strict, frozen=True):
    now: str
    policies: dict[Name, tuple[dict[str, object], ...]]
    cases: Annotated[tuple[Case, ...], Meta(min_length=CASES_AT_LEAST)]


@pytest.fixture(scope="module")
def file() -> File:
    return msgspec.convert(yaml.safe_load(FILE.read_text()), File)


def repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def keys_written_twice(node: yaml.Node) -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        yield from repeated([key.value for key, _ in node.value])
        for _, value in node.value:
            yield from keys_written_twice(value)
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from keys_written_twice(entry)


def test_no_key_is_written_twice() -> None:
    root = yaml.compose(FILE.read_text())
    assert root is not None
    assert list(keys_written_twice(root)) == []


def test_no_two_cases_are_the_same(file: File) -> None:
    assert repeated([case.id for case in file.cases]) == []
    assert repeated([case.request for case in file.cases]) == []


def test_sets_of_policies_are_there_and_of_use(file: File) -> None:
    assert {case.policy for case in file.cases} == set(file.policies)


def manifest_of(item: Mapping[str, object]) -> None:
    form = Configured if "image_validation" in item else OfCluster | OfNamespace | OfException
    msgspec.convert(item, form)


def test_policies_have_known_fields_only(file: File) -> None:
    for items in file.policies.values():
        for item in items:
            manifest_of(item)


@pytest.mark.parametrize("misspelt", ["rule", "Default", "namespace"])
def test_a_misspelt_field_of_a_policy_is_found(misspelt: str) -> None:
    item = {"apiVersion": API_VERSION, "kind": "ClusterImagePolicy", "metadata": {"name": "a"}}
    with pytest.raises(msgspec.ValidationError, match=misspelt):
        manifest_of({**item, "spec": {"default": "Deny", misspelt: []}})


def test_exceptions_are_dated_before_the_moment_of_the_cases(file: File) -> None:
    made = re.findall(r'creationTimestamp: "([^"]+)"', FILE.read_text())
    assert made
    assert max(map(datetime.fromisoformat, made)) < datetime.fromisoformat(file.now)


def wrong_with(case: Case) -> Iterator[str]:
    subjects = [case.image, case.item].count(UNSET)
    if subjects != (2 if case.operation == "DELETE" else 1):
        yield "has not exactly one of image and object, or for DELETE none"
    if case.old is not UNSET and case.operation not in ("UPDATE", "DELETE"):
        yield "has an old object though nothing was there"
    if case.because is not UNSET and case.expect == "allow":
        yield "says why it is refused, and is not"
    if case.operation == "CONNECT" and not case.subresource:
        yield "connects to nothing"


def test_cases_are_possible_requests(file: File) -> None:
    assert {case.id: wrong for case in file.cases if (wrong := list(wrong_with(case)))} == {}


def test_cases_are_of_all_kinds(file: File) -> None:
    assert {case.operation for case in file.cases} == {"CREATE", "UPDATE", "DELETE", "CONNECT"}
    assert {case.expect for case in file.cases} == {"deny", "allow", "warn"}
    kinds = {case.item["kind"] for case in file.cases if case.item is not UNSET and case.expect == "deny"}
    assert kinds >= WORKLOADS


def test_characters_that_are_not_seen_are_written_as_escapes() -> None:
    assert [
        letter for letter in FILE.read_text() if not (letter.isascii() and (letter.isprintable() or letter == "\n"))
    ] == []
