"""Reviews are decided by what is here: no policy makes the registry call anybody."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest
import uvloop

from support import platforms
from support.admission import REGISTRY, owned, pod, uid
from support.policies import CLUSTER_POLICY, document, policy, rule

if TYPE_CHECKING:
    from support.fixtures import Keep
    from trow.policy.facts import ImageFacts
    from trow.policy.images import ImageReference

WAYS_OUT: Final = (
    "create_connection",
    "create_unix_connection",
    "create_datagram_endpoint",
    "sock_connect",
    "sock_sendto",
    "getaddrinfo",
    "getnameinfo",
    "subprocess_exec",
    "subprocess_shell",
)
OUTSIDE: Final = ("127.0.0.1", 9)


class Called(Exception):
    """Something outside of this process was asked."""


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls anybody fails."""

    def call(*given: object, **named: object) -> NoReturn:
        raise Called

    for way in WAYS_OUT:
        monkeypatch.setattr(uvloop.Loop, way, call)
    for way in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, way, call)
    for function in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, function, call)


async def test_calls_would_be_noticed(isolated: None) -> None:
    for ask in (
        lambda: asyncio.open_connection(*OUTSIDE),
        lambda: asyncio.get_running_loop().getaddrinfo(*OUTSIDE),
        lambda: asyncio.create_subprocess_exec("true"),
    ):
        with pytest.raises(Called):
            await ask()
    for look in (lambda: socket.create_connection(OUTSIDE), lambda: socket.getaddrinfo(*OUTSIDE)):
        with pytest.raises(Called):
            look()


class NobodyToAsk:
    """Knows nothing of any image, and must not be asked."""

    async def facts(self, image: ImageReference, needs: object) -> ImageFacts:
        raise Called(str(image))


def checked(**require: Any) -> dict[str, Any]:
    content = {"exists": True, "maxAge": "90d", "platforms": ["linux/amd64"]}
    images = [{"registry": REGISTRY, "repository": "team/**"}]
    spec = policy(rules=[rule("ours", "Allow", *images)], require=require or content)
    return document(CLUSTER_POLICY, spec)


@pytest.mark.parametrize("image", ["docker.io/evil/app", "nginx", f"{REGISTRY}/other/app", "not an image"])
async def test_what_a_rule_denies_is_not_looked_up(isolated: None, keep: Keep, image: str) -> None:
    """policy-controller issue 1863: a static answer waited for Docker Hub."""
    answer = await keep(checked(), images=NobodyToAsk()).validate(pod(image))
    assert not answer.allowed
    assert "log of the registry" not in answer.message


async def test_what_a_rule_allows_is_not_looked_up(isolated: None, keep: Keep) -> None:
    image = f"{REGISTRY}/team/app@{platforms.image().digest}"
    keeper = keep(checked(digest=True, forbidPullPolicyNever=True), images=NobodyToAsk())
    assert (await keeper.validate(pod(image))).allowed
    assert (await keeper.mutate(pod(image))).patch == []


async def test_a_lookup_would_be_noticed(keep: Keep) -> None:
    answer = await keep(checked(), images=NobodyToAsk()).validate(pod(f"{REGISTRY}/team/app"))
    assert "log of the registry" in answer.message


async def test_what_is_here_is_known_without_a_call(isolated: None, keep: Keep) -> None:
    pinning = document(CLUSTER_POLICY, {"default": "Allow", "mutate": {"pinDigests": True}}, "pinning")
    keeper = keep(checked(), pinning)
    manifest = platforms.image()
    await platforms.store(keeper.metadata, "team/app", manifest, "v1")
    item = owned(pod(f"{REGISTRY}/team/app:v1"), uid("one"))
    assert (await keeper.validate(item)).allowed
    changed = await keeper.mutated(item)
    assert changed["spec"]["containers"][0]["image"] == f"{REGISTRY}/team/app:v1@{manifest.digest}"
    assert "is not in this registry" in (await keeper.validate(pod(f"{REGISTRY}/team/app:v2"))).message


async def test_images_of_others_are_not_fetched(isolated: None, keep: Keep) -> None:
    everything = document(CLUSTER_POLICY, {"default": "Allow", "require": {"exists": True}})
    answer = await keep(everything).validate(pod("docker.io/library/nginx:1.27"))
    assert "is not in this registry" in answer.message
