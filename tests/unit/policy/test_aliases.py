from __future__ import annotations

import pytest

from support.verdicts import allow, cluster_policy, pattern, standing
from trow.policy import configured, images
from trow.policy.aliases import Alias, aliases_of, with_aliases
from trow.policy.images import parse
from trow.policy.pods import ImageUse
from trow.policy.rules import Effect, Policy, RunContext
from trow.policy.verdict import ImageRequest, Rules, judge

HUB = {"docker.io": "registry.example.com/f/docker.io", "quay.io:443": "registry.example.com/f/quay"}


def allowed(policy: Policy, image: str) -> bool:
    request = ImageRequest("team-a", (ImageUse("spec.containers[0].image", "container web", image),))
    return judge(Rules((policy,)), request, {}, 0).allowed


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", True),
        ("registry.example.com/f/docker.io/library/nginx", True),
        ("registry.example.com/f/docker.io/library/nginx:1.27", True),
        ("REGISTRY.example.com:443/f/docker.io/library/nginx", True),
        ("registry.example.com/f/docker.io/library/redis", False),
        ("registry.example.com/f/quay/library/nginx", False),
        ("registry.example.com/library/nginx", False),
        ("registry.example.com/f/docker.io.evil/library/nginx", False),
        ("mirror.example.com/f/docker.io/library/nginx", False),
        ("quay.io/org/app", True),
        ("registry.example.com/f/quay/org/app/tool", True),
        ("registry.example.com/f/quay/org/application", False),
    ],
)
def test_what_is_allowed_may_have_either_name(image: str, expected: bool) -> None:  # noqa: FBT001
    policy = configured.policy_of(Effect.DENY, ["docker.io/library/nginx", "quay.io/org/app"], [])
    assert allowed(with_aliases(policy, aliases_of(HUB)), image) is expected


@pytest.mark.parametrize("image", ["docker.io/acme/app", "registry.example.com/f/docker.io/acme/app:1"])
def test_what_is_denied_is_denied_under_the_pull_through_name_too(image: str) -> None:
    policy = configured.policy_of(Effect.ALLOW, ["registry.example.com"], ["docker.io"])
    assert not allowed(with_aliases(policy, aliases_of(HUB)), image)
    assert allowed(with_aliases(policy, aliases_of(HUB)), "registry.example.com/team-a/app")


@pytest.mark.parametrize("registry", ["registry.example.com", "trow.trow.svc:8000", "registry.internal"])
def test_what_is_denied_is_denied_under_every_name_of_this_registry(registry: str) -> None:
    policy = configured.policy_of(Effect.ALLOW, [], ["docker.io/acme"])
    aliases = aliases_of(HUB, ["registry.example.com", "trow.trow.svc:8000", "registry.internal"])
    assert not allowed(with_aliases(policy, aliases), f"{registry}/f/docker.io/acme/app:1")
    assert allowed(with_aliases(policy, aliases), f"{registry}/acme/app:1")
    assert len(aliases) == 6


def test_images_of_the_namespace_have_either_name() -> None:
    own = cluster_policy(allow("own", pattern("quay.io", "$namespace/**")))
    named = with_aliases(own, aliases_of({"quay.io": "registry.example.com/f/quay.io"}))
    for text in ("quay.io/team-a/app", "registry.example.com/f/quay.io/team-a/app"):
        assert named.evaluate(parse(text), RunContext("team-a"))[0] is Effect.ALLOW
        assert named.evaluate(parse(text), RunContext("team-b"))[0] is Effect.DENY


def test_exceptions_of_a_policy_are_about_either_name() -> None:
    policy = cluster_policy(exceptions=(standing(pattern("quay.io", "agent")),))
    named = with_aliases(policy, aliases_of({"quay.io": "registry.example.com/f/quay.io"}))
    for text in ("quay.io/agent:1", "registry.example.com/f/quay.io/agent:1"):
        assert named.after_exceptions(parse(text), RunContext("team-a"))[1] is not None


def test_without_aliases_a_policy_is_what_it_was() -> None:
    policy = configured.policy_of(Effect.DENY, ["docker.io"], [])
    assert with_aliases(policy, ()) is policy


def test_tag_and_digest_go_with_the_name() -> None:
    digest = f"sha256:{'a' * 64}"
    policy = configured.policy_of(Effect.DENY, ["docker.io/acme/app:1", f"docker.io/acme/tool@{digest}"], [])
    both = with_aliases(policy, aliases_of(HUB))
    assert allowed(both, "registry.example.com/f/docker.io/acme/app:1")
    assert not allowed(both, "registry.example.com/f/docker.io/acme/app:2")
    assert allowed(both, f"registry.example.com/f/docker.io/acme/tool@{digest}")


@pytest.mark.parametrize(
    ("upstream", "prefix"),
    [
        ("docker.io", "registry.example.com"),
        ("docker.io", "registry.example.com/"),
        ("docker.io", "f/docker.io"),
        ("docker.io", "registry.example.com/F"),
        ("docker.io/library", "registry.example.com/f"),
        ("", "registry.example.com/f"),
        ("docker.io", ""),
    ],
)
def test_what_is_no_alias_is_refused_with_the_form(upstream: str, prefix: str) -> None:
    with pytest.raises(ValueError, match="write HOST/PATH such as"):
        Alias.parse(upstream, prefix)


def test_upstream_is_the_registry_whatever_it_is_called() -> None:
    assert Alias.parse("index.docker.io", "r.example.com/f").upstream == images.DOCKER_HUB
