"""Reviews are answered in time, whatever is slow."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import apsw

from support.admission import REGISTRY, owned, pod, uid
from support.policies import CLUSTER_POLICY, document, policy, rule
from trow.oci.digest import Digest
from trow.policy.facts import ImageFacts
from trow.registry.events import Action, Outcome

if TYPE_CHECKING:
    from support.fixtures import Keep
    from trow.policy.images import ImageReference

OURS: Final = f"{REGISTRY}/team/app:v1"
DIGEST: Final = Digest.parse("sha256:" + "0a" * 32)
ONLY_OURS: Final = document(CLUSTER_POLICY, policy(rules=[rule()]))
PINNED: Final = document(CLUSTER_POLICY, policy(default="Allow", mutate={"pinDigests": True}))


async def test_what_cannot_be_put_on_record_in_time_is_denied(keep: Keep) -> None:
    keeper = keep(ONLY_OURS, fail_closed=True, deadline=0.05)
    keeper.audit.open.clear()
    answer = await asyncio.wait_for(keeper.validate(pod(OURS)), 5)
    assert not answer.allowed
    assert answer.message == "the audit trail takes too long to write; try again"
    (event,) = keeper.audit.of(Action.ADMISSION)
    assert (event.outcome, event.reason) == (Outcome.FAILED, answer.message)


class Known:
    """A registry that knows one image."""

    async def facts(self, image: ImageReference, needs: object) -> ImageFacts:
        return ImageFacts(exists=True, digest=DIGEST)


async def test_a_digest_that_cannot_be_kept_in_time_is_given_all_the_same(keep: Keep) -> None:
    keeper = keep(PINNED, images=Known(), deadline=0.05)
    with contextlib.closing(apsw.Connection(str(keeper.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        changed = await asyncio.wait_for(keeper.mutated(owned(pod(OURS), uid("u-1"))), 4)
    assert changed["spec"]["containers"][0]["image"] == f"{OURS}@{DIGEST}"
