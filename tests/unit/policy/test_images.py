from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from support.verdicts import SHA256, SHA512
from trow.policy import images
from trow.policy.images import InvalidImage, parse, registry_of, split_host, split_port

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

    from trow.policy.images import ImageReference

HEX: Final = "a" * 64
HUB: Final = [
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "registry.docker.io",
    "registry.hub.docker.com",
    "registry.ipv6.docker.com",
]
FIX: Final = re.compile(r"; (write|use|expected) ")  # what is wrong, then what to do


# What is read


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", None),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", None),
        ("library/nginx", "docker.io", "library/nginx", "latest", None),
        ("library", "docker.io", "library/library", "latest", None),
        ("foo/bar", "docker.io", "foo/bar", "latest", None),
        ("a/b/c", "docker.io", "a/b/c", "latest", None),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("docker.io/foo/bar", "docker.io", "foo/bar", "latest", None),
        # a host has a dot, a colon or a capital letter, or is localhost; and a slash follows it
        ("quay.io/nginx", "quay.io", "nginx", "latest", None),
        ("quay.io", "docker.io", "library/quay.io", "latest", None),
        ("quay.io:443", "docker.io", "library/quay.io", "443", None),
        ("localhost", "docker.io", "library/localhost", "latest", None),
        ("localhost/x", "localhost", "x", "latest", None),
        ("LOCALHOST/x", "localhost", "x", "latest", None),
        ("localhosts/x", "docker.io", "localhosts/x", "latest", None),
        ("Foo/bar", "foo", "bar", "latest", None),
        ("foo:80/bar", "foo", "bar", "latest", None),
        ("foo:8080/bar", "foo:8080", "bar", "latest", None),
        ("foo:80", "docker.io", "library/foo", "80", None),
        ("a/quay.io/b", "docker.io", "a/quay.io/b", "latest", None),
        # ports
        ("localhost:5000/x", "localhost:5000", "x", "latest", None),
        ("127.0.0.1:5000/x", "127.0.0.1:5000", "x", "latest", None),
        ("quay.io:443/x", "quay.io", "x", "latest", None),
        ("quay.io:80/x", "quay.io", "x", "latest", None),
        ("quay.io:1/x", "quay.io:1", "x", "latest", None),
        ("quay.io:65535/x", "quay.io:65535", "x", "latest", None),
        ("quay.io:5000/x:5000", "quay.io:5000", "x", "5000", None),
        # addresses
        ("[::1]/x", "[::1]", "x", "latest", None),
        ("[::1]:5000/x:1", "[::1]:5000", "x", "1", None),
        ("[::1]:443/x", "[::1]", "x", "latest", None),
        ("[2001:DB8:0:0:0:0:0:1]/x", "[2001:db8::1]", "x", "latest", None),
        # capital letters of a host mean nothing, those of a tag do
        ("QUAY.io/x:V1", "quay.io", "x", "V1", None),
        ("xn--n3h.example/x", "xn--n3h.example", "x", "latest", None),
        ("a-b--c.example/x", "a-b--c.example", "x", "latest", None),
        # the digest alone decides; the tag beside it is kept for people
        (f"nginx@{SHA256}", "docker.io", "library/nginx", None, SHA256),
        (f"nginx@{SHA512}", "docker.io", "library/nginx", None, SHA512),
        (f"nginx:1.27@{SHA256}", "docker.io", "library/nginx", "1.27", SHA256),
        (f"foo:8080/bar@{SHA256}", "foo:8080", "bar", None, SHA256),
        # names that look like something else
        (f"{HEX}:1", "docker.io", f"library/{HEX}", "1", None),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", "latest", None),
        ("sha256", "docker.io", "library/sha256", "latest", None),
        (f"docker.io/sha256:{HEX}", "docker.io", "library/sha256", HEX, None),
        ("x:_", "docker.io", "library/x", "_", None),
        ("x:sha256-a.sig", "docker.io", "library/x", "sha256-a.sig", None),
        ("x/a.b_c__d--e", "docker.io", "x/a.b_c__d--e", "latest", None),
        ("v1.x/a", "v1.x", "a", "latest", None),
        # at their longest
        ("x:" + "t" * 128, "docker.io", "library/x", "t" * 128, None),
        ("q.io/" + "a" * 250, "q.io", "a" * 250, "latest", None),
        ("a" * 237, "docker.io", "library/" + "a" * 237, "latest", None),
    ],
)
def test_what_a_name_says(text: str, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
    image = parse(text)
    assert (image.registry, image.repository, image.tag, image.digest) == (registry, repository, tag, digest)


def test_the_names_of_docker_hub() -> None:
    assert sorted(images.HUB_NAMES) == HUB


@pytest.mark.parametrize(
    "spellings",
    [
        ["nginx", "library/nginx", "docker.io/nginx", "docker.io/library/nginx", "nginx:latest", "DOCKER.IO/nginx"],
        [f"{name}/library/nginx:1" for name in HUB],
        [f"{name}/nginx:1" for name in HUB],
        [f"{name}{port}/acme/app" for name in HUB for port in ("", ":443", ":80")],
        ["quay.io/x", "QUAY.IO/x", "quay.io:443/x", "quay.io:80/x", "quay.io/x:latest"],
        ["[::1]:5000/x", "[0:0:0:0:0:0:0:1]:5000/x", "[0000::0001]:5000/x"],
        ["Foo/x", "foo:443/x", "FOO:80/x"],
    ],
)
def test_spellings_of_the_same_image(spellings: list[str]) -> None:
    assert len({parse(text) for text in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("foo/bar", "Foo/bar"),
        ("foo/bar", "foo:80/bar"),
        ("localhost:5000/x", "127.0.0.1:5000/x"),
        ("localhost:5000/x", "[::1]:5000/x"),
        ("quay.io/x", "quay.io:5000/x"),
        ("quay.io/nginx", "quay.io/library/nginx"),
        ("docker.io/x", "docker.com/x"),
        ("docker.io/x", "hub.docker.com/x"),
        ("docker.io:5000/x", "docker.io/x"),
        ("x:v1", "x:V1"),
        ("x:1", f"x:1@{SHA256}"),
        (f"x@{SHA256}", f"x:latest@{SHA256}"),
        (f"x@{SHA256}", f"x@{SHA512}"),
    ],
)
def test_spellings_of_different_images(one: str, other: str) -> None:
    assert parse(one) != parse(other)


# What is refused


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no image is named"),
        ("a" * 1025, "at most 1024 characters"),
        # white space, and what terminals and people do not see
        (" nginx", "characters that no image's name may have"),
        ("nginx ", "characters that no image's name may have"),
        ("ngi nx", "characters that no image's name may have"),
        ("nginx\n", "characters that no image's name may have"),
        ("nginx\r\n", "characters that no image's name may have"),
        ("nginx\t", "characters that no image's name may have"),
        ("nginx\0", "characters that no image's name may have"),
        ("nginx\x7f", "characters that no image's name may have"),
        ("nginx\u200b", r"'nginx\\u200b' has characters"),
        ("nginx\u2028", "characters that no image's name may have"),
        ("\ufeffnginx", "characters that no image's name may have"),
        ("\u202enginx", "characters that no image's name may have"),
        ("\ud800", "characters that no image's name may have"),
        # look-alikes: Cyrillic, full width, a long s, a Kelvin sign, a full stop of another script
        ("d\u043ecker.io/x", r"'d\\u043ecker.io/x' has characters"),
        ("\uff4eginx", "characters that no image's name may have"),
        ("ngin\u017f", "characters that no image's name may have"),
        ("doc\u212aer.io/x", "characters that no image's name may have"),
        ("quay\u3002io/x", "characters that no image's name may have"),
        ("nginx:v\uff11", "characters that no image's name may have"),
        ("x/\u0130", "characters that no image's name may have"),
        # identifiers, by which a node runs whatever it has
        (HEX, "is an identifier"),
        (f"sha256:{HEX}", "is an identifier"),
        ("sha256:abcdef", "is an identifier"),
        (f"sha512:{HEX}{HEX}", "is an identifier"),
        ("sha384:1", "is an identifier"),
        (f"sha256:1@{SHA256}", "is an identifier"),
        # hosts
        ("docker.io./nginx", "is not the host of a registry"),
        (".docker.io/nginx", "is not the host of a registry"),
        ("docker..io/nginx", "is not the host of a registry"),
        ("-docker.io/nginx", "is not the host of a registry"),
        ("docker-.io/nginx", "is not the host of a registry"),
        ("docker_hub.io/nginx", "is not the host of a registry"),
        ("docker%2eio.x/nginx", "is not the host of a registry"),
        ("user:1@docker.io/nginx", "not a digest"),
        ("user@docker.io/nginx", "not a digest"),
        ("http://docker.io/nginx", "has no port"),
        ("docker://nginx", "has no port"),
        ("//docker.io/nginx", "the repository name is invalid"),
        ("/nginx", "the repository name is invalid"),
        ("docker.io/", "the repository name is invalid"),
        ("docker.io//nginx", "the repository name is invalid"),
        ("docker.io\\nginx", "the repository name is invalid"),
        ("a.b.c/x".replace("a", "a" * 252), "is not the host of a registry"),
        # ports
        ("docker.io:/nginx", "has no port"),
        ("docker.io:0/nginx", "has no port"),
        ("docker.io:0443/nginx", "has no port"),
        ("docker.io:65536/nginx", "has no port"),
        ("docker.io:443443/nginx", "has no port"),
        ("docker.io:https/nginx", "has no port"),
        ("docker.io:+80/nginx", "has no port"),
        ("docker.io:80:80/nginx", "is not the host of a registry"),
        ("foo:latest/bar", "has no port"),
        # addresses that programs read differently
        ("127.1:5000/x", "is not the host of a registry"),
        ("2130706433:5000/x", "is not the host of a registry"),
        ("0x7f000001:5000/x", "is not the host of a registry"),
        ("0x7f.1/x", "is not the host of a registry"),
        ("0177.0.0.1/x", "is not the host of a registry"),
        ("127.0.0.01/x", "is not the host of a registry"),
        ("127.0.0.256/x", "is not the host of a registry"),
        ("1.2.3.4.5/x", "is not the host of a registry"),
        ("registry.1/x", "is not the host of a registry"),
        ("[::ffff:127.0.0.1]:5000/x", "is not the host of a registry"),
        ("[::ffff:7f00:1]:5000/x", "is not the host of a registry"),
        ("[fe80::1%25eth0]:5000/x", "is not the host of a registry"),
        ("[::1/x", "has no port|is not the host"),
        ("::1/x", "is not the host of a registry"),
        ("[::1]5000/x", "has no port|is not the host"),
        ("[:::]/x", "is not the host of a registry"),
        ("[12345::]/x", "is not the host of a registry"),
        ("[::g]:80/x", "is not the host of a registry"),
        ("[::1].docker.io/x", "has no port|is not the host"),
        # repositories
        ("NGINX", "the repository name is invalid"),
        ("docker.io/Nginx", "the repository name is invalid"),
        ("foo/Bar", "the repository name is invalid"),
        ("foo//bar", "the repository name is invalid"),
        ("foo/", "the repository name is invalid"),
        ("foo/../bar", "is not the host|the repository name is invalid"),
        ("a/../b", "the repository name is invalid"),
        ("./nginx", "is not the host of a registry"),
        ("-nginx", "the repository name is invalid"),
        ("nginx-", "the repository name is invalid"),
        ("_nginx", "the repository name is invalid"),
        ("ngi___nx", "the repository name is invalid"),
        ("ngi._nx", "the repository name is invalid"),
        ("x/a..b", "the repository name is invalid"),
        ("x/%6eginx", "the repository name is invalid"),
        ("x/a?b", "the repository name is invalid"),
        ("x/a#b", "the repository name is invalid"),
        ("x/a*", "the repository name is invalid"),
        ("x/a+b", "the repository name is invalid"),
        ("q.io/" + "a" * 251, "at most 255 characters"),
        ("q.io/" + "a" * 256, "the repository name is invalid"),
        ("a" * 238, "at most 255 characters"),
        ("a" * 248, "the repository name is invalid"),
        # tags
        ("nginx:", "the tag is invalid"),
        ("nginx:.1", "the tag is invalid"),
        ("nginx:-1", "the tag is invalid"),
        ("nginx:a/b", "has no port"),
        ("q.io/nginx:a/b", "the tag is invalid"),
        ("nginx:1:2", "the tag is invalid"),
        ("nginx:" + "t" * 129, "the tag is invalid"),
        ("nginx:1+2", "the tag is invalid"),
        # digests
        ("nginx@", "not a digest"),
        ("nginx:1@", "not a digest"),
        (f"nginx:@{SHA256}", "the tag is invalid"),
        (f"@{SHA256}", "the repository name is invalid"),
        (SHA256 + f"@{SHA256}", "is an identifier"),
        (f"nginx@{SHA256}a", "not a digest"),
        (f"nginx@{SHA256[:-1]}", "not a digest"),
        ("nginx@" + SHA256.replace("a" * 64, "A" * 64), "not a digest"),
        (f"nginx@SHA256:{HEX}", "not a digest"),
        (f"nginx@{HEX}", "not a digest"),
        (f"nginx@{SHA256}:1", "not a digest"),
        (f"nginx@{SHA256}@{SHA256}", "not a digest"),
        ("nginx@sha384:" + "a" * 96, "the digest algorithm is not supported"),
        ("nginx@md5:" + "a" * 32, "the digest algorithm is not supported"),
    ],
)
def test_names_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidImage, match=complaint) as refused:
        parse(text)
    assert FIX.search(str(refused.value))


def test_a_refusal_is_no_longer_than_what_was_refused() -> None:
    with pytest.raises(InvalidImage) as refused:
        parse("\u0441" * 1_000_000)
    assert len(str(refused.value)) < 100


# Registries


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("quay.io", "quay.io"),
        ("QUAY.IO:5000", "quay.io:5000"),
        ("index.docker.io:443", "docker.io"),
        ("docker.io:5000", "docker.io:5000"),
        ("localhost", "localhost"),
        ("registry", "registry"),
        ("[0::1]:80", "[::1]"),
        ("10.0.0.1:443", "10.0.0.1"),
        ("a" * 253, "a" * 253),
    ],
)
def test_the_one_way_to_write_a_registry(host: str, expected: str) -> None:
    assert registry_of(host) == expected
    assert registry_of(expected) == expected


@pytest.mark.parametrize(
    "host",
    ["", ":", ":80", "quay.io/", "quay.io/x", "*.io", "a b", "doc\u212aer.io", "quay.io\n", "[]", "[", "]", "a" * 254],
)
def test_what_is_no_registry(host: str) -> None:
    with pytest.raises(InvalidImage, match=r"is not the host of a registry|has no port") as refused:
        registry_of(host)
    assert FIX.search(str(refused.value))


@pytest.mark.parametrize(
    ("name", "host", "rest"),
    [
        ("nginx", "", "nginx"),
        ("quay.io", "", "quay.io"),
        ("a/b", "", "a/b"),
        ("a.b/c/d:1", "a.b", "c/d:1"),
        ("a:1/c", "a:1", "c"),
        ("A/c", "A", "c"),
        ("localhost/c", "localhost", "c"),
        ("/c", "", "/c"),
        ("quay.io/", "quay.io", ""),
    ],
)
def test_where_a_host_ends(name: str, host: str, rest: str) -> None:
    assert split_host(name) == (host, rest)


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("a", "a", ""), ("a:1", "a", "1"), ("[::1]", "[::1]", ""), ("[::1]:1", "[::1]", "1"), ("a:", "a", "none")],
)
def test_where_a_port_begins(host: str, name: str, port: str) -> None:
    assert split_port(host) == (name, port)


@pytest.mark.parametrize(
    ("registry", "path", "expected"),
    [
        ("docker.io", "nginx", "library/nginx"),
        ("docker.io", "a/b", "a/b"),
        ("docker.io", "library", "library/library"),
        ("quay.io", "nginx", "nginx"),
        ("docker.io:5000", "nginx", "nginx"),
    ],
)
def test_where_docker_hub_adds_library(registry: str, path: str, expected: str) -> None:
    assert images.official(registry, path) == expected


# Written again


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("registry-1.docker.io:443/nginx:1", "docker.io/library/nginx:1"),
        ("QUAY.io:5000/x", "quay.io:5000/x:latest"),
        (f"x@{SHA256}", f"docker.io/library/x@{SHA256}"),
        (f"x:1@{SHA256}", f"docker.io/library/x:1@{SHA256}"),
        ("[0::1]:80/x", "[::1]/x:latest"),
        ("localhost/x", "localhost/x:latest"),
        # without a dot or a port it would be foo/bar of Docker Hub
        ("Foo/bar", "foo:443/bar:latest"),
        ("foo:80/bar", "foo:443/bar:latest"),
        ("foo:8080/bar", "foo:8080/bar:latest"),
    ],
)
def test_how_an_image_is_written(text: str, written: str) -> None:
    assert str(parse(text)) == written


# Anything at all

ATOMS: Final = st.sampled_from(
    [
        *"aA1.:/@-_[]%*\n \0\u043e\u212a",
        "docker.io",
        "localhost",
        "library",
        "sha256",
        "[::1]",
        "127.0.0.1",
        ":443",
        HEX,
    ]
)
HOSTILE: Final = st.one_of(st.text(), st.lists(ATOMS, max_size=12).map("".join))


@given(HOSTILE)
@example("\ud800")
@example("[::1]")
@example("[/x")
@example(f"Foo/x@{SHA256}")
def test_a_name_is_read_or_refused_with_a_reason(text: str) -> None:
    read = read_or_refused(text)
    if isinstance(read, str):
        assert FIX.search(read)
    else:
        assert parse(str(read)) == read
        assert str(parse(str(read))) == str(read)


def read_or_refused(text: str) -> ImageReference | str:
    """The image or the complaint; any other error is the test's."""
    try:
        return parse(text)
    except InvalidImage as error:
        return str(error)


@given(HOSTILE)
def test_what_is_a_registry_is_so_in_every_name(text: str) -> None:
    try:
        registry = registry_of(text)
    except InvalidImage:
        assume(split_host(f"{text}/x")[0] == text)  # else it is the beginning of a repository
        with pytest.raises(InvalidImage):
            parse(f"{text}/x/y")
    else:
        assert registry_of(registry) == registry
        assert registry.islower() or not registry.isalpha()


class Place(NamedTuple):
    """Where containerd pulls from: the host is asked for the repository and the version."""

    host: str
    repository: str
    version: str


@st.composite
def named(draw: DrawFn) -> tuple[str, Place]:
    """A name, and the place it stands for: what is documented as the same is the same place, and nothing else."""
    host = draw(st.sampled_from(["", *HUB, "quay.io", "localhost", "[::1]", "quay.io:5000", "library:443"]))
    repository = draw(st.sampled_from(["nginx", "library/nginx", "library", "quay.io", "a/nginx", "nginx/library"]))
    tag = draw(st.sampled_from(["", ":latest", ":LATEST", ":443"]))
    digest = draw(st.sampled_from(["", f"@{SHA256}"]))
    port = draw(st.sampled_from(["", ":443", ":80"])) if host and not host[-1].isdigit() else ""
    shown = host.upper() if draw(st.booleans()) else host
    hub = host in ("", *HUB)
    assume(host or not repository.startswith("quay.io/"))
    at = "docker.io" if hub else host.removesuffix(":443")
    there = f"library/{repository}" if hub and "/" not in repository else repository
    text = f"{shown}{port}/{repository}{tag}{digest}" if host else f"{repository}{tag}{digest}"
    return text, Place(at, there, f"{tag}{digest}" or ":latest")


@given(named(), named())
def test_names_are_the_same_if_they_are_pulled_from_the_same_place(
    one: tuple[str, Place], two: tuple[str, Place]
) -> None:
    assert (parse(one[0]) == parse(two[0])) == (one[1] == two[1])


def test_a_name_that_was_refused_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidImage):
            parse("docker.io./nginx")
