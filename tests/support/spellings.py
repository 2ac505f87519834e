"""Names of images, many of them made to be read in two ways, and patterns over them: as many as a test wants."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.policy.images import ImageReference

SHA256: Final = f"sha256:{'0123456789abcdef' * 4}"
OTHER: Final = f"sha256:{'f' * 64}"
SHA512: Final = f"sha512:{'a' * 128}"

# Parts of names that are valid, then such as are not.
HOSTS: Final = (
    *("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "registry.ipv6.docker.com"),
    *("Docker.IO", "INDEX.docker.io", "docker.io.example.com", "hub.docker.com", "xdocker.io", "docker.com"),
    *("registry.example.com", "Registry.Example.COM", "registry.example.com.evil.test", "a.registry.example.com"),
    *("a.example.com", "b.example.com", "a.b.example.com", "example.com", "examplescom", "registry-example.com"),
    *("localhost", "LOCALHOST", "Localhost", "localhosts", "team", "Team", "a", "A", "a-b", "0xg", "1a.2b", "1.a"),
    *("127.0.0.1", "xn--bcher-kva.example", "[::1]", "[::0:1]", "[0:0:0:0:0:0:0:1]", "[2001:DB8::1]", "[::]"),
    *("[2001:db8:0:0:1:0:0:1]", "[2001:db8::1:0:0:1]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[0:1:2:3:4:5:6:7]"),
)
NO_HOSTS: Final = (
    *("docker.io.", "a_b.example.com", "127.1", "0x7f.0.0.1", "0x7F000001", "0X7F", "2130706433", "10.0.0.256"),
    *("010.0.0.1", "1.2.3", "a.1", "999", "a.0xff", "b\u00fccher.example", "a..b", ".a.b", "-a.b", "1.2.3.4.5", "0x"),
    *("[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[::127.0.0.1]", "[fe80::1%eth0]", "[::1", "::1", "[1.2.3.4]", "[]"),
    *("[:::]", "[1:2:3:4:5:6:7:8:9]", "[12345::]", "[::1]x", "x[::1]", "[1::2::3]", "[1:2:3:4:5:6:7::8]", "[1]"),
    *(f"{'a' * 240}.example", f"{'a.' * 130}com", "user:password@registry.example.com", "registry.example.com\\"),
)
PORTS: Final = ("", "", "", ":443", ":80", ":5000", ":5000", ":65535", ":8080", ":4430")
NO_PORTS: Final = (":65536", ":0", ":0443", ":080", ":", ":a", ":443:80", ":100000")
PATHS: Final = (
    *("nginx", "library/nginx", "library", "library/library", "team/app", "team/app", "team-a/app", "team-a/x/y/z"),
    *(
        "team",
        "team/team",
        "a/team/team/b",
        "team-abc/app",
        "evil",
        "team/evil",
        "evil/team",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a/b/c/d/e/f",
    ),
    *("nginx/library/nginx", "docker.io/nginx", "index.docker.io/nginx", "sha256", "sha256/x", "0/1", "a.b/c", "x/y"),
    *("n" * length for length in (200, 236, 237, 244, 245)),
)
NO_PATHS: Final = (
    *("team/", "/team", "team//app", "Team/app", "team/App", "a..b", "a___b", "a-", "-a", "_a", "a.", "..", "a/../b"),
    *("%61", "", f"t/{'n' * 253}", *("n" * length for length in (246, 247, 248, 255, 256)), "a._b", "a/-"),
)
TAGS: Final = (*("", "", ""), ":latest", ":v1", ":v1.2.3", ":V1", ":1.27", ":v2-rc", ":_", ":_x", f":{'t' * 128}")
NO_TAGS: Final = (":.x", ":-x", ":", ":a b", ":a:b", ":1/x", f":{'t' * 129}", ":v1.2.3+build", ":\u017f", ":v1\n")
DIGESTS: Final = (*("",) * 6, f"@{SHA256}", f"@{SHA256}", f"@{OTHER}", f"@{SHA512}")
NO_DIGESTS: Final = (
    *(f"@{SHA256.upper()}", f"@{SHA256[:-1]}", f"@{SHA256}0", f"@{SHA512[:-1]}", f"@sha512:{'a' * 64}", "@"),
    *("@sha256:", f"@md5:{'a' * 32}", f"@{SHA256}@{SHA256}", f"@{SHA256}:v1", f"@sha384:{'a' * 96}", "@v1"),
)
WHOLE: Final = (
    *("a" * 64, "0" * 63, "A" * 64, f"{'a' * 64}:v1", SHA256, f"{SHA256}/x", "sha256:v1", "sha512:v1", "sha256"),
    *("sha384:v1", "sha256:a/b", " ", "nginx ", "\tnginx", "nginx\0", "\uff4eginx", "x" * 1030, "team/app#v1", ""),
    *("https://registry.example.com/team/app", "//registry.example.com/team/app", "docker://nginx", "/", ":", "@"),
    *("\u212a.example.com/a", "\ufb01.example.com/a", "registry.example.com/team/app:v1?x", "doc\u212aer.io/nginx"),
)
STRANGE: Final = "/:@.-_[]%*$^\\ '\"A0z\n\r\u0130\u017f\u212a\u3002"

REGISTRIES: Final = (
    *("*", "*", "docker.io", "registry.example.com", "registry.example.com:5000", "localhost", "localhost:5000"),
    *("*.example.com", "registry.*.com", "*.*.com", "*.example.com:*", "*:5000", "*:*", "registry*.com", "l*", "*t:*"),
    *("a.*.example.com", "127.0.0.1", "127.0.0.*", "[::1]", "[::1]:5000", "[2001:db8::1:0:0:1]", "docker.io", "team"),
)
REPOSITORIES: Final = (
    *("**", "**", "**", "*", "team/**", "team/*", "*/app", "**/app", "team-*/**", "team/app", "library/nginx", "nginx"),
    *("**/x/**", "a/**/f", "a*/b", "*b*", "evil", "**/evil", "library/**", "library/*", "a/b/c/**", "n*", "**/**"),
)
OF_NAMESPACES: Final = (
    *("$namespace/**", "$namespace/*", "$namespace", "team/$namespace", "**/$namespace", "**/$namespace/**"),
    *("*/$namespace", "$namespace/$namespace", "$namespace/**/app", "t*/$namespace/**", "$namespace/team-a/*"),
)
TAG_GLOBS: Final = (*("*",) * 6, "v*", "latest", "v1.2.3", "*.*.*", "v1*", "*-rc", "_*", "t*", "1.27")


def names(seed: int, count: int) -> Sequence[str]:
    """So many different names; about half of them are valid, and most others would be but for one thing."""
    chance = random.Random(seed)
    found = dict.fromkeys(WHOLE)
    while len(found) < count:
        found[name(chance)] = None
    listed = list(found)
    chance.shuffle(listed)
    return listed[:count]


def name(chance: random.Random) -> str:
    def part(valid: Sequence[str], invalid: Sequence[str]) -> str:
        return chance.choice(invalid if chance.random() < 0.06 else valid)

    host = part(HOSTS, NO_HOSTS) + part(PORTS, NO_PORTS) + "/" if chance.random() < 0.8 else ""
    text = host + part(PATHS, NO_PATHS) + part(TAGS, NO_TAGS) + part(DIGESTS, NO_DIGESTS)
    return text if chance.random() < 0.8 else damaged(chance, text)


def damaged(chance: random.Random, text: str) -> str:
    """With one character more or less, with a part in the other case, or beginning in the middle."""
    at = chance.randrange(len(text) + 1)
    return chance.choice(
        (
            text[:at] + chance.choice(STRANGE) + text[at:],
            text[:at] + text[at + 1 :],
            text[:at].swapcase() + text[at:],
            text[at:] + text[:at],
        )
    )


def pattern(chance: random.Random, *, in_namespaces: bool = False) -> dict[str, Any]:
    """One entry of `images` in a rule; only one that allows may be about namespaces."""
    repositories = (*REPOSITORIES, *OF_NAMESPACES) if in_namespaces else REPOSITORIES
    where = {"registry": chance.choice(REGISTRIES), "repository": chance.choice(repositories)}
    if chance.random() < 0.15:
        return {**where, "digest": chance.choice((SHA256, OTHER, SHA512))}
    return {**where, "tag": chance.choice(TAG_GLOBS)}


def compared(image: ImageReference) -> str:
    """The form in which the API server compares names."""
    tag = f":{image.tag}" if image.tag else ""
    digest = f"@{image.digest}" if image.digest else ""
    return f"{image.registry}/{image.repository}{tag}{digest}"
