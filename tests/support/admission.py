"""Reviews as the API server sends them, and the whole of admission over a real database."""

from __future__ import annotations

import base64
import copy
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from support.audit import RecordingAudit
from support.clock import Clock
from support.memory import MemoryBlobs
from support.metadata import EmbeddedMetadata
from trow.admission.image_extractor import ImageExtractor
from trow.admission.image_rewriter import ImageRewriter
from trow.admission.judge import BoundedLookup, Judge
from trow.admission.mutate import Mutation
from trow.admission.policy_store import PolicyStore
from trow.admission.review import decode, encode
from trow.admission.validate import Validation
from trow.admission.verdict_recorder import VerdictRecorder
from trow.http.metrics import Metrics
from trow.policy import resources as manifests
from trow.registry.events import Origin
from trow.registry.image_lookup import LocalImageLookup
from trow.registry.pull import Pull

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trow.admission.ports import ImageLookup
    from trow.policy.paths import Path as FieldPath
    from trow.policy.pods import Kind
    from trow.policy.rules import Policy

REGISTRY: Final = "registry.example.com"
NAMESPACE: Final = "team-a"
UID: Final = "705ab4f5-6393-11e8-b7cc-42010a800002"
ORIGIN: Final = Origin("10.0.0.1", request="r-1")
GROUPS: Final = {"CronJob": "batch", "Job": "batch"} | dict.fromkeys(
    ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"), "apps"
)

Json = dict[str, Any]


# ---- objects


def containers(*images: str) -> list[Json]:
    return [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]


def pod(*images: str, **members: Any) -> Json:
    """A Pod with a container for each image; `members` of its specification replace or add to that."""
    spec = {"containers": containers(*images), **members}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


def uid(name: str) -> str:
    """What the API server calls the object of this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def owned(item: Json, uid: str, kind: str = "ReplicaSet", **labels: str) -> Json:
    """The same Pod as its controller makes it."""
    owner = {"apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": uid, "controller": True}
    metadata = {"generateName": "web-", "labels": labels, "ownerReferences": [owner]}
    return {**item, "metadata": metadata}


def workload(kind: str, spec: object) -> Json:
    """An object that makes Pods of this specification."""
    template: Json = {"template": {"spec": spec}}
    body = template if kind == "PodTemplate" else {"spec": template}
    if kind == "CronJob":
        body = {"spec": {"jobTemplate": body}}
    if kind == "Pod":
        body = {"spec": spec}
    group = GROUPS.get(kind)
    return {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind, "metadata": {"name": "web"}, **body}


# ---- reviews


def request(item: Json | None, old: Json | None = None, **members: Any) -> Json:
    """The request of a review; what kind it is about stands in the object, unless `members` say it."""
    about = (item or old or {}) | {}
    group, _, version = str(about.get("apiVersion", "v1")).rpartition("/")
    return {
        "uid": UID,
        "kind": {"group": group, "version": version, "kind": about.get("kind", "Pod")},
        "resource": {"group": group, "version": version, "resource": "things"},
        "requestKind": {"group": group, "version": version, "kind": about.get("kind", "Pod")},
        "name": "web",
        "namespace": NAMESPACE,
        "operation": "UPDATE" if old is not None else "CREATE",
        "userInfo": {
            "username": "alice",
            "uid": "u-1",
            "groups": ["dev", "system:authenticated"],
            "extra": {"a": ["b"]},
        },
        "object": item,
        "oldObject": old,
        "dryRun": False,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        **members,
    }


def envelope(asked: object, **members: Any) -> bytes:
    """The body of a review."""
    whole = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked, **members}
    return json.dumps(whole).encode()


def body(item: Json | None, old: Json | None = None, **members: Any) -> bytes:
    """The body of a review of an object."""
    return envelope(request(item, old, **members))


# ---- answers


@dataclass(frozen=True)
class Answer:
    """The response of a review."""

    response: Json

    @classmethod
    def of(cls, content: bytes) -> Answer:
        whole = json.loads(content)
        assert set(whole) == {"apiVersion", "kind", "response"}, whole
        assert (whole["apiVersion"], whole["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        return cls(whole["response"])

    @property
    def allowed(self) -> bool:
        allowed: bool = self.response["allowed"]
        return allowed

    @property
    def message(self) -> str:
        message: str = self.response.get("status", {}).get("message", "")
        return message

    @property
    def warnings(self) -> list[str]:
        warnings: list[str] = self.response.get("warnings", [])
        return warnings

    @property
    def annotations(self) -> dict[str, str]:
        annotations: dict[str, str] = self.response.get("auditAnnotations", {})
        return annotations

    @property
    def patch(self) -> list[Json]:
        """The operations of the patch, of which the answer has to say that they are some."""
        if "patch" not in self.response:
            assert "patchType" not in self.response
            return []
        assert self.response["patchType"] == "JSONPatch"
        operations: list[Json] = json.loads(base64.b64decode(self.response["patch"], validate=True))
        return operations


def applied(item: Json, operations: Sequence[Json]) -> Json:
    """The object with a patch applied, of which only the operations that replace and test are understood (RFC 6902)."""
    changed = copy.deepcopy(item)
    for operation in operations:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place: Any = changed
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key = int(last) if isinstance(place, list) else last
        if operation["op"] == "test":
            assert place[key] == operation["value"], f"{operation} fails"
        else:
            assert operation["op"] == "replace"
            assert isinstance(place, list) or key in place, f"{operation} replaces nothing"
            place[key] = operation["value"]
    return changed


# ---- everything together


class Gatekeeper:
    """Admission over a real database, as a server has it.

    Attributes:
        audit: what was recorded.
        metrics: what was counted.
        clock: what the time is for policies and pins.
        images: what is in the database.
    """

    def __init__(
        self,
        folder: Path,
        *items: Mapping[str, Any],
        configured: Policy | None = None,
        following: bool = True,
        images: ImageLookup | None = None,
        deadline: float = 5.0,
        extra: Mapping[Kind, Sequence[FieldPath]] | None = None,
        pull_through: Mapping[str, str] | None = None,
        fail_closed: bool = False,
    ) -> None:
        """Take policies and exceptions as people write them.

        Args:
            folder: where the database is.
            items: policies and exceptions.
            configured: the policy of the configuration.
            following: whether the cluster has policies.
            images: what is known of images; None: what is in the database.
            deadline: in seconds, for looking images up.
            extra: further kinds that name images.
            pull_through: prefixes by registry.
            fail_closed: nothing may happen that is not on record.
        """
        self.database = folder / "trow.db"
        self.clock = Clock()
        self.metadata = EmbeddedMetadata(self.database, self.clock)
        self.audit = RecordingAudit(fail_closed=fail_closed)
        self.metrics = Metrics()
        self.policies = PolicyStore(configured, following=following)
        if following:
            self.decree(*items)
        self.images = LocalImageLookup(Pull(MemoryBlobs(), self.metadata), self.metadata, [REGISTRY])
        lookup, self.extractor = BoundedLookup(images or self.images, deadline), ImageExtractor(extra or {})
        self.rewriter, self.judge = ImageRewriter(lookup, pull_through or {}), Judge(lookup, self.clock)
        self.recorder = VerdictRecorder(self.audit, self.metrics, within=deadline)
        self.validation = Validation(
            self.policies, self.extractor, self.rewriter, self.judge, self.recorder, self.metrics
        )
        self.mutation = Mutation(
            self.policies,
            self.extractor,
            self.rewriter,
            self.metadata,
            self.recorder,
            self.metrics,
            deadline=deadline,
        )

    def decree(self, *items: Mapping[str, Any]) -> None:
        """Let these be the cluster's policies and exceptions."""
        of_policies = [each for each in items if each["kind"] != manifests.EXCEPTION]
        of_exceptions = [each for each in items if each["kind"] == manifests.EXCEPTION]
        self.policies.replace(
            [manifests.policy_of(each) for each in of_policies],
            [manifests.exception_of(each, self.clock.now - 60) for each in of_exceptions],
        )

    async def validate(self, item: Json | None, old: Json | None = None, **members: Any) -> Answer:
        """What the validating webhook says."""
        review = decode(body(item, old, **members))
        return Answer.of(encode(review.uid, await self.validation.answer(review, ORIGIN)))

    async def mutate(self, item: Json | None, old: Json | None = None, **members: Any) -> Answer:
        """What the mutating webhook says; it never refuses."""
        review = decode(body(item, old, **members))
        answer = Answer.of(encode(review.uid, await self.mutation.answer(review, ORIGIN)))
        assert answer.allowed
        return answer

    async def mutated(self, item: Json, old: Json | None = None, **members: Any) -> Json:
        """The object as the mutating webhook would have it."""
        return applied(item, (await self.mutate(item, old, **members)).patch)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """See `samples`."""
        return samples(self.metrics.text().decode(), name)

    def close(self) -> None:
        self.metadata.close()


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric in the exposition format, by the values of their labels in the order of their names."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for sample in found
        if sample.name == name
    }
