from __future__ import annotations

from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.verdicts import GLOBS, HOST_GLOBS, HOSTS, IMAGES, OTHER, PATTERNS, SHA256, SHA512, TEXTS, pattern
from trow.lib.globs import RepositoryGlob
from trow.policy.images import HUB_NAMES, ImageReference, parse, split_port
from trow.policy.patterns import ImagePattern, covers_registry

# Registries


@pytest.mark.parametrize(
    ("glob", "registry", "expected"),
    [
        ("quay.io", "quay.io", True),
        ("quay.io", "quay.io:5000", False),
        ("quay.io", "quay.io.evil.com", False),
        ("quay.io", "evil-quay.io", False),
        ("*", "quay.io", True),
        ("*", "quay.io:5000", True),
        ("*", "localhost", True),
        ("*", "[::1]:5000", True),
        # a star stays within its label
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "a.example.com.evil.com", False),
        ("*.example.com", "aexample.com", False),
        ("*.*.example.com", "a.b.example.com", True),
        ("eu-*.example.com", "eu-west.example.com", True),
        ("eu-*.example.com", "us-west.example.com", False),
        ("registry.*", "registry.io", True),
        ("registry.*", "registry.io.evil", False),
        ("10.0.*.*", "10.0.1.2", True),
        ("10.0.*.*", "10.1.1.2", False),
        ("10.*.0.1", "10.9.0.1", True),
        # and out of the port
        ("*.example.com", "a.example.com:5000", False),
        ("registry.*", "registry.io:5000", False),
        ("*.example.com:5000", "a.example.com:5000", True),
        ("*.example.com:5000", "a.example.com", False),
        ("*.example.com:5000", "a.example.com:5001", False),
        ("*.example.com:*", "a.example.com:5000", True),
        ("*.example.com:*", "a.example.com", True),
        ("example.com:*", "example.com", True),
        ("example.com:*", "example.com:1", True),
        ("example.com:*", "example.com.evil", False),
        ("*:5000", "localhost:5000", True),
        ("*:5000", "quay.io:5000", False),
        ("*:*", "localhost", True),
        # an address of IPv6 has no labels
        ("*:5000", "[::1]:5000", False),
        ("*:*", "[::1]", False),
    ],
)
def test_which_registries_a_glob_covers(glob: str, registry: str, expected: bool) -> None:  # noqa: FBT001
    assert covers_registry(glob, registry) is expected
    assert covers_registry(pattern(glob).registry, registry) is expected


@given(HOST_GLOBS, HOSTS)
def test_a_star_in_a_host_leaves_dots_and_ports_alone(glob: str, registry: str) -> None:
    assume(glob != "*")
    if covers_registry(glob, registry):
        (wanted, port), (given_, its_port) = split_port(glob), split_port(registry)
        assert wanted.count(".") == given_.count(".")
        assert port in ("*", its_port)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("QUAY.io:443", "quay.io"),
        ("registry-1.docker.io", "docker.io"),
        ("*.Example.COM:80", "*.example.com"),
        ("*.example.com:443", "*.example.com"),
        ("*.example.com:8443", "*.example.com:8443"),
        ("docker.*", "docker.*"),
        ("*.*", "*.*"),
        ("*", "*"),
    ],
)
def test_a_registry_has_one_form(written: str, read: str) -> None:
    assert pattern(written).registry == read


# Versions, and what a tag is worth beside a digest


@pytest.mark.parametrize(
    ("tag", "digest", "text", "allows", "denies"),
    [
        ("*", "", "q.io/x", True, True),
        ("*", "", f"q.io/x@{SHA256}", True, True),
        ("*", "", f"q.io/x:1@{SHA256}", True, True),
        ("1", "", "q.io/x:1", True, True),
        ("1", "", "q.io/x:10", False, False),
        ("1", "", "q.io/x:v1", False, False),
        ("1*", "", "q.io/x:10", True, True),
        ("latest", "", "q.io/x", True, True),
        ("v*", "", "q.io/x:v1.2", True, True),
        ("v*", "", "q.io/x:V1.2", False, False),
        ("v*-rc", "", "q.io/x:v1-rc", True, True),
        # a tag beside a digest may lie: it permits nothing and forbids all the same
        ("v*", "", f"q.io/x:v1@{SHA256}", False, True),
        ("latest", "", f"q.io/x:latest@{SHA256}", False, True),
        ("v*", "", f"q.io/x:1@{SHA256}", False, False),
        ("v*", "", f"q.io/x@{SHA256}", False, False),
        ("latest", "", f"q.io/x@{SHA256}", False, False),
        # a digest is this content, whatever tag is beside it
        ("*", SHA256, f"q.io/x@{SHA256}", True, True),
        ("*", SHA256, f"q.io/x:1@{SHA256}", True, True),
        ("*", SHA256, f"q.io/x@{OTHER}", False, False),
        ("*", SHA256, f"q.io/x@{SHA512}", False, False),
        ("*", SHA256, "q.io/x:1", False, False),
        ("*", SHA512, f"q.io/x@{SHA512}", True, True),
    ],
)
def test_which_versions_a_pattern_covers(tag: str, digest: str, text: str, allows: bool, denies: bool) -> None:  # noqa: FBT001
    wanted = pattern("q.io", "x", tag, digest)
    assert wanted.covers(parse(text), ignore_tag=True) is allows
    assert wanted.covers(parse(text), ignore_tag=False) is denies


@given(PATTERNS, IMAGES)
def test_what_would_permit_an_image_would_forbid_it_too(wanted: ImagePattern, image: ImageReference) -> None:
    assert wanted.covers(image, ignore_tag=False) or not wanted.covers(image, ignore_tag=True)


# All parts together


@pytest.mark.parametrize(
    ("registry", "repository", "text", "expected"),
    [
        ("quay.io", "**", "quay.io/a/b", True),
        ("quay.io", "**", "a/b", False),
        ("quay.io", "team-a/**", "quay.io/team-a/x", True),
        ("quay.io", "team-a/**", "quay.io/team-abc/x", False),
        ("quay.io", "team-a/**", "quay.io/team-a", False),
        ("quay.io", "team-a/*", "quay.io/team-a/x/y", False),
        ("*", "team-a/*", "localhost:5000/team-a/x", True),
        # Docker Hub's `library/` is written or not, in rules as in names
        ("docker.io", "nginx", "nginx", True),
        ("docker.io", "nginx", "docker.io/library/nginx", True),
        ("docker.io", "nginx", "nginx/nginx", False),
        ("docker.io", "library/nginx", "nginx", True),
        ("index.docker.io", "nginx", "registry-1.docker.io/nginx", True),
        ("docker.io", "ng*", "nginx", True),
        ("docker.io", "ng*", "ng/inx", False),
        ("docker.io", "*", "nginx", True),
        ("docker.io", "*", "acme/nginx", False),
        ("docker.io", "**", "acme/nginx", True),
        ("docker.io", "**/nginx", "acme/nginx", True),
        ("docker.io", "**/nginx", "nginx", True),
        ("docker.*", "library/nginx", "nginx", True),
        ("quay.io", "nginx", "quay.io/library/nginx", False),
    ],
)
def test_which_names_a_pattern_covers(registry: str, repository: str, text: str, expected: bool) -> None:  # noqa: FBT001
    assert pattern(registry, repository).covers(parse(text), ignore_tag=True) is expected


@given(TEXTS)
def test_a_name_written_as_a_pattern_covers_the_name(text: str) -> None:
    image = parse(text)
    version = {"digest": image.digest} if image.digest else {"tag": str(image.tag)}
    wanted = pattern(image.registry, image.repository, **version)
    assert wanted.covers(image, ignore_tag=True)


def test_a_pattern_of_a_registry_alone_is_all_it_has() -> None:
    assert ImagePattern("quay.io") == pattern("quay.io")
    assert pattern("quay.io") == ImagePattern("quay.io", RepositoryGlob("**"), "*", None)


@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (pattern("quay.io"), "quay.io/**"),
        (pattern("*", "a/*", "v*"), "*/a/*:v*"),
        (pattern("quay.io", "a", digest=SHA256), f"quay.io/a@{SHA256}"),
        (pattern("docker.io", "nginx", "1"), "docker.io/library/nginx:1"),
    ],
)
def test_how_a_pattern_is_shown(wanted: ImagePattern, written: str) -> None:
    assert str(wanted) == written


# What is refused: patterns that nothing could match, and those that would match something else

HOW_HOST: Final = r"write HOST|write registry: |write a host|write docker\.io"
HOW_TAG: Final = "write a tag, with "
HOW_REPOSITORY: Final = r"write lower-case|stands for whole components|use lower-case letters"
HOW_DIGEST: Final = r"write sha256:|use one of sha256"


@pytest.mark.parametrize(
    "registry",
    [
        "",
        " ",
        "quay.io ",
        "quay.io/",
        "quay.io/a",
        "https://quay.io",
        "user@quay.io",
        "quay.io.",
        "quay..io",
        "quay_.io",
        "-quay.io",
        "quay.io:0",
        "quay.io:65536",
        "quay.io:",
        "doc\u212aer.io",
        "d\u043ecker.io",
        "[::ffff:1.2.3.4]",
        "127.1",
        # globs
        "**",
        "**.example.com",
        "*.**",
        "*..com",
        "*.",
        ".*",
        "*.example.com.",
        "*-.example.com",
        "-*.example.com",
        "*.example.com:0",
        "*.example.com:99999",
        "*.example.com:50*",
        "*.example.com:**",
        "*.example.com:80:80",
        "*.example.com/a",
        "*.example_.com",
        "*.example.com\n",
        "*.\u212aube.io",
        "[*]:5000",
        "[::*]",
        "*" + "a" * 254,
        # `*` alone is every registry; these would be every one with a port of its own as well
        "*:443",
        "*:80",
        # Docker Hub is docker.io here, so that these would never match
        "*.docker.io",
        "*.docker.io:443",
        "*.docker.io:*",
        "registry-*.docker.io",
        "registry.*.docker.com",
        "index.docker.*",
        "*.*.io",
    ],
)
def test_registries_that_are_refused(registry: str) -> None:
    with pytest.raises(ValueError, match=HOW_HOST):
        pattern(registry)


def test_no_glob_over_other_names_of_docker_hub_is_read() -> None:
    for name in HUB_NAMES - {"docker.io"}:
        labels = name.split(".")
        for place in range(len(labels)):
            glob = ".".join([*labels[:place], "*", *labels[place + 1 :]])
            with pytest.raises(ValueError, match=r"write docker\.io"):
                pattern(glob)


@pytest.mark.parametrize(
    "repository",
    [
        *("", "/", "a/", "/a", "a//b", "A", "a b", "a:1", "a/***", "a**", "a?", "é", "a" * 256),
        # no name is like these
        *("a..b", "-a", "a-", "_*", "*-", "a___b/*", "a/./b", "a/*/..", "a._*"),
    ],
)
def test_repositories_that_are_refused(repository: str) -> None:
    with pytest.raises(ValueError, match=HOW_REPOSITORY):
        pattern("quay.io", repository)


@given(GLOBS)
def test_globs_of_repositories_that_some_name_is_like_are_read(glob: str) -> None:
    like = glob.replace("**", "x").replace("*", "x").replace("$namespace", "team-a")
    assert pattern("quay.io", glob).covers(parse(f"quay.io/{like}"), ignore_tag=True, namespace="team-a")


@pytest.mark.parametrize("tag", ["", ".1", "-1", "a b", "a/b", "a:b", "é", "1\n", "v**", "**", "?", "t" * 129])
def test_tags_that_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=HOW_TAG):
        pattern("quay.io", "x", tag)


@pytest.mark.parametrize("digest", ["sha256:", "a" * 64, SHA256[:-1], SHA256.upper(), f"{SHA256} ", "md5:" + "a" * 32])
def test_digests_that_are_refused(digest: str) -> None:
    with pytest.raises(ValueError, match=HOW_DIGEST):
        pattern("quay.io", "x", digest=digest)


def test_a_tag_beside_a_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="write either a tag or a digest"):
        pattern("quay.io", "x", "1", SHA256)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_nothing_but_a_value_error_is_raised(registry: str, repository: str, tag: str, digest: str) -> None:
    try:
        read = pattern(registry, repository, tag, digest)
    except ValueError:
        return
    assert pattern(read.registry, read.repository, read.tag, read.digest or "") == read
