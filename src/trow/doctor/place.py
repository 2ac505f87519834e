"""Where the doctor is and what it can see from there; each thing is asked for once, whoever needs it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import yaml

from trow.doctor.findings import NotCheckedError, lacking
from trow.kube.access import IN_POD, AccessError, ClusterAccess
from trow.kube.client import KubeClient, KubeRequest
from trow.kube.errors import Forbidden, KubeRefused
from trow.kube.kubeconfig import access_of_command
from trow.kube.objects import Objects
from trow.kube.reviews import Reviews
from trow.lib.errors import StartError
from trow.lib.handshake import trusting_all
from trow.lib.http_client import HttpClient
from trow.lib.kube_objects import labels, listing, mapping, object_name, object_namespace, objects_in, text
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from trow.config import Config
    from trow.kube.objects import Manifest
    from trow.lib.http_client import Answer

_Result = TypeVar("_Result")

SECONDS: Final = 20.0  # for a check with everything
CONNECT_SECONDS: Final = 5.0
HOME: Final = "trow"  # the namespace, unless another one is found
_MOST_BYTES: Final = 8 << 20
_SETTINGS: Final = "trow.yaml"
_INSIDE: Final = (".svc", ".svc.cluster.local", ".cluster.local")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Attributes:
        url, host: of the registry; "" finds them out.
        config: what a Trow of this machine is set up with.
        ca_file: an authority to trust beside those of the system.
        kubeconfig, context, namespace: as kubectl takes them.
        containerd_config: what ``containerd config dump`` has printed on a node.
        root: the folder that stands for ``/``.
    """

    url: str = ""
    host: str = ""
    config: Config | None = None
    ca_file: Path | None = None
    kubeconfig: Path | None = None
    context: str = ""
    namespace: str = ""
    containerd_config: Path | None = None
    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path = field(default_factory=Path.home)


@dataclass(frozen=True, slots=True)
class Setup:
    """What Trow's configuration says, as far as it bears on the checks.

    Attributes:
        source: where it stands.
        unread: why it could not be read in the cluster.
    """

    source: str = ""
    hosts: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    public_url: str = ""
    data_dir: str = ""
    policies: bool = False
    webhooks: str = ""
    service: str = ""
    called: bool = False
    unread: str = ""

    def unknown(self, what: str) -> NotCheckedError:
        """What cannot be checked without it."""
        given = "; or give Trow's own configuration as --config FILE"
        return NotCheckedError(f"{what}: {self.unread}{given}" if self.unread else what)

    @classmethod
    def of(cls, document: object, source: str) -> Setup:
        """Read what somebody has written; what is wrong there, ``trow config check`` says."""
        admission, kubernetes, listen = (mapping(mapping(document).get(key)) for key in _SECTIONS)
        public = text(listen.get("public_url"))
        names = [*_texts(admission.get("registries")), *_texts(kubernetes.get("audiences")), public]
        return cls(
            source,
            tuple(dict.fromkeys(filter(None, map(host_of, names)))),
            tuple(_texts(kubernetes.get("audiences"))),
            public,
            text(mapping(document).get("data_dir")),
            admission.get("policies") is True,
            text(admission.get("webhooks", "trow")),
            text(admission.get("service")).partition(":")[0],
            bool(admission.get("service") or admission.get("url")),
        )


_SECTIONS: Final = ("admission", "kubernetes", "listen")


class Cluster:
    """One API server."""

    def __init__(self, access: ClusterAccess) -> None:
        self.url = access.url
        self.client = KubeClient(access, connect_seconds=CONNECT_SECONDS, total_seconds=SECONDS)
        self.objects = Objects(self.client, seconds=SECONDS)
        self.reviews = Reviews(self.client)

    async def raw(self, path: str) -> bytes:
        """What the API server answers to a GET."""
        return await self.client.send("get", KubeRequest("GET", path), seconds=SECONDS, most_bytes=_MOST_BYTES)


class Place:
    """See above; used on one event loop, and closed.

    Raises:
        StartError: the kubeconfig file or its context, which were named, cannot be used.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._cluster, self._unreachable = self._way(options)
        place = IN_POD / "namespace"
        self._own_namespace = place.read_text("utf-8").strip() if place.exists() else ""

    async def once(self, key: str, ask: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """What ``ask`` finds out, for all who want to know."""
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(ask())
        found: _Result = await asyncio.shield(self._tasks[key])
        return found

    async def close(self) -> None:
        """Give up what is still asked for."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._cluster is not None:
            await self._cluster.client.close()

    # ---- the cluster

    @staticmethod
    def _way(options: Options) -> tuple[Cluster | None, str]:
        try:
            if options.kubeconfig is None and not options.context and (IN_POD / "token").exists():
                return Cluster(ClusterAccess.in_pod(options.environment)), ""
            access = access_of_command(options.kubeconfig, options.context, options.environment, options.home)
            return Cluster(access), ""
        except AccessError as error:
            if options.kubeconfig or options.context:
                raise StartError(f"the cluster cannot be asked: {error}") from None
            return None, f"no cluster can be asked: {error}"

    @property
    def in_cluster(self) -> bool:
        """Whether this is a Pod."""
        return "KUBERNETES_SERVICE_HOST" in self.options.environment

    @property
    def cluster(self) -> Cluster:
        """Raises `NotCheckedError` where there is none."""
        if self._cluster is None:
            raise NotCheckedError(self._unreachable)
        return self._cluster

    async def listed(self, path: str) -> Sequence[Manifest]:
        """A collection of the cluster."""

        async def listing_of() -> Sequence[Manifest]:
            return list((await self.cluster.objects.list_all(path)).objects.values())

        return await self.once(path, listing_of)

    async def pods(self) -> Sequence[Manifest]:
        """All Pods."""
        return await self.listed("/api/v1/pods")

    async def trows(self) -> Sequence[Manifest]:
        """Pods in which Trow itself runs.

        Raises:
            NotCheckedError: more than one namespace has such, and none of them is Trow's usual one.
        """
        wanted = self.options.namespace
        found = [
            pod for pod in await self.pods() if labels(pod).get("app.kubernetes.io/name") == "trow" and _serves(pod)
        ]
        homes = sorted({object_namespace(pod) for pod in found})
        if not wanted and len(homes) > 1:
            # Anybody may give a Pod the label, and what is found beside it would lead whoever follows the fixes.
            if HOME not in homes:
                raise NotCheckedError(f"Pods in {', '.join(homes)} say that they are Trow; give --namespace")
            wanted = HOME
        return [pod for pod in found if not wanted or object_namespace(pod) == wanted]

    async def namespace(self) -> str:
        """Where Trow is."""
        if self.options.namespace or self._cluster is None:
            return self.options.namespace or HOME
        try:
            pods = await self.trows()
        except Forbidden:
            if self._own_namespace:
                return self._own_namespace
            raise
        return object_namespace(pods[0]) if pods else HOME

    # ---- the registry

    async def setup(self) -> Setup:
        """How Trow is set up: by the configuration given, or by the one that it has in the cluster."""
        return await self.once("setup", self._setup)

    async def _setup(self) -> Setup:
        if (config := self.options.config) is not None:
            return Setup.of(msgspec.to_builtins(config, enc_hook=str), "the configuration")
        if self._cluster is None:
            return Setup()
        try:
            namespace = await self.namespace()
            for each in await self.listed(f"/api/v1/namespaces/{namespace}/configmaps"):
                if written := text(mapping(each.get("data")).get(_SETTINGS)):
                    return Setup.of(yaml.safe_load(written), f"ConfigMap {namespace}/{object_name(each)}")
        except Forbidden as error:
            return Setup(unread=lacking(error))
        except (KubeRefused, Unavailable, yaml.YAMLError, RecursionError) as error:
            return Setup(unread=f"its configuration cannot be read: {error}")
        return Setup()

    async def hosts(self) -> tuple[str, ...]:
        """The names by which images mean this registry, the one that was given first."""
        given = self.options.host or host_of(self.options.url)
        setup = await self.setup()
        found = tuple(dict.fromkeys(filter(None, [given, *setup.hosts])))
        if not found:
            raise setup.unknown(
                "the name of the registry is not known; give it as --host, such as registry.example.com"
            )
        return found

    async def url(self) -> str:
        """Where the registry is asked."""
        if self.options.url:
            return self.options.url.rstrip("/")
        if not self.options.host and (public := (await self.setup()).public_url):
            return public.rstrip("/")
        named = [host for host in await self.hosts() if self.in_cluster or not is_inside(host)]
        if not named:
            raise NotCheckedError("the registry has a name inside of the cluster only; give its address as --url")
        return f"https://{named[0]}"


async def get(url: str) -> Answer:
    """What an address answers without credentials, whoever signed its certificate.

    Raises:
        HttpError: nothing.
    """
    async with HttpClient(trusting_all(), connect_seconds=CONNECT_SECONDS) as client:
        return await client.request("GET", url, seconds=CONNECT_SECONDS, most_bytes=_MOST_BYTES)


def host_of(key: str) -> str:
    """The host in a URL, in the name of an image, or in what credentials are for."""
    return key.rpartition("://")[2].partition("/")[0]


def is_inside(host: str) -> bool:
    """Whether a name is one of the cluster's own DNS."""
    return host.rpartition(":")[0].endswith(_INSIDE) or host.endswith(_INSIDE)


def _serves(pod: Manifest) -> bool:
    containers = objects_in(mapping(pod.get("spec")), "containers")
    return any("serve" in listing(each.get("args")) or each.get("name") == "trow" for each in containers)


def _texts(value: object) -> list[str]:
    found: Sequence[object] = value if isinstance(value, list | tuple) else []
    return [each for each in found if isinstance(each, str)]
