"""May this be pulled: which namespace counts, what the image is called, and for how long an answer goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from support import platforms
from support.admission import REGISTRY
from support.clock import Clock
from support.policies import CLUSTER_POLICY, EXCEPTION, POLICY, document, exception, policy, rule
from trow.access.identity import Identity, Method
from trow.admission.policy_store import PolicyStore
from trow.admission.pull_policy import PULL_SECONDS, Pullers, PullPolicy
from trow.admission.shared_pulls import SharedPulls
from trow.oci.digest import Digest
from trow.oci.errors import Denied, Unavailable
from trow.oci.names import Repository, parse_reference
from trow.policy.resources import policy_of
from trow.policy.selectors import KnownLabels
from trow.registry.ports import ManifestRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.admission import Gatekeeper
    from support.fixtures import Keep
    from trow.admission.ports import AllowedPulls
    from trow.oci.names import Tag

MIRROR: Final = "mirror.example.com"
NODE: Final = Identity("system:node:n1", Method.KUBERNETES, groups=("system:nodes",))
APP: Final = Repository.parse("team/app")
ALIEN: Final = rule("aliens", "Allow", {"registry": "docker.io"})
V1: Final = rule("v1", "Allow", {"registry": REGISTRY, "tag": "v1"})


def account(namespace: str) -> Identity:
    """Of a Pod that pulls with the token of its ServiceAccount."""
    return Identity(f"system:serviceaccount:{namespace}:default", Method.KUBERNETES)


class Guarded:
    """A guard, and what it says."""

    def __init__(
        self, keeper: Gatekeeper, policies: PolicyStore | None = None, shared: AllowedPulls | None = None
    ) -> None:
        self.clock = Clock()
        self.shared = SharedPulls(shared, PULL_SECONDS, self.clock) if shared is not None else None
        self.guard = PullPolicy(
            policies or keeper.policies,
            keeper.judge,
            keeper.recorder,
            keeper.images,
            Pullers(frozenset(), frozenset({"system:nodes"})),
            [REGISTRY, MIRROR],
            self.clock,
            shared=self.shared,
        )

    async def pulls(
        self, manifest: factories.Manifest, reference: str = "", who: Identity = NODE, host: str = REGISTRY
    ) -> bool:
        try:
            await self.asks(manifest, reference or manifest.digest, who, host)
        except Denied:
            return False
        return True

    async def asks(
        self, manifest: factories.Manifest, reference: str, who: Identity = NODE, host: str = REGISTRY
    ) -> None:
        record = ManifestRecord(Digest.parse(manifest.digest), manifest.media_type, manifest.raw)
        await self.guard.check(who, host, APP, parse_reference(reference), record)


def ours(*rules: Any, **fields: Any) -> dict[str, Any]:
    return document(CLUSTER_POLICY, policy(rules=rules or [rule()], **fields), "only-ours")


async def test_a_policy_of_a_namespace_counts_for_its_own_pods(keep: Keep) -> None:
    guarded = Guarded(keep(ours(), document(POLICY, policy(rules=[ALIEN]), namespace="team-a")))
    image = factories.image()
    assert not await guarded.pulls(image, "v1", account("team-a"))
    assert await guarded.pulls(image, "v1", account("team-b"))
    assert await guarded.pulls(image, "v1")


async def test_where_no_namespace_is_known_policies_about_all_of_them_count(keep: Keep) -> None:
    image = factories.image()
    everywhere = Guarded(keep(ours(ALIEN, namespaces={"include": ["*"], "exclude": ["kube-system"]})))
    assert not await everywhere.pulls(image, "v1")
    assert not await everywhere.pulls(image, "v1", account("team-a"))
    assert await everywhere.pulls(image, "v1", account("kube-system"))
    somewhere = Guarded(keep(ours(ALIEN, namespaces={"include": ["team-*"]})))
    assert await somewhere.pulls(image, "v1")
    assert not await somewhere.pulls(image, "v1", account("team-a"))


async def test_labels_of_namespaces_count_where_the_namespace_is_known(keep: Keep) -> None:
    keeper = keep()
    selecting = ours(ALIEN, namespaceSelector={"matchLabels": {"tier": "prod"}})
    labels = KnownLabels({"team-a": {"tier": "prod"}, "team-b": {}})
    keeper.policies.replace([policy_of(selecting)], [], labels)
    guarded, image = Guarded(keeper), factories.image()
    assert not await guarded.pulls(image, "v1", account("team-a"))
    assert await guarded.pulls(image, "v1", account("team-b"))
    # A namespace that was made a moment ago may be one of those meant.
    assert not await guarded.pulls(image, "v1", account("team-c"))
    assert await guarded.pulls(image, "v1")


async def test_nobody_knows_what_uses_an_image_that_is_pulled(keep: Keep) -> None:
    image, ours_only = factories.image(), {"registry": REGISTRY}
    allowing = Guarded(keep(ours(rule("own", "Allow", ours_only) | {"usedBy": ["initContainers"]})))
    assert not await allowing.pulls(image, "v1", account("team"))
    denying = Guarded(keep(ours(rule("no", "Deny", ours_only) | {"usedBy": ["initContainers"]}, default="Allow")))
    assert not await denying.pulls(image, "v1", account("team"))


async def test_images_of_the_namespace_are_given_to_nobody_whose_namespace_is_not_known(keep: Keep) -> None:
    guarded = Guarded(keep(ours(rule("own", "Allow", {"registry": REGISTRY, "repository": "$namespace/**"}))))
    image = factories.image()
    assert await guarded.pulls(image, "v1", account("team"))
    assert not await guarded.pulls(image, "v1", account("team-b"))
    assert not await guarded.pulls(image, "v1")


async def test_an_exception_counts_for_its_namespaces_and_where_none_is_known(keep: Keep) -> None:
    excepted = document(EXCEPTION, exception(approver="bob", images=[{"registry": REGISTRY}], duration="1h"))
    keeper = keep(ours(ALIEN), excepted)
    guarded, image = Guarded(keeper), factories.image()
    assert await guarded.pulls(image, "v1", account("team-a"))
    assert not await guarded.pulls(image, "v1", account("team-b"))
    assert await guarded.pulls(image, "v1")
    keeper.clock.now += 3600
    assert not await guarded.pulls(image, "v1")


async def test_what_follows_a_tag_follows_for_ten_minutes(keep: Keep) -> None:
    guarded, index = Guarded(keep(ours(V1))), factories.index()
    assert await guarded.pulls(index, "v1")
    guarded.clock.now += 599
    assert await guarded.pulls(index)
    assert await guarded.pulls(index.children[0])
    guarded.clock.now += 1  # what was asked for in between makes it no longer
    for each in (index, *index.children):
        assert not await guarded.pulls(each)


async def test_what_is_denied_by_digest_is_given_to_nobody_by_no_name(keep: Keep) -> None:
    image = factories.image()
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": image.digest})
    guarded = Guarded(keep(ours(recalled, default="Allow")))
    for reference in (image.digest, "v1", image.digest):
        assert not await guarded.pulls(image, reference)
    assert await guarded.pulls(factories.image(), "v1")


async def test_a_platform_that_is_denied_is_not_given_out_behind_its_index(keep: Keep) -> None:
    index = factories.index()
    bad, *good = index.children
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": bad.digest})
    guarded = Guarded(keep(ours(recalled, default="Allow")))
    assert not await guarded.pulls(bad)
    assert await guarded.pulls(index, "v1")
    assert not await guarded.pulls(bad)
    for each in good:
        assert await guarded.pulls(each)


async def test_a_tag_that_was_allowed_counts_for_what_follows_it_beside_what_is_denied(keep: Keep) -> None:
    index = factories.index()
    bad, *good = index.children
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": bad.digest})
    guarded = Guarded(keep(ours(V1, recalled)))
    assert not await guarded.pulls(good[0])
    assert await guarded.pulls(index, "v1")
    assert await guarded.pulls(good[0])
    assert not await guarded.pulls(bad)


async def test_a_platform_that_is_denied_is_not_given_out_behind_an_index_by_digest(keep: Keep) -> None:
    index = factories.index()
    bad, *good = index.children
    named = rule("named", "Allow", {"registry": REGISTRY, "digest": index.digest})
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": bad.digest})
    guarded = Guarded(keep(ours(named, recalled)))
    assert await guarded.pulls(index)
    assert not await guarded.pulls(bad)
    for each in good:
        assert await guarded.pulls(each)


async def test_an_exception_that_names_a_platform_gives_it_out_behind_its_index(keep: Keep) -> None:
    index = factories.index()
    bad = index.children[0]
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": bad.digest})
    named = [{"registry": REGISTRY, "digest": bad.digest}]
    excepted = {"name": "kept", "reason": "the fix breaks the payments", "images": named}
    guarded = Guarded(keep(ours(recalled, default="Allow", exceptions=[excepted])))
    assert await guarded.pulls(index)
    assert await guarded.pulls(bad)


# ---- digests that have tags


async def stored(keeper: Gatekeeper, manifest: factories.Manifest, *tags: str) -> factories.Manifest:
    await platforms.store(keeper.metadata, str(APP), manifest, *tags)
    return manifest


async def test_what_was_pinned_to_the_digest_of_an_allowed_tag_is_given_out_by_it(keep: Keep) -> None:
    """A kubelet asks for `app:v1@sha256:...` by the digest alone; no pull by the tag has to come first."""
    keeper = keep(ours(V1, mutate={"pinDigests": True}))
    guarded, index = Guarded(keeper), await stored(keeper, factories.index(), "v1")
    other = await stored(keeper, factories.image(), "v2")
    assert not await guarded.pulls(index.children[0])
    assert await guarded.pulls(index)
    assert await guarded.pulls(index.children[0])  # which the runtime asks for next
    assert not await guarded.pulls(other)
    assert not await guarded.pulls(factories.image())


async def test_a_tag_that_has_moved_counts_for_what_it_stood_for(keep: Keep) -> None:
    keeper = keep(ours(V1))
    guarded, old = Guarded(keeper), await stored(keeper, factories.image(), "v1")
    await stored(keeper, factories.image(), "v1")
    assert await guarded.pulls(old)


async def test_a_digest_is_given_out_if_one_of_its_tags_is_allowed_by_all_policies(keep: Keep) -> None:
    releases, stable = (rule("by-tag", "Allow", {"registry": REGISTRY, "tag": tag}) for tag in ("v*", "*-stable"))
    keeper = keep(ours(releases), document(CLUSTER_POLICY, policy(rules=[stable]), "stable"))
    guarded = Guarded(keeper)
    apart = await stored(keeper, factories.image(), "v1", "a-stable")
    both = await stored(keeper, factories.image(), "v2", "v2-stable")
    assert not await guarded.pulls(apart)
    assert await guarded.pulls(both)


async def test_a_digest_that_is_recalled_is_given_out_by_no_tag(keep: Keep) -> None:
    keeper = keep()
    guarded, bad = Guarded(keeper), await stored(keeper, factories.image(), "v1")
    keeper.decree(ours(V1, rule("recalled", "Deny", {"registry": REGISTRY, "digest": bad.digest})))
    for reference in (bad.digest, "v1", bad.digest):
        assert not await guarded.pulls(bad, reference)


async def test_an_exception_by_tag_reaches_what_is_asked_for_by_digest(keep: Keep) -> None:
    images = [{"registry": REGISTRY, "repository": str(APP), "tag": "v1"}]
    keeper = keep(ours(ALIEN), document(EXCEPTION, exception(approver="bob", images=images, duration="1h")))
    guarded = Guarded(keeper)
    excepted, other = await stored(keeper, factories.image(), "v1"), await stored(keeper, factories.image(), "v2")
    assert await guarded.pulls(excepted)
    assert not await guarded.pulls(other)


async def test_a_refusal_by_digest_tells_of_the_digest_and_counts_once(keep: Keep) -> None:
    keeper = keep(ours(V1))
    image = await stored(keeper, factories.image(), "v2", "v3")
    with pytest.raises(Denied, match=f"pull: {REGISTRY}/{APP}@{image.digest} is not allowed by any rule"):
        await Guarded(keeper).asks(image, image.digest)
    assert sum(keeper.counted("trow_admission_decisions_total").values()) == 1


async def test_nothing_follows_once_the_policies_have_changed(keep: Keep) -> None:
    keeper = keep(ours(V1))
    guarded, index = Guarded(keeper), factories.index()
    assert await guarded.pulls(index, "v1")
    keeper.decree(ours(V1))
    assert await guarded.pulls(index)  # they are what they were
    keeper.decree(ours(ALIEN))
    for each in (index, *index.children):
        assert not await guarded.pulls(each)


async def test_what_follows_for_one_follows_for_nobody_else_and_nowhere_else(keep: Keep) -> None:
    guarded, image = Guarded(keep(ours(V1))), factories.image()
    assert await guarded.pulls(image, "v1")
    assert await guarded.pulls(image)
    assert not await guarded.pulls(image, who=Identity("system:node:n2", Method.KUBERNETES))
    assert not await guarded.pulls(image, who=account("team-a"))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        (REGISTRY, True),
        (REGISTRY.upper(), True),
        (f"{REGISTRY}:443", True),
        (MIRROR, False),
        ("10.0.0.1:30500", True),  # by which a node calls the first of them
        ("", True),
        ("not a host/", True),
    ],
)
async def test_an_image_has_the_name_that_it_is_asked_by(keep: Keep, host: str, *, allowed: bool) -> None:
    guarded = Guarded(keep(ours()))
    assert await guarded.pulls(factories.image(), "v1", host=host) == allowed


async def test_as_long_as_the_policies_are_unknown_nobody_can_say(keep: Keep) -> None:
    guarded = Guarded(keep(), PolicyStore(None, following=True))
    with pytest.raises(Unavailable, match="have not been read yet"):
        await guarded.pulls(factories.image(), "v1")


async def test_whose_pulls_are_decided(keep: Keep) -> None:
    guard = Guarded(keep()).guard
    assert guard.concerns(NODE)
    assert not guard.concerns(account("team-a"))
    assert not guard.concerns(Identity("system:nodes", Method.KUBERNETES))


class Told:
    """What replicas tell each other, as in a database."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], tuple[Tag, float]] = {}
        self.broken = False

    async def allowed_pull(self, user: str, repository: Repository, digest: Digest) -> tuple[Tag, float] | None:
        return self.rows.get((user, repository, digest))

    async def add_allowed_pulls(
        self, user: str, repository: Repository, digests: Sequence[Digest], tag: Tag, at: float
    ) -> None:
        if self.broken:
            raise Unavailable("the database is gone")
        self.rows |= {(user, repository, each): (tag, at) for each in digests}

    async def drop_allowed_pulls(self, before: float, most: int) -> None:
        self.rows = {key: row for key, row in self.rows.items() if row[1] >= before}
        assert len(self.rows) <= most


async def test_what_an_index_names_may_be_pulled_at_another_replica(keep: Keep) -> None:
    told, keeper = Told(), keep(ours(V1))
    here, there = Guarded(keeper, shared=told), Guarded(keeper, shared=told)
    child = factories.image()
    index = factories.index([child])
    here.clock.now = there.clock.now = 1_700_000_000.0
    assert not await there.pulls(child)
    here.clock.now = there.clock.now = 1_700_000_100.0
    assert await here.pulls(index, "v1")
    assert await there.pulls(child)
    other = Identity("system:node:n2", Method.KUBERNETES, groups=("system:nodes",))
    assert not await there.pulls(child, who=other)
    late = Guarded(keeper, shared=told)
    late.clock.now = 1_700_000_100.0
    assert not await late.pulls(child)  # it has learnt of its policies only now
    there.clock.now += 601
    assert there.shared is not None
    await there.shared.drop_old()
    assert not told.rows
    assert not await there.pulls(child)


async def test_a_pull_is_allowed_when_others_cannot_be_told(keep: Keep) -> None:
    told = Told()
    told.broken = True
    guarded, child = Guarded(keep(ours(V1)), shared=told), factories.image()
    assert await guarded.pulls(factories.index([child]), "v1")
    assert await guarded.pulls(child)
