"""What Trow writes has an owner with which it goes, looked up when it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from trow.kube.owner import OwnerRole
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from trow.kube.objects import Objects

ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/trow-admission"
WRITTEN = {"kind": "Secret", "metadata": {"name": "hooks", "labels": {"app": "trow"}}}


class Known:
    """An API with these objects."""

    def __init__(self, **uids: str) -> None:
        self.uids = uids

    async def get(self, path: str) -> dict[str, Any] | None:
        uid = self.uids.get(path.rpartition("/")[2].replace("-", "_")) if path == ROLE else None
        return {"metadata": {"uid": uid}} if uid else None


def owner(known: Known, name: str) -> OwnerRole:
    return OwnerRole(cast("Objects", known), name)


async def test_what_is_written_names_its_owner_and_keeps_the_rest() -> None:
    found = await owner(Known(trow_admission="1"), "trow-admission").owned(WRITTEN)
    reference = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": "trow-admission",
        "uid": "1",
    }
    assert found == {"kind": "Secret", "metadata": {**WRITTEN["metadata"], "ownerReferences": [reference]}}  # type: ignore[dict-item]


async def test_an_owner_made_anew_is_another_one() -> None:
    known = Known(trow_admission="1")
    mine = owner(known, "trow-admission")
    first = await mine.references()
    known.uids["trow_admission"] = "2"
    assert [each["uid"] for each in (*first, *await mine.references())] == ["1", "2"]


async def test_without_a_name_nobody_owns_it() -> None:
    assert await owner(Known(), "").owned(WRITTEN) == WRITTEN


async def test_nothing_is_written_that_would_have_no_end() -> None:
    """An installation that is being removed has lost its roles already."""
    with pytest.raises(Unavailable, match=r"no ClusterRole trow-admission.*create it, or set another one, or none"):
        await owner(Known(), "trow-admission").owned(WRITTEN)
