"""Tags beside digests, and digests behind tags: the registry knows which stand for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from support import platforms
from support.admission import NAMESPACE, REGISTRY, owned, pod, uid
from support.policies import CLUSTER_POLICY, EXCEPTION, POLICY, document, exception, policy, rule
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from factories import Manifest
    from support.admission import Gatekeeper
    from support.fixtures import Keep

APP: Final = f"{REGISTRY}/team/app"
RELEASES: Final = rule("releases", "Allow", {"registry": REGISTRY, "tag": "v*"})
PIN: Final = {"pinDigests": True}


def only_releases(*rules: Any, **fields: Any) -> dict[str, Any]:
    return document(CLUSTER_POLICY, policy(rules=[RELEASES, *rules], **fields), "releases")


async def stored(keeper: Gatekeeper, *tags: str) -> Manifest:
    image = platforms.image()
    await platforms.store(keeper.metadata, "team/app", image, *tags)
    return image


@pytest.mark.parametrize("pinned_by", ["the same policy", "another policy"])
async def test_what_may_run_by_its_tag_may_run_after_it_was_pinned(keep: Keep, pinned_by: str) -> None:
    same = pinned_by == "the same policy"
    others = () if same else (document(POLICY, {"default": "Allow", "mutate": PIN}, "mine", NAMESPACE),)
    keeper = keep(only_releases(**({"mutate": PIN} if same else {})), *others)
    image = await stored(keeper, "v1")
    pinned = await keeper.mutated(pod(f"{APP}:v1"))
    assert pinned["spec"]["containers"][0]["image"] == f"{APP}:v1@{image.digest}"
    assert (await keeper.validate(pinned)).allowed


async def test_pods_of_one_owner_may_run_after_the_tag_has_moved(keep: Keep) -> None:
    keeper = keep(only_releases(mutate=PIN))
    first = await stored(keeper, "v1")
    await keeper.mutated(owned(pod(f"{APP}:v1"), uid("u-1")))
    await stored(keeper, "v1")
    again = await keeper.mutated(owned(pod(f"{APP}:v1"), uid("u-1")))
    assert again["spec"]["containers"][0]["image"] == f"{APP}:v1@{first.digest}"
    assert (await keeper.validate(again)).allowed


async def test_a_tag_that_is_allowed_lets_no_other_digest_in(keep: Keep) -> None:
    keeper = keep(only_releases())
    await stored(keeper, "v1")
    other = await stored(keeper, "latest")
    assert not (await keeper.validate(pod(f"{APP}:v1@{other.digest}"))).allowed
    assert not (await keeper.validate(pod(f"{APP}:v2@{other.digest}"))).allowed
    assert not (await keeper.validate(pod(f"{APP}@{other.digest}"))).allowed
    assert not (await keeper.validate(pod(f"{APP}:v1@sha256:{'0' * 64}"))).allowed


async def test_nobody_vouches_for_images_of_others(keep: Keep) -> None:
    everybody = rule("releases", "Allow", {"registry": "*", "tag": "v*"})
    keeper = keep(document(CLUSTER_POLICY, policy(rules=[everybody]), "releases"))
    image = await stored(keeper, "v1")
    assert (await keeper.validate(pod("quay.io/team/app:v1"))).allowed
    assert not (await keeper.validate(pod(f"quay.io/team/app:v1@{image.digest}"))).allowed
    assert (await keeper.validate(pod(f"{APP}:v1@{image.digest}"))).allowed


async def test_an_exception_by_tag_reaches_what_was_pinned(keep: Keep) -> None:
    images = [{"registry": REGISTRY, "repository": "team/app", "tag": "v1"}]
    excepted = exception(approver="bob", images=images, duration="1h", policies=["ClusterImagePolicy/frozen"])
    keeper = keep(document(CLUSTER_POLICY, {"default": "Deny", "mutate": PIN}, "frozen"), document(EXCEPTION, excepted))
    await stored(keeper, "v1")
    other = await stored(keeper, "latest")
    assert (await keeper.validate(await keeper.mutated(pod(f"{APP}:v1")))).allowed
    assert not (await keeper.validate(pod(f"{APP}:v1@{other.digest}"))).allowed


async def test_a_digest_is_denied_by_the_tags_that_stand_for_it(keep: Keep) -> None:
    keeper = keep()
    bad = await stored(keeper, "v1", "latest")
    await stored(keeper, "v2")
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "repository": "team/**", "digest": bad.digest})
    keeper.decree(document(CLUSTER_POLICY, {"default": "Allow", "rules": [recalled]}, "digest_denials"))
    denied = await keeper.validate(pod(f"{APP}:v1"))
    assert not denied.allowed
    assert "is denied (ClusterImagePolicy/digest_denials, recalled)" in denied.message
    assert not (await keeper.validate(pod(APP))).allowed
    assert not (await keeper.validate(pod(f"{APP}:v2@{bad.digest}"))).allowed
    assert (await keeper.validate(pod(f"{APP}:v2"))).allowed
    assert (await keeper.validate(pod(f"{APP}:v3"))).allowed
    assert (await keeper.validate(pod("quay.io/team/app:v1"))).allowed


async def test_where_the_registry_cannot_be_asked_a_tag_that_may_be_recalled_is_denied(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalled = rule("recalled", "Deny", {"registry": REGISTRY, "digest": f"sha256:{'a' * 64}"})
    keeper = keep(document(CLUSTER_POLICY, {"default": "Allow", "rules": [recalled]}, "digest_denials"))

    async def away(*_: object) -> None:
        raise Unavailable("the database does not work")

    monkeypatch.setattr(keeper.metadata, "tagged_manifest", away)
    answer = await keeper.validate(pod(f"{APP}:v1"))
    assert not answer.allowed
    assert "could not be asked for its digest" in answer.message
    assert (await keeper.validate(pod("quay.io/team/app:v1"))).allowed  # which that rule is not about
