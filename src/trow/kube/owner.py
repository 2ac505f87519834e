"""The owner of the objects that Trow writes: the cluster's garbage collector deletes them when it is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.kube_objects import metadata
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.kube.objects import Manifest, Objects

_GROUP: Final = "rbac.authorization.k8s.io/v1"


class OwnerRole:
    """A ClusterRole: only a cluster-scoped object may own objects of any scope.

    An installation is removed with its roles, by whatever tool. The webhooks must not stay behind: without Trow, they
    would refuse Pods.

    Args:
        objects: the API.
        name: of the ClusterRole; "" for no owner.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name

    async def references(self) -> Sequence[Manifest]:
        """The ``ownerReferences`` of what is written now: of a role that was made again, if it was.

        Raises:
            KubeRefused: Trow may not get it.
            Unavailable: it is not there. What is written then would have no end.
        """
        if not self._name:
            return []
        found = await self._objects.get(f"/apis/{_GROUP}/clusterroles/{self._name}")
        if found is None:
            raise Unavailable(
                f"Kubernetes has no ClusterRole {self._name}, which is to own what Trow writes (admission.owner);"
                " create it, or set another one, or none"
            )
        return [{"apiVersion": _GROUP, "kind": "ClusterRole", "name": self._name, "uid": metadata(found)["uid"]}]

    async def owned(self, manifest: Mapping[str, object]) -> Mapping[str, object]:
        """An object as it is written: with its owner, where there is one.

        Raises:
            KubeRefused, Unavailable: as `references`.
        """
        references = await self.references()
        if not references:
            return manifest
        return {**manifest, "metadata": {**metadata(manifest), "ownerReferences": references}}
