from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.verdicts import OTHER, SHA256, SHA512, TEXTS, allow, deny, pattern
from trow.policy.configured import patterns_of, policy_of
from trow.policy.images import HUB_NAMES, parse
from trow.policy.rules import CONFIGURED, Effect, Mode, Namespaces, Policy

if TYPE_CHECKING:
    from trow.policy.patterns import ImagePattern

# What an entry covers


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        # a registry
        ("quay.io", [pattern("quay.io")]),
        ("quay.io/", [pattern("quay.io")]),
        ("QUAY.io:443", [pattern("quay.io")]),
        ("quay.io:5000", [pattern("quay.io:5000")]),
        ("localhost", [pattern("localhost")]),
        ("localhost:5000", [pattern("localhost:5000")]),
        ("registry:5000/", [pattern("registry:5000")]),
        ("[::1]:5000", [pattern("[::1]:5000")]),
        ("127.0.0.1", [pattern("127.0.0.1")]),
        *[(name, [pattern("docker.io")]) for name in sorted(HUB_NAMES)],
        # the repository of that name, and all below it
        ("quay.io/acme", [pattern("quay.io", "acme"), pattern("quay.io", "acme/**")]),
        ("quay.io/acme/app", [pattern("quay.io", "acme/app"), pattern("quay.io", "acme/app/**")]),
        # only what is below it
        ("quay.io/acme/", [pattern("quay.io", "acme/**")]),
        ("docker.io/library/", [pattern("docker.io", "library/**")]),
        # of Docker Hub: the official image, and what the organisation of the same name has
        ("nginx", [pattern("docker.io", "library/nginx"), pattern("docker.io", "nginx/**")]),
        ("docker.io/nginx", [pattern("docker.io", "library/nginx"), pattern("docker.io", "nginx/**")]),
        ("acme/app", [pattern("docker.io", "acme/app"), pattern("docker.io", "acme/app/**")]),
        ("acme/", [pattern("docker.io", "acme/**")]),
        # one version
        ("quay.io/acme:1", [pattern("quay.io", "acme", "1")]),
        ("docker.io/nginx:1", [pattern("docker.io", "library/nginx", "1")]),
        ("acme/app:1", [pattern("docker.io", "acme/app", "1")]),
        (f"quay.io/acme@{SHA256}", [pattern("quay.io", "acme", digest=SHA256)]),
        (f"quay.io/acme@{SHA512}", [pattern("quay.io", "acme", digest=SHA512)]),
        (f"quay.io/acme:1@{SHA256}", [pattern("quay.io", "acme", digest=SHA256)]),
        (f"nginx@{SHA256}", [pattern("docker.io", "library/nginx", digest=SHA256)]),
        (f"nginx:1@{SHA256}", [pattern("docker.io", "library/nginx", digest=SHA256)]),
        (f"my.app@{SHA256}", [pattern("docker.io", "library/my.app", digest=SHA256)]),
    ],
)
def test_what_an_entry_says(entry: str, expected: list[ImagePattern]) -> None:
    assert list(patterns_of(entry)) == expected


@pytest.mark.parametrize(
    ("entry", "text", "expected"),
    [
        ("docker.io/acme", "acme/app", True),
        ("docker.io/acme", "acme-evil/app", False),
        ("docker.io/acme", "acmeevil", False),
        ("docker.io/acme/", "acme/app", True),
        ("docker.io/acme/", "docker.io/library/acme", False),
        ("docker.io/acme/app", "acme/app:1", True),
        ("docker.io/acme/app", "acme/app2", False),
        ("docker.io/acme/app", "acme/app/debug", True),
        ("docker.io", "docker.io.evil.com/x", False),
        ("quay.io", "quay.io:5000/x", False),
        ("nginx", "nginx", True),
        ("nginx", "registry-1.docker.io/nginx:1", True),
        ("nginx", "nginx/ingress", True),
        ("nginx", "quay.io/nginx", False),
        ("library/nginx", "nginx", True),
        ("quay.io/x:1", "quay.io/x:1", True),
        ("quay.io/x:1", "quay.io/x:1.2", False),
        ("quay.io/x:1", "quay.io/x/y:1", False),
        ("quay.io/x:1", f"quay.io/x:1@{SHA256}", False),
        (f"quay.io/x@{SHA256}", f"quay.io/x:9@{SHA256}", True),
        (f"quay.io/x:9@{SHA256}", f"quay.io/x@{SHA256}", True),
        (f"quay.io/x@{SHA256}", f"quay.io/x@{OTHER}", False),
    ],
)
def test_which_images_an_entry_covers(entry: str, text: str, expected: bool) -> None:  # noqa: FBT001
    assert any(each.covers(parse(text), ignore_tag=True) for each in patterns_of(entry)) is expected


@given(TEXTS)
def test_an_image_is_covered_by_each_of_its_beginnings(text: str) -> None:
    image = parse(text)
    parts = image.repository.split("/")
    entries = [f"{image.registry}/{'/'.join(parts[:end])}" for end in range(1, len(parts) + 1)]
    assert any(each.covers(image, ignore_tag=True) for each in patterns_of(image.registry))
    for entry in entries:
        assert any(each.covers(image, ignore_tag=True) for each in patterns_of(entry))
        assert not any(each.covers(image, ignore_tag=True) for each in patterns_of(f"{entry}-evil"))


# What is refused


@pytest.mark.parametrize(
    "entry",
    [
        *("", "/", "//", "/nginx", " ", "quay.io ", "quay.io//acme", "quay.io/acme//", "quay.io/Acme", "Acme"),
        *("https://quay.io", "user@quay.io", "quay.io.", "quay.io./acme", "quay.io:0", "quay.io:", "*", "*.quay.io"),
        *("quay.io/*", "quay.io/acme*", "quay.io/ac me", "d\u043ecker.io", "doc\u212aer.io/acme", "quay.io/\u0430cme"),
        *("quay.io/acme:", "quay.io/acme:*", "quay.io/acme:v*", "quay.io/acme:1:2", "quay.io/acme/:1", "quay.io/:1"),
        *("quay.io/acme@", "quay.io/acme@sha256:1", f"quay.io/acme:@{SHA256}", f"quay.io/acme:!@{SHA256}"),
        *(f"quay.io/@{SHA256}", f"@{SHA256}", f"quay.io/acme/@{SHA256}", f"nginx@{SHA256[:-1]}"),
        *("127.1", "[::ffff:7f00:1]:5000", "quay.io/" + "a" * 256, "quay.io/" + "a" * 253),
    ],
)
def test_entries_that_are_refused(entry: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not a prefix of images .*write a registry, or a registry and the beginning"
    ):
        patterns_of(entry)


@pytest.mark.parametrize("entry", ["redis:7", "redis:7.2", "redis:latest", "registry:5000"])
def test_an_entry_that_may_be_a_port_or_a_tag_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=f"write {entry}/ or docker.io/{entry}"):
        patterns_of(entry)


@given(st.text(max_size=30))
def test_an_entry_is_read_or_refused(entry: str) -> None:
    try:
        read = patterns_of(entry)
    except ValueError as error:
        assert "; write a registry, or " in str(error)  # noqa: PT017 - what is read may be anything
    else:
        assert read


# The policy


def test_the_policy_of_the_configuration() -> None:
    policy = policy_of(Effect.DENY, ["quay.io", "docker.io/acme/"], ["quay.io/evil"])
    assert policy.rules == (
        deny("deny quay.io/evil", pattern("quay.io", "evil"), pattern("quay.io", "evil/**")),
        allow("allow quay.io", pattern("quay.io")),
        allow("allow docker.io/acme/", pattern("docker.io", "acme/**")),
    )
    assert policy == Policy(CONFIGURED, CONFIGURED, Effect.DENY, policy.rules)
    assert (policy.title, policy.mode, policy.namespaces) == ("image_validation", Mode.ENFORCE, Namespaces())


def test_the_mode_of_the_configuration() -> None:
    assert policy_of(Effect.ALLOW, [], [], Mode.AUDIT).mode is Mode.AUDIT


@pytest.mark.parametrize(
    ("default", "allowed", "denied", "text", "expected"),
    [
        (Effect.DENY, [], [], "nginx", Effect.DENY),
        (Effect.ALLOW, [], [], "nginx", Effect.ALLOW),
        (Effect.DENY, ["docker.io"], [], "nginx", Effect.ALLOW),
        (Effect.ALLOW, [], ["docker.io"], "nginx", Effect.DENY),
        (Effect.DENY, ["docker.io"], ["docker.io/library/nginx"], "nginx", Effect.DENY),
        # deny wins, though the allow is longer
        (Effect.DENY, ["docker.io/library/nginx"], ["docker.io"], "nginx", Effect.DENY),
        (Effect.DENY, ["docker.io"], ["docker.io"], "nginx", Effect.DENY),
        (Effect.ALLOW, [], ["docker.io/redis:7"], f"redis:7@{SHA256}", Effect.DENY),
        (Effect.DENY, ["docker.io/redis:7"], [], f"redis:7@{SHA256}", Effect.DENY),
    ],
)
def test_what_the_configuration_says(
    default: Effect, allowed: list[str], denied: list[str], text: str, expected: Effect
) -> None:
    assert policy_of(default, allowed, denied).evaluate(parse(text))[0] is expected


def test_an_entry_that_cannot_be_read_is_an_error_of_the_whole() -> None:
    with pytest.raises(ValueError, match=r"'quay\.io\.' is not a prefix of images"):
        policy_of(Effect.ALLOW, ["quay.io"], ["quay.io."])
