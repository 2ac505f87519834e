"""Which images an object names: every field of a Pod, or of a template of Pods, that makes a node fetch something."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.policy.images import LATEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policy.images import ImageReference

Json: TypeAlias = "Mapping[str, object]"

POD: Final = "Pod"
JOB: Final = ("batch", "Job")
_TEMPLATE: Final = ("spec", "template", "spec")
# Where the Pod's specification is, in each built-in kind that has one.
POD_SPECS: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("", POD): ("spec",),
    ("", "PodTemplate"): ("template", "spec"),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    JOB: _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", *_TEMPLATE),
}
# More in one object than any node could run; each costs a look at every policy.
MOST_IMAGES: Final = 1000
# Entries of a list, such as volumes, that are looked at one by one.
MOST_ENTRIES: Final = 10_000


class UnreadableObject(ValueError):
    """An object whose images cannot be told; the message says where."""


class UsedBy(Enum):
    """What uses an image: the field of a Pod's specification, in the order in which they are looked at."""

    INIT_CONTAINERS = "initContainers"
    CONTAINERS = "containers"
    EPHEMERAL_CONTAINERS = "ephemeralContainers"
    VOLUMES = "volumes"

    @property
    def title(self) -> str:
        """What people call an entry."""
        return _TITLES[self]


_TITLES: Final = {
    UsedBy.INIT_CONTAINERS: "init container",
    UsedBy.CONTAINERS: "container",
    UsedBy.EPHEMERAL_CONTAINERS: "ephemeral container",
    UsedBy.VOLUMES: "image volume",
}
# Those that hold containers.
CONTAINERS: Final = (UsedBy.INIT_CONTAINERS, UsedBy.CONTAINERS, UsedBy.EPHEMERAL_CONTAINERS)


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One field that names an image.

    Attributes:
        field: where it is in the object, such as ``spec.containers[0].image``.
        owner: what uses it, in words, such as ``container web``.
        text: the field's value, as it was written.
        pull_policy: `Always`, `IfNotPresent` or `Never`; "" where it is left to the API server.
        used_by: None where that is not known, as when an image is pulled.
    """

    field: str
    owner: str
    text: str
    pull_policy: str = ""
    used_by: UsedBy | None = None


class Stage(Enum):
    """How far an object is from what runs.

    Attributes:
        POD: it is what runs.
        RUN: it makes Pods at once, and its template can never be put right: a Job.
        MAKER: it makes what makes Pods, or makes Pods again and again.
    """

    POD = 0
    RUN = 1
    MAKER = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object is, as the API server says."""

    group: str
    name: str

    @classmethod
    def of(cls, item: Json) -> Kind:
        """Read `apiVersion` and `kind` of a manifest."""
        version, name = item.get("apiVersion"), item.get("kind")
        if not isinstance(version, str) or not isinstance(name, str):
            raise UnreadableObject("the object has no apiVersion and kind")
        return cls(version.rpartition("/")[0], name)

    @property
    def is_pod(self) -> bool:
        """Whether it is what runs, not what makes it."""
        return self == _POD

    @property
    def stage(self) -> Stage:
        """How far it is from what runs."""
        return Stage.POD if self == _POD else Stage.RUN if self == _JOB else Stage.MAKER

    @property
    def known(self) -> bool:
        """Whether it is built in and has a Pod's specification."""
        return (self.group, self.name) in POD_SPECS

    @property
    def is_list(self) -> bool:
        """Whether it holds objects with a Pod's specification, as ``kubectl get --output yaml`` writes them."""
        of = self.name.removesuffix("List")
        return of != self.name and (not of or Kind(self.group, of).known)

    def __str__(self) -> str:
        return f"{self.group}/{self.name}" if self.group else self.name


_POD: Final = Kind("", POD)
_JOB: Final = Kind(*JOB)


def images_of(kind: Kind, item: Json) -> tuple[ImageUse, ...]:
    """Every image that the object names, init containers first; none for kinds without a Pod's specification.

    Raises:
        UnreadableObject: a field is not what the Kubernetes API says it is, or it is a list of such objects.
    """
    if kind.is_list:
        raise UnreadableObject(f"{kind} is a list of objects; hand them in one by one")
    path = POD_SPECS.get((kind.group, kind.name))
    if path is None:
        return ()
    at: Json = item
    for number, key in enumerate(path):
        at = _mapping(at.get(key), ".".join(path[: number + 1]))
    where = ".".join(path)
    if at.get("containers") in (None, []):
        raise UnreadableObject(f"{where}.containers is empty; a Pod has at least one")
    return images_of_spec(at, where)


def images_of_spec(spec: Json, path: str) -> tuple[ImageUse, ...]:
    """Every image in a Pod's specification. Raises like `images_of`."""
    # Counted before anything is made of them.
    containers = sum(len(_list(spec.get(kind.value), f"{path}.{kind.value}")) for kind in CONTAINERS)
    if containers > MOST_IMAGES:
        raise UnreadableObject(f"{path} names {containers} images, more than {MOST_IMAGES}")
    found = (*_of_containers(spec, path), *_of_volumes(spec, f"{path}.volumes"))
    if len(found) > MOST_IMAGES:
        raise UnreadableObject(f"{path} names {len(found)} images, more than {MOST_IMAGES}")
    return found


def _of_containers(spec: Json, path: str) -> Iterator[ImageUse]:
    for kind in CONTAINERS:
        for number, container in enumerate(_list(spec.get(kind.value), f"{path}.{kind.value}")):
            at = f"{path}.{kind.value}[{number}]"
            fields = _mapping(container, at)
            owner = f"{kind.title} {_text(fields, 'name', at) or number}"
            policy = _text(fields, "imagePullPolicy", at)
            yield ImageUse(f"{at}.image", owner, _text(fields, "image", at), policy, kind)


def _of_volumes(spec: Json, path: str) -> Iterator[ImageUse]:
    for number, volume in enumerate(_list(spec.get("volumes"), path)):
        at = f"{path}[{number}]"
        fields = _mapping(volume, at)
        if fields.get("image") is None:
            continue
        source = _mapping(fields["image"], f"{at}.image")
        owner = f"{UsedBy.VOLUMES.title} {_text(fields, 'name', at) or number}"
        reference, policy = _text(source, "reference", f"{at}.image"), _text(source, "pullPolicy", f"{at}.image")
        yield ImageUse(f"{at}.image.reference", owner, reference, policy, UsedBy.VOLUMES)


def _mapping(value: object, where: str) -> Json:
    if not isinstance(value, dict):
        raise UnreadableObject(f"{where} is not an object")
    return value


def _list(value: object, where: str) -> Sequence[object]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UnreadableObject(f"{where} is not a list")
    if len(value) > MOST_ENTRIES:
        raise UnreadableObject(f"{where} has {len(value)} entries, more than {MOST_ENTRIES}")
    return value


def _text(fields: Json, key: str, where: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableObject(f"{where}.{key} is not a text")
    return value


def default_pull_policy(image: ImageReference) -> str:
    """What the API server writes where nobody has: https://kubernetes.io/docs/concepts/containers/images/."""
    return "Always" if image.tag == LATEST else "IfNotPresent"
