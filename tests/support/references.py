"""Names of images, by who reads them: this project, Kubernetes, and a containerd that is some years old.

Where the others read a name, it is read here in the same way or refused. `STRICTER` and `STRICTER_NEWER` are the whole
list of what is refused here alone. The other way round there is nothing that Kubernetes refuses; the old containerd
refuses what is in `NEWER`, for the grammar of distribution/reference has grown since.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEX: Final = "0123456789abcdef" * 4
SHA256: Final = f"sha256:{HEX}"
SHA512: Final = f"sha512:{HEX}{HEX}"

# Read by all, in the same way.
SAME: Final = (
    *("nginx", "nginx:1.27", "nginx:latest", "library/nginx", "library", "library/library", "a", "0", "1.27"),
    *("docker.io/nginx", "docker.io/library/nginx", "docker.io/acme/app", "docker.io/a/b/c", "acme/app", "a/b/c/d/e"),
    *(
        "index.docker.io/nginx",
        "index.docker.io/library/nginx",
        "index.docker.io/acme/app:1",
        "index.docker.io:443/a/b",
    ),
    *("registry-1.docker.io/library/nginx", "registry-1.docker.io/nginx", "registry.hub.docker.com/acme/app"),
    *("docker.io:443/library/nginx", "docker.io:443/nginx", "docker.io:80/acme/app", "docker.io:5000/nginx"),
    *("DOCKER.io/library/nginx", "Docker.IO/nginx", "INDEX.docker.io/nginx", "Index.Docker.Io:443/acme/app"),
    *("quay.io/x", "quay.io/a/b", "QUAY.io/x", "quay.io:443/x", "quay.io:80/x", "quay.io:5000/x", "quay.io:65535/x"),
    *("quay.io", "quay.io:443", "docker.io", "index.docker.io", "localhost", "localhost:5000", "nginx.x:1"),
    *("localhost/x", "localhost:5000/x", "localhost/a/b:1", "localhosts/x", "LOCALHOST:5000/x", "registry:5000/x"),
    *("foo:80/bar", "foo:443/bar", "foo:1/bar", "FOO:8080/bar", "foo:80", "a/quay.io/b", "a/b.c", "a/localhost/b"),
    *("127.0.0.1/x", "127.0.0.1:5000/x", "10.0.0.1:443/x", "192.168.100.200/a/b:1"),
    *("xn--n3h.example/x", "a-b.example/x", "a--b.example/x", "0.example/x", "a.b.c.d.e.f.g/x", "1.2.3.4.example/x"),
    *("x:_", "x:1.2.3-rc_1", "x:V1", "x:latest", "x:LATEST", "x:443", "x:sha256-a.sig", "quay.io:5000/x:5000"),
    *("a.b/c.d/e_f/g__h/i-j/k---l", "x/a.b_c__d-e", "x/1/2/3", "manifests/blobs", "x/" + "a" * 200, "x:" + "t" * 128),
    *(f"nginx@{SHA256}", f"nginx:1@{SHA256}", f"quay.io/x@{SHA256}", f"quay.io:5000/a/b:1@{SHA256}", f"x@{SHA512}"),
    *(f"q.io:1/x:1@{SHA512}", f"foo:80/bar@{SHA256}", f"docker.io/nginx:latest@{SHA256}", f"localhost/x@{SHA256}"),
    *(
        f"{HEX}:1",
        f"docker.io/{HEX}",
        f"x/{HEX}",
        f"{HEX}0",
        HEX[1:],
        "sha256",
        "sha512/x:1",
        f"docker.io/sha256:{HEX}",
    ),
    *("q.io/" + "a" * 250, "a" * 237, "docker.io/" + "a" * 237, "a" * 63 + ".example/x"),
)

# Refused here alone, and why.
STRICTER: Final[Mapping[str, Sequence[str]]] = {
    "a node looks it up among the images that it has": (SHA256, "sha256:abc", SHA512, "sha512:1", f"sha256:1@{SHA256}"),
    "a port is a number from 1 to 65535, without zeros in front": (
        *("quay.io:0/x", "quay.io:0443/x", "quay.io:00080/x", "quay.io:65536/x", "foo:0/bar", "localhost:05000/x"),
    ),
    "resolvers take it for an address, each for another one": (
        *("127.1/x", "127.1:5000/x", "2130706433:5000/x", "0177.0.0.1/x", "127.0.0.01/x", "256.0.0.1/x", "1.2.3.4.5/x"),
        *("0x7f.0.0.0x1/x", "0x7f000001:5000/x", "v1.0/x", "registry.1/x"),
    ),
    "no host has underscores": ("docker_hub.io/x", "a__b.c/x:1", f"x_y.z/a@{SHA256}"),
    "an algorithm that this registry does not support": (f"nginx@sha384:{HEX}{HEX[:32]}",),
}

STRICTER_NEWER: Final[Mapping[str, Sequence[str]]] = {
    "an address of IPv4 in other words": ("[::ffff:7f00:1]/x", "[0:0:0:0:0:FFFF:7f00:1]:5000/x"),
    "no address": ("[:::]/x", "[12345::1]:80/x", "[1:2]:80/x", "[::1::]/x"),
    "too long for the old containerd": ("q.io/" + "a" * 251, "a" * 238),
}

NEWER: Final = (
    *("Foo/bar", "LOCALHOST/x", "Acme/app", "fOO/bar:latest", f"A/b:latest@{SHA256}"),
    *("[::1]/x", "[::1]:5000/x", "[::1]:443/x:latest", "[2001:DB8::1]/a/b", "[2001:db8:0:0:0:0:0:1]:5000/x"),
)

# Read by none.
REFUSED: Final = (
    *(
        "",
        " ",
        "nginx ",
        " nginx",
        "ngi nx",
        "nginx\n",
        "nginx\t",
        "nginx\x7f",
        "\u043dginx",
        "nginx\u200b",
        "nginx:\uff11",
    ),
    *(
        "NGINX",
        "docker.io/NGINX",
        "acme/App",
        "quay.io/x/Y",
        "nginx:",
        "nginx:.1",
        "nginx:-1",
        "nginx:1:2",
        "nginx:a+b",
    ),
    *(
        "/nginx",
        "nginx/",
        "docker.io/",
        "docker.io//nginx",
        "//nginx",
        "a//b",
        "a/../b",
        "./a",
        "../a",
        "a/./b",
        "a/-b",
    ),
    *("-nginx", "nginx-", "_nginx", "nginx_", "a___b", "a._b", "a..b", "a.-b", "nginx.", "x/%6eginx", "x/a*", "x/a?b"),
    *("docker.io./nginx", ".docker.io/nginx", "docker..io/nginx", "-docker.io/x", "docker-.io/x", "docker_hub:5000/x"),
    *("d\u043ecker.io/x", "doc\u212aer.io/x", "docker%2eio/x.y", "user@docker.io/x", "user:1@docker.io/x", "a\\b"),
    *("http://docker.io/nginx", "docker://nginx", "docker.io:/x", "docker.io:https/x", "docker.io:+80/x", "a:80:80/x"),
    *("::1/x", "[::1/x", "[::1]5000/x", "[::g]:80/x", "[::1]x.y/z", "[::ffff:127.0.0.1]/x", "[fe80::1%eth0]/x"),
    *(HEX, "nginx@", "nginx:1@", f"@{SHA256}", f"nginx@{HEX}", f"nginx@{SHA256}:1", f"nginx@{SHA256}@{SHA256}"),
    *(f"nginx@{SHA256}a", f"nginx@{SHA256[:-1]}", f"nginx@{SHA256.upper()}", f"nginx@sha256:{HEX.upper()}"),
    *(f"nginx:@{SHA256}", f"nginx @{SHA256}", f"nginx@ {SHA256}", "nginx@md5:" + "a" * 32, f"nginx/@{SHA256}"),
    *("q.io/" + "a" * 256, "a" * 248, "x:" + "t" * 129, "x/[::1]:80/y"),
)

_HOSTS: Final = (
    *("docker.io", "INDEX.docker.io", "registry-1.docker.io", "quay.io", "Quay.IO", "localhost", "[::1]", "127.0.0.1"),
    *("registry.example.com", "a-b.c", "x_y.z", "foo", "Foo.x", "127.1", "", "a..b", "[1::2::3]"),
)
_PORTS: Final = ("", "", "", ":443", ":80", ":5000", ":0", ":", ":99999", ":x")
_PARTS: Final = ("nginx", "library", "a", "b_c", "d--e", "f.g", "h__i", "0", "sha256", "quay.io", "A", "a..b", "-a", "")
_TAGS: Final = ("", "", ":1", ":latest", ":V1.2-rc_3", ":_", ":.", ":", ":1:2")
_DIGESTS: Final = ("", "", f"@{SHA256}", f"@{SHA512}", f"@{HEX}", "@", f"@{SHA256}x")
_SLIPS: Final = tuple(".:/@-_[]%A0 ")


def generated(count: int, seed: str) -> list[str]:
    """Names made of parts that are right or nearly so, some of them with a slip of the pen; all of them different."""
    chosen = random.Random(seed)
    return list(dict.fromkeys(_generated(chosen, count)))


def _generated(chosen: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        host = chosen.choice(_HOSTS) + chosen.choice(_PORTS) + "/" if chosen.random() < 0.7 else ""
        path = "/".join(chosen.choice(_PARTS[: chosen.choice((6, 10, 14))]) for _ in range(chosen.randint(1, 3)))
        text = host + path + chosen.choice(_TAGS) + chosen.choice(_DIGESTS)
        if chosen.random() < 0.2:
            place = chosen.randrange(len(text) + 1)
            text = text[:place] + chosen.choice(_SLIPS) + text[place + chosen.randint(0, 1) :]
        yield text
