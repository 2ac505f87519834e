"""Which images an object names: every field of a Pod, or of a Pod template, that makes a node pull an image."""

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
# The path to the PodSpec in each built-in kind that has one.
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
# Images in one object: more than a node could run. Every policy evaluates each of them.
MOST_IMAGES: Final = 1000
# Entries of a list, such as volumes.
MOST_ENTRIES: Final = 10_000


class UnreadableObject(ValueError):
    """An object whose images cannot be found; the message names the field."""


class UsedBy(Enum):
    """The field of a PodSpec that uses an image, in the order in which the fields are read."""

    INIT_CONTAINERS = "initContainers"
    CONTAINERS = "containers"
    EPHEMERAL_CONTAINERS = "ephemeralContainers"
    VOLUMES = "volumes"

    @property
    def title(self) -> str:
        """What messages call an entry of the field."""
        return _TITLES[self]


_TITLES: Final = {
    UsedBy.INIT_CONTAINERS: "init container",
    UsedBy.CONTAINERS: "container",
    UsedBy.EPHEMERAL_CONTAINERS: "ephemeral container",
    UsedBy.VOLUMES: "image volume",
}
# The fields that hold containers.
CONTAINERS: Final = (UsedBy.INIT_CONTAINERS, UsedBy.CONTAINERS, UsedBy.EPHEMERAL_CONTAINERS)


@dataclass(frozen=True, slots=True)
class ImageUse:
    """One field that names an image.

    Attributes:
        field: its path in the object, such as ``spec.containers[0].image``.
        owner: the container or volume, in words, such as ``container web``.
        text: the value of the field, as it was written.
        pull_policy: `Always`, `IfNotPresent` or `Never`; "" where the API server sets the default.
        used_by: None where it is not known, as at pull time.
    """

    field: str
    owner: str
    text: str
    pull_policy: str = ""
    used_by: UsedBy | None = None


class Stage(Enum):
    """Whether an object is a Pod, or makes Pods.

    Attributes:
        POD: it is a Pod.
        JOB: it makes Pods at once, and its Pod template is immutable.
        CONTROLLER: it makes Pods, or other controllers, again and again, such as a Deployment or a CronJob.
    """

    POD = 0
    JOB = 1
    CONTROLLER = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """Group and kind of an object."""

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
        """Whether objects of the kind are Pods."""
        return self == _POD

    @property
    def stage(self) -> Stage:
        """Whether objects of the kind are Pods, or make Pods."""
        return Stage.POD if self == _POD else Stage.JOB if self == _JOB else Stage.CONTROLLER

    @property
    def known(self) -> bool:
        """Whether it is a built-in kind with a PodSpec."""
        return (self.group, self.name) in POD_SPECS

    @property
    def is_list(self) -> bool:
        """Whether it is a list of objects with a PodSpec, as ``kubectl get --output yaml`` writes it."""
        of = self.name.removesuffix("List")
        return of != self.name and (not of or Kind(self.group, of).known)

    def __str__(self) -> str:
        return f"{self.group}/{self.name}" if self.group else self.name


_POD: Final = Kind("", POD)
_JOB: Final = Kind(*JOB)


def images_of(kind: Kind, item: Json) -> tuple[ImageUse, ...]:
    """Every image that the object names, init containers first; none for kinds without a PodSpec.

    Raises:
        UnreadableObject: a field does not have the type that the Kubernetes API gives it, or the object is a list.
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
    """Every image in a PodSpec. Raises like `images_of`."""
    # Counted before any value is built.
    containers = sum(len(_list(spec.get(kind.value), f"{path}.{kind.value}")) for kind in CONTAINERS)
    if containers > MOST_IMAGES:
        raise UnreadableObject(f"{path} names {containers} images, more than {MOST_IMAGES}")
    found = (*_container_images(spec, path), *_volume_images(spec, f"{path}.volumes"))
    if len(found) > MOST_IMAGES:
        raise UnreadableObject(f"{path} names {len(found)} images, more than {MOST_IMAGES}")
    return found


def _container_images(spec: Json, path: str) -> Iterator[ImageUse]:
    for kind in CONTAINERS:
        for number, container in enumerate(_list(spec.get(kind.value), f"{path}.{kind.value}")):
            at = f"{path}.{kind.value}[{number}]"
            fields = _mapping(container, at)
            owner = f"{kind.title} {_text(fields, 'name', at) or number}"
            policy = _text(fields, "imagePullPolicy", at)
            yield ImageUse(f"{at}.image", owner, _text(fields, "image", at), policy, kind)


def _volume_images(spec: Json, path: str) -> Iterator[ImageUse]:
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
    """The default of the API server: https://kubernetes.io/docs/concepts/containers/images/#imagepullpolicy-defaulting."""
    return "Always" if image.tag == LATEST else "IfNotPresent"
