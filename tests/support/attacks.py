"""Some thousands of requests that no honest client sends, in families."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, OCI_LAYER, descriptor_of, digest_of, image_of
from support.client import WireClient
from support.hostile import ATTACKER, OWN, OWNER, Hostile, Target, hostile
from support.wire import chunked, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Family: TypeAlias = "Callable[[Target], Iterator[Hostile]]"
FAMILIES: Final[dict[str, Family]] = {}
ABSENT: Final = digest_of(b"nobody has this")
ABSENT_512: Final = digest_of(b"nobody has this", "sha512")
SESSION: Final = "0123456789abcdef0123456789abcdef"


def family(function: Family) -> Family:
    FAMILIES[function.__name__] = function
    return function


# ---- paths


def climbs(target: Target) -> list[str]:
    """Ways to write "up", "root", "end of string" or "nothing", percent-encoded where HTTP asks for it."""
    marker, database = target.marker, quote(str(target.data / "trow.db"), safe="")
    return [
        "..",
        "%2e%2e",
        ".%2E",
        "%2e",
        ".",
        "...",
        "....%2f%2f",
        f"..%2f..%2f{marker}",
        f"%2e%2e%2f%2e%2e%2f%2e%2e%2f{marker}",
        f"..%5c..%5c{marker}",
        f"..\\..\\{marker}",
        "..%2f..%2ftrow.db",
        f"{database}",
        f"{database}%00",
        f"%2ftmp%2f{marker}",
        "%2fetc%2fpasswd",
        "etc%2fpasswd%00.json",
        "%00",
        f"a%00{marker}",
        "a%0a",
        "a%0d%0aX-Injected:%20yes",
        "%20",
        "a%20b",
        "%7e",
        "~root",
        "%252e%252e%252f",
        "%25%32%65%25%32%65",
        "%c0%ae%c0%ae",
        "%c0%af..%c0%af",
        "%e0%80%ae%e0%80%ae",
        "%f0%80%80%ae",
        "%ef%bc%8e%ef%bc%8e",
        "%e2%80%a4%e2%80%a4",
        "%ed%a0%80",
        "%ff%fe",
        "%u002e%u002e",
        "%zz",
        "%",
        "C:%5c",
        "file:%2f%2f%2fetc%2fpasswd",
        "..;",
        "a;b=c",
        "%7b%7d",
        "%24%7bjndi:ldap:x%7d",
        "%27%20OR%20%271%27=%271",
        "%22;DROP%20TABLE%20blob;--",
        "uploads",
        "_catalog",
        "%2a",
    ]


@family
def climbing_repository(target: Target) -> Iterator[Hostile]:
    for climb, (method, rest) in itertools.product(
        climbs(target),
        [
            ("GET", "manifests/latest"),
            ("PUT", "manifests/latest"),
            ("DELETE", "manifests/latest"),
            ("GET", f"blobs/{target.large}"),
            ("HEAD", f"blobs/{target.small}"),
            ("DELETE", f"blobs/{ABSENT}"),
            ("POST", "blobs/uploads/"),
            ("GET", f"blobs/uploads/{target.upload}"),
            ("GET", "tags/list"),
            ("GET", f"referrers/{target.manifest}"),
        ],
    ):
        yield hostile(method, f"/v2/{climb}/{rest}")


@family
def climbing_part_of_a_repository(target: Target) -> Iterator[Hostile]:
    for climb, name in itertools.product(
        climbs(target), ["{}/b", "a/{}/b", "a/{}", "{}/victim/vault", "a//{}", "a/../{}"]
    ):
        repository = name.format(climb)
        yield hostile("GET", f"/v2/{repository}/manifests/latest")
        yield hostile("POST", f"/v2/{repository}/blobs/uploads/?digest={target.small}")


@family
def climbing_reference(target: Target) -> Iterator[Hostile]:
    for climb, form in itertools.product(climbs(target), ["{}", "sha256:{}", "latest/{}", "{}/latest"]):
        reference = form.format(climb)
        for method in ("GET", "PUT", "DELETE"):
            yield hostile(method, f"/v2/{ATTACKER}/manifests/{reference}")


@family
def climbing_digest(target: Target) -> Iterator[Hostile]:
    for climb in climbs(target):
        for digest in (climb, f"sha256:{climb}", f"{climb}:{'0' * 64}", f"sha256:{climb}{'0' * (64 - len(climb))}"):
            yield hostile("GET", f"/v2/{ATTACKER}/blobs/{digest}")
            yield hostile("DELETE", f"/v2/{ATTACKER}/blobs/{digest}")
            yield hostile("GET", f"/v2/{ATTACKER}/referrers/{digest}")


@family
def climbing_upload_session(target: Target) -> Iterator[Hostile]:
    for climb in climbs(target):
        for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={ABSENT}"), ("DELETE", "")):
            yield hostile(method, f"/v2/{ATTACKER}/blobs/uploads/{climb}{query}")
        yield hostile("GET", f"/v2/{ATTACKER}/blobs/uploads/{SESSION}{climb}")


@family
def climbing_everything(target: Target) -> Iterator[Hostile]:
    prefixes = (
        "/",
        "/v2/",
        "//v2/",
        "/v2//",
        "/healthz/",
        "/metrics/",
        "/api/v1/repositories/",
        "/v2/a/blobs/uploads/",
    )
    for climb, prefix in itertools.product(climbs(target), prefixes):
        yield hostile("GET", f"{prefix}{climb}")
    for climb in climbs(target):
        yield hostile("GET", f"/api/v1/repositories/{climb}/tags/latest/history")
        yield hostile("GET", f"/api/v1/repositories/{ATTACKER}/tags/{climb}/history")


@family
def climbing_query(target: Target) -> Iterator[Hostile]:
    uploads, manifest = f"/v2/{ATTACKER}/blobs/uploads/", image_of(OWN)
    for climb in climbs(target):
        yield hostile("POST", f"{uploads}?mount={climb}&from={OWNER}")
        yield hostile("POST", f"{uploads}?mount={target.large}&from={climb}")
        yield hostile("POST", f"{uploads}?mount=sha256:{climb}")
        yield hostile("POST", f"{uploads}?digest={climb}", body=b"x")
        yield hostile("POST", f"{uploads}?digest-algorithm={climb}")
        yield hostile("PUT", f"{uploads}{SESSION}?digest={climb}")
        yield hostile("PUT", f"{uploads}{climb}?digest={climb}")
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/{digest_of(manifest)}?tag={climb}", [image_type()], manifest)
        yield hostile("GET", f"/v2/_catalog?last={climb}")
        yield hostile("GET", f"/v2/_catalog?n={climb}")
        yield hostile("GET", f"/v2/{ATTACKER}/tags/list?last={climb}&n=1")
        yield hostile("GET", f"/v2/{ATTACKER}/referrers/{ABSENT}?artifactType={climb}")
        yield hostile("GET", f"/api/v1/repositories/{ATTACKER}/tags/latest/history?last={climb}")


# ---- names


@family
def names_outside_the_grammar(target: Target) -> Iterator[Hostile]:
    names = [
        "A", "Victim/Vault", "a/B", "a//b", "a/", "-a", "a-", "_a", "a_", ".a", "a.", "a..b", "a___b", "a._b", "a.-b",
        "a_-b", "a/-b", "a/b-", "a+b", "a:b", "a@b", "a@sha256:0", "a,b", "a!b", "a$b", "a&b", "a'b", "a(b)", "a=b",
        "a*b", "é", "ß", "\u0430", "a\u0301", "\u212a", "\uff41", "🐳", "a\u200bb", "a\u202eb", "%41", "%61%2f%62%2f",
        "a%3fb", "a%23b", "x" * 256, "x" * 1000, "x" * 30_000, "/".join("x" * 200), "a/" * 127 + "aa", "xn--", "v2",
        "manifests", "blobs/uploads", "tags/list", "manifests/manifests", "a/manifests/b/manifests",
        "a/blobs/uploads/b", "a/tags/list/tags", "referrers", "_catalog", "..", "library/../victim/vault",
    ]  # fmt: skip
    for name in names:
        path = quote(name, safe="/%:@!$&'()*+,=~")
        yield hostile("GET", f"/v2/{path}/manifests/latest")
        yield hostile("PUT", f"/v2/{path}/manifests/latest", [image_type()], image_of(b"x"))
        yield hostile("GET", f"/v2/{path}/tags/list")
        yield hostile(
            "POST", f"/v2/{ATTACKER}/blobs/uploads/?mount={target.large}&from={quote(name, safe='%') or '%20'}"
        )


@family
def tags_outside_the_grammar(target: Target) -> Iterator[Hostile]:
    manifest = image_of(b"x")
    tags = [
        ".a", "-a", "a" * 129, "a" * 5000, "a+b", "a@b", "a,b", "a b", "a\n", "é", "\uff41", "a\x00", "a*", "a$", "@",
        "+", "a=b", "a&b", "~", "!", "'", '"', "<x>", "a\u202eb", "😀", "a\r\nb", "a;b", "(", "a\\b", "",
    ]  # fmt: skip
    for tag in tags:
        path = quote(tag, safe="")
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            body = manifest if method == "PUT" else None
            yield hostile(method, f"/v2/{ATTACKER}/manifests/{path}", [image_type()], body)
        target_path = f"/v2/{ATTACKER}/manifests/{digest_of(manifest)}?tag=good&tag={path}"
        yield hostile("PUT", target_path, [image_type()], manifest)


# ---- digests


@family
def malformed_digests(target: Target) -> Iterator[Hostile]:
    hexadecimal = ABSENT.removeprefix("sha256:")
    digests = [
        "sha256:", "sha256", ":", "::", f":{hexadecimal}", f"sha256:{hexadecimal[:-1]}", f"sha256:{hexadecimal}0",
        f"sha256:{hexadecimal.upper()}", f"SHA256:{hexadecimal}", f"Sha256:{hexadecimal}", f"sha256:{'g' * 64}",
        f"sha256:{'0' * 10_000}", f"sha512:{hexadecimal}", f"sha256:{hexadecimal * 2}", f"sha384:{'0' * 96}",
        f"md5:{'0' * 32}", f"sha1:{'0' * 40}", f"blake3:{hexadecimal}", f"sha256+b64:{hexadecimal}", "sha256:+1",
        f"sha256::{hexadecimal}", f"sha256:{hexadecimal}:", f"sha256-{hexadecimal}", f"sha256={hexadecimal}",
        f"sha256:{hexadecimal}%0a", f"sha256:%00{hexadecimal[1:]}", f"%20sha256:{hexadecimal}",
        f"sha256:{hexadecimal}%20", f"sha256%3a{hexadecimal}x", f"sha256:0x{hexadecimal[2:]}",
        f"sha256:-{hexadecimal[1:]}", f"sha256:{'%d9%a1' * 64}", f"sha256:{'%ef%bc%90' * 64}",
        "sha256:baddigeststring", "a:b", "a:" + "b" * 200, f"{'a' * 200}:b", "sha256:*",
        f"sha256:{hexadecimal},sha256:{hexadecimal}", f"sha512:{'0' * 127}", f"sha512:{'0' * 129}",
        f"sha512:{'F' * 128}",
    ]  # fmt: skip
    for digest in digests:
        yield hostile("GET", f"/v2/{ATTACKER}/blobs/{digest}")
        yield hostile("HEAD", f"/v2/{ATTACKER}/blobs/{digest}")
        yield hostile("DELETE", f"/v2/{ATTACKER}/manifests/{digest}")
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/{digest}", [image_type()], image_of(b"x"))
        yield hostile("GET", f"/v2/{ATTACKER}/referrers/{digest}")
        yield hostile("POST", f"/v2/{ATTACKER}/blobs/uploads/?digest={digest}", body=b"x")
        yield hostile("POST", f"/v2/{ATTACKER}/blobs/uploads/?mount={digest}&from={OWNER}")


@family
def content_of_another_digest(target: Target) -> Iterator[Hostile]:
    """What is sent is not what is claimed, or a digest of one kind of content is used for the other kind."""
    manifest, other = image_of(b"x"), image_of(b"y")
    uploads, manifests = f"/v2/{ATTACKER}/blobs/uploads/", f"/v2/{ATTACKER}/manifests"
    for claimed in (ABSENT, ABSENT_512, target.small, target.large, target.manifest):
        yield hostile("POST", f"{uploads}?digest={claimed}", body=b"something else")
        yield hostile("POST", f"{uploads}?digest={claimed}", body=b"")
        yield hostile("POST", f"{uploads}?digest={claimed}", body=b"z" * 100_000)
        yield hostile("PUT", f"{manifests}/{claimed}", [image_type()], manifest)
        yield hostile("PUT", f"{manifests}/{claimed}?tag=stolen", [image_type()], manifest)
    yield hostile("PUT", f"{manifests}/{digest_of(other)}", [image_type()], manifest)
    yield hostile("PUT", f"{manifests}/{digest_of(manifest)}", [image_type()], manifest + b" ")
    yield hostile("PUT", f"{manifests}/{digest_of(manifest, 'sha512')}", [image_type()], other)
    for method, kind, digest in itertools.product(
        ("GET", "HEAD", "DELETE"), ("blobs", "manifests", "referrers"), (target.small, target.large, target.manifest)
    ):
        yield hostile(method, f"/v2/{ATTACKER}/{kind}/{digest}")
    yield hostile("GET", f"/v2/{ATTACKER}/manifests/{digest_of(OWN)}")
    yield hostile("GET", f"/v2/{ATTACKER}/blobs/{digest_of(image_of(OWN))}")


@family
def content_of_another_repository(target: Target) -> Iterator[Hostile]:
    """Digests and sessions that exist, in a repository that does not have them."""
    elsewhere = (ATTACKER, "victim", "victim/vault/x", "victim/vaul", "victim/vault-2", "vault", "nobody/nothing")
    for repository in elsewhere:
        for digest in (target.small, target.large):
            for method in ("GET", "HEAD", "DELETE"):
                yield hostile(method, f"/v2/{repository}/blobs/{digest}")
            yield hostile("GET", f"/v2/{repository}/blobs/{digest}", [("Range", "bytes=0-9")])
            yield hostile("GET", f"/v2/{repository}/blobs/{digest}", [("If-None-Match", f'"{digest}"')])
            yield hostile("POST", f"/v2/{ATTACKER}/blobs/uploads/?mount={digest}&from={repository}")
        for reference in (target.manifest, "latest"):
            if (repository, reference) != (ATTACKER, "latest"):
                yield hostile("GET", f"/v2/{repository}/manifests/{reference}")
                yield hostile("DELETE", f"/v2/{repository}/manifests/{reference}")
        yield hostile("GET", f"/v2/{repository}/referrers/{target.manifest}")
        session = f"/v2/{repository}/blobs/uploads/{target.upload}"
        yield hostile("GET", session)
        yield hostile("PATCH", session, body=b"poison")
        yield hostile("PUT", f"{session}?digest={target.small}")
        yield hostile("DELETE", session)


# ---- headers


@family
def headers(target: Target) -> Iterator[Hostile]:
    blob, manifest = f"/v2/{ATTACKER}/blobs/{digest_of(OWN)}", f"/v2/{ATTACKER}/manifests/latest"
    junk = [
        "",
        ",",
        ";",
        "%00",
        "\udcff\udcfe",
        "é",
        "a" * 9_000,
        "a" * 200_000,
        "{}",
        "'\"",
        "bytes",
    ]
    for value in junk:
        yield hostile("GET", blob, [("Range", value)])
        yield hostile("GET", blob, [("Range", "bytes=0-1"), ("If-Range", value)])
        for name in ("If-None-Match", "Accept", "Accept-Encoding", "Cookie", "User-Agent", "X-Forwarded-For", "Origin"):
            yield hostile("GET", manifest, [(name, value)])
        yield hostile("GET", "/v2/", [("Authorization", value)])
        yield hostile("PUT", manifest, [("Content-Type", value)], image_of(b"x"))
        yield hostile("PATCH", f"/v2/{ATTACKER}/blobs/uploads/{SESSION}", [("Content-Range", value)], b"x")
    for name in ("Range", "If-Range", "If-None-Match", "Authorization", "Content-Type", "Content-Range", "Expect"):
        yield hostile("GET", blob, [(name, "a"), (name, "b")])
        yield hostile("PUT", manifest, [(name, OCI_IMAGE), (name, OCI_INDEX)], image_of(b"x"))
    for value in ("Basic", "Basic ", "Basic !!!", "Bearer x.y.z", "Negotiate", "Basic Og=="):
        yield hostile("GET", manifest, [("Authorization", value)])
    yield hostile("GET", blob, [("If-None-Match", ",".join(f'"{ABSENT}"' for _ in range(5_000)))])
    yield hostile("GET", blob, [(f"X-{number}", "1") for number in range(90)])


@family
def ranges(target: Target) -> Iterator[Hostile]:
    values = [
        "bytes=", "bytes=-", "bytes=--1", "bytes=1", "bytes=-0", "bytes=5-1", "bytes=0-0,0-0", "bytes=0-1,3-4",
        "bytes=" + ",".join("0-" for _ in range(1300)), "bytes=99999-", "bytes=0-" + "9" * 19,
        "bytes=" + "9" * 19 + "-", "bytes=0-" + "9" * 100, "bytes=-" + "9" * 19, "bytes=-" + "9" * 4000,
        "bytes=18446744073709551616-", "bytes=-18446744073709551616", "bytes=9223372036854775807-9223372036854775808",
        "bytes=0x0-0x5", "bytes=+0-5", "bytes=0-5;q=1", "bytes 0-5", "items=0-5", "BYTES=0-5", "bytes = 0 - 5",
        "bytes=\u0660-\u0665", "bytes=0-1e3", "bytes=0.5-2", "bytes=NaN-", "bytes=0-\u00b2", "none", "bytes=0-5\t",
        "bytes=,0-5", "bytes=0-5,",
    ]  # fmt: skip
    small, large = digest_of(OWN), target.large
    for value in values:
        for method, path in (("GET", small), ("HEAD", small), ("GET", large), ("GET", ABSENT)):
            yield hostile(method, f"/v2/{ATTACKER}/blobs/{path}", [("Range", value)])
        yield hostile("GET", f"/v2/{ATTACKER}/manifests/latest", [("Range", value)])


@family
def content_ranges(target: Target) -> Iterator[Hostile]:
    """On a session of the attacker's own, opened here, and on one that does not exist."""
    with WireClient(target.trow.host) as client:
        own = client.begin(ATTACKER)
    values = [
        "", "-", "0", "0-", "-1", "--1", "1-0", "-1-5", "0--5", "a-b", "0-a", "0x0-0x5", "+0-+5", "0-5/3", "0-5/*",
        "*/5", "bytes */5", "bytes 0-5/", "bytes 0-5/x", "bytes=0-5", "items 0-5", "0-99", "9-9", "5-9",
        "0-18446744073709551615", "18446744073709551615-18446744073709551616", "0-" + "9" * 19, "0-" + "9" * 300,
        "9" * 300 + "-0", "0-5,6-9", "\u0660-\u0665", "0 - 5", "0-5 ", "0-5\t6", "0.0-5.0", "1e1-1e2", "0\u20135",
        "bytes 0-0/" + "9" * 50,
    ]  # fmt: skip
    for value, session in itertools.product(values, (own, f"/v2/{ATTACKER}/blobs/uploads/{SESSION}")):
        yield hostile("PATCH", session, [("Content-Range", value)], b"12345")
        yield hostile("PUT", f"{session}?digest={ABSENT}", [("Content-Range", value)], b"")


@family
def lengths(target: Target) -> Iterator[Hostile]:
    manifest, uploads = f"/v2/{ATTACKER}/manifests/latest", f"/v2/{ATTACKER}/blobs/uploads/"
    for length in ("5", "100000", "4194305", "999999999999999999"):
        yield hostile("PUT", manifest, [image_type(), ("Content-Length", length)])
        yield hostile("POST", f"{uploads}?digest={ABSENT}", [("Content-Length", length)])
    for length in ("-1", "+1", "1.0", "0x1", "1e3", "a", "1,1", "1 1", "9" * 30, str(2**64), str(2**64 - 1)):
        data = request("PUT", manifest, [("Connection", "close"), ("Content-Length", length)])
        yield Hostile(data, unparsable=True)
    twice = [("Connection", "close"), ("Content-Length", "2"), ("Content-Length", "3")]
    yield Hostile(request("PUT", manifest, twice) + b"{}", unparsable=True)
    yield hostile("PUT", manifest, [("Content-Length", "2"), ("Content-Length", "2")])
    yield hostile("PUT", manifest, [image_type()], b" " * (4 * 2**20 + 1))
    yield hostile("PUT", manifest, [image_type()], b"[" * (5 * 2**20))
    yield hostile("GET", manifest, [], b"a body that nobody asked for")
    yield hostile("DELETE", f"/v2/{ATTACKER}/manifests/{ABSENT}", [], b"x" * 100_000)


# ---- documents


@family
def broken_json(target: Target) -> Iterator[Hostile]:
    del target
    for body in (
        b"", b" ", b"\0", b"null", b"true", b"0", b'""', b"[]", b"{}", b"{", b"}", b'{"', b'{"a"', b'{"a":', b'{"a":1',
        b"{]", b'{"a":1,}', b"{'a':1}", b"{a:1}", b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":1.}', b'{"a":NaN}',
        b"//", b"/**/{}", b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1}x', b'{"a":1}{}', b'{"a":"\x01"}',
        b'{"a":"\\x"}', b'{"a":"\\ud800"}', b'{"mediaType":"\\ud800"}', b'{"\\udfff":1}',
        b'{"schemaVersion":"\\udc00"}', b'{"a":"\xff"}', b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
        "{}".encode("utf-32"), b"\x1f\x8b\x08\0\0\0\0\0", b"<xml/>", b"a: 1\n", b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b'{"layers":' + b"[" * 10_000 + b"]" * 10_000,
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b'[{"a":' * 10_000, b"[" * 200_000, b'{"a":' * 200_000,
        b"9" * 5_000, b'{"a":' + b"9" * 100_000 + b"}", b'{"a":1e99999}', b'{"a":-1e99999}',
        b'"' + b"a" * 500_000 + b'"', b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}",
    ):  # fmt: skip
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/broken", [image_type()], body)
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/broken", [("Content-Type", OCI_INDEX)], body)
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/{digest_of(body)}?tag=broken", [], body)


@family
def wrong_documents(target: Target) -> Iterator[Hostile]:
    del target
    for document in itertools.chain(wrong_images(), wrong_descriptors()):
        text = document if isinstance(document, str) else json.dumps(document)
        for media_type in (OCI_IMAGE, OCI_INDEX):
            yield hostile("PUT", f"/v2/{ATTACKER}/manifests/wrong", [("Content-Type", media_type)], text.encode())


def wrong_images() -> Iterator[dict[str, object] | str]:
    """Images with one member wrong, twice, or of another kind of document."""
    whole = json.loads(image_of(b"x", [b"y"]))
    nothings: list[object] = [None, [], {}, "", 0, True, 1.5, "x" * 1000, [None], [[]], {"a": None}]
    for member, value in itertools.product(whole, nothings):
        yield whole | {member: value}
    for member in whole:
        yield {name: value for name, value in whole.items() if name != member}
        yield json.dumps(whole).replace("{", f'{{"{member}":1,', 1)
        yield json.dumps(whole).replace("{", f'{{"{member.upper()}":1,', 1)
    for value in (1, 3, "2", 2.5, -2, 10**30, None):
        yield whole | {"schemaVersion": value}
    for media_type in (
        OCI_INDEX,
        "application/json",
        "text/html",
        OCI_IMAGE.upper(),
        f"{OCI_IMAGE};x=y",
        f" {OCI_IMAGE}",
        "\ud800",
        5,
    ):
        yield whole | {"mediaType": media_type}
    yield whole | {"manifests": []}
    yield whole | {"annotations": {"a": 1}}
    yield whole | {"annotations": {"\ud800": "\ud800"}}
    yield whole | {"artifactType": "\ud800"}
    yield whole | {"subject": {"mediaType": OCI_IMAGE, "digest": "../../x", "size": 1}}
    yield {"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": [], "signatures": []}


def wrong_descriptors() -> Iterator[dict[str, object]]:
    whole = json.loads(image_of(b"x", [b"y"]))
    good = descriptor_of(b"z", OCI_CONFIG)
    sizes: list[object] = [-1, -(2**63), 2**63, 2**64, 10**30, 1.5, 1e300, "1", None, True, [], float(2**53)]
    digests = [
        "",
        "sha256:",
        "../../etc/passwd",
        "sha256:../../../etc/passwd",
        "md5:" + "0" * 32,
        "sha256:" + "0" * 63,
        None,
        1,
    ]
    wrong = [good | {"size": size} for size in sizes] + [good | {"digest": digest} for digest in digests]
    wrong += [good | {"data": data} for data in ("!", "AAAA", "\ud800", 1, "A" * 100_000)]
    wrong += [good | {"urls": urls} for urls in ("x", [1], ["file:///etc/passwd", None])]
    wrong += [good | {"mediaType": 1}, {}, {"digest": ABSENT}, {"size": 1}]
    for each in wrong:
        yield whole | {"config": each}
        yield whole | {"layers": [each]}
        yield whole | {"subject": each}
        yield {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [each]}


@family
def wrong_media_types(target: Target) -> Iterator[Hostile]:
    del target
    bodies = (image_of(b"x"), json.dumps({"schemaVersion": 2, "manifests": []}).encode())
    types = [
        "", "text/plain", "application/json", "application/octet-stream", "*/*", "application/*", OCI_IMAGE.upper(),
        f"{OCI_IMAGE}x", f"{OCI_IMAGE};charset=utf-8", f'{OCI_IMAGE}; q="', f"{OCI_IMAGE}, {OCI_INDEX}",
        "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json", OCI_CONFIG, OCI_LAYER, "a" * 5000, "é/é",
        "multipart/form-data; boundary=x", "application/x-www-form-urlencoded",
    ]  # fmt: skip
    for body, media_type in itertools.product(bodies, types):
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/typed", [("Content-Type", media_type)], body)
        yield hostile("PUT", f"/v2/{ATTACKER}/manifests/typed", [("Content-Type", media_type)] * 2, body)
        yield hostile("GET", f"/v2/{ATTACKER}/manifests/latest", [("Accept", media_type)])


# ---- lists


@family
def pages(target: Target) -> Iterator[Hostile]:
    lists = (
        "/v2/_catalog",
        f"/v2/{ATTACKER}/tags/list",
        f"/v2/{ATTACKER}/referrers/{ABSENT}",
        f"/api/v1/repositories/{ATTACKER}/tags/latest/history",
    )
    numbers = [
        "-1", "0", "1.5", "1e9", "0x10", "a", "", "%20", "%00", "2147483648", "4294967296", "9223372036854775808",
        "9" * 400, "9" * 5000, "%d9%a1", "%c2%b2", "+1", "1%201", "null", "NaN", "1;1", "00000000000000000001", "1,000",
    ]  # fmt: skip
    cursors = [
        "%00",
        "%ff",
        "a" * 513,
        "a" * 20_000,
        "%f4%8f%bf%bf",
        "%ed%a0%80",
        "'",
        "%25",
        "..",
        target.manifest,
        "-1",
        "9" * 18,
    ]
    for path in lists:
        for number in numbers:
            yield hostile("GET", f"{path}?n={number}")
        for cursor in cursors:
            yield hostile("GET", f"{path}?n=1&last={cursor}")
        yield hostile("GET", f"{path}?n=1&n=2")
        yield hostile("GET", f"{path}?last=a&last=b")
        yield hostile("GET", f"{path}?{'&'.join('n=1' for _ in range(1001))}")
        yield hostile("GET", f"{path}?{'&' * 5000}")
        yield hostile("GET", f"{path}?%00=%00&=&==&%=%")


# ---- methods and the protocol


@family
def methods(target: Target) -> Iterator[Hostile]:
    paths = (
        "/", "/v2", "/v2/", "/v2/_catalog", f"/v2/{ATTACKER}/manifests/latest",
        f"/v2/{ATTACKER}/manifests/{target.manifest}", f"/v2/{ATTACKER}/blobs/{target.large}",
        f"/v2/{ATTACKER}/blobs/uploads/", f"/v2/{ATTACKER}/blobs/uploads/{SESSION}", f"/v2/{ATTACKER}/tags/list",
        f"/v2/{ATTACKER}/referrers/{ABSENT}", "/healthz", "/nothing", "*", "/v2/*",
    )  # fmt: skip
    for method, path in itertools.product(
        (
            "TRACE",
            "CONNECT",
            "OPTIONS",
            "FOO",
            "get",
            "Get",
            "PROPFIND",
            "MOVE",
            "LINK",
            "PURGE",
            "A" * 3000,
            "POST",
            "PATCH",
        ),
        paths,
    ):
        if not (method == "CONNECT" and path == "*"):
            yield hostile(method, path)


@family
def protocol(target: Target) -> Iterator[Hostile]:
    """Odd but legal HTTP, and shapes that smuggle a second request past a front end: one request, one answer."""
    del target
    close = b"Connection: close\r\n"
    smuggled = b"GET /v2/_catalog HTTP/1.1\r\nHost: localhost\r\n\r\n"
    put = b"PUT /v2/attacker/box/manifests/smuggled HTTP/1.1\r\nHost: localhost\r\n" + close
    yield Hostile(b"GET /v2/ HTTP/1.0\r\n\r\n")
    yield Hostile(b"GET /v2/attacker/box/manifests/none HTTP/1.0\r\nHost: localhost\r\n\r\n")
    yield Hostile(b"GET /v2/none/manifests/none HTTP/1.1\r\n" + close + b"\r\n")
    yield Hostile(b"GET /v2/none/manifests/none HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + close + b"\r\n")
    yield Hostile(b"GET http://elsewhere.test/v2/none/manifests/none HTTP/1.1\r\nHost: localhost\r\n" + close + b"\r\n")
    yield Hostile(b"GET /v2/none/manifests/none#fragment HTTP/1.1\r\nHost: localhost\r\n" + close + b"\r\n")
    yield Hostile(b"CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: localhost\r\n" + close + b"\r\n", "CONNECT")
    yield Hostile(put + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
    yield Hostile(put + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + smuggled)
    yield Hostile(put + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(smuggled))
    yield Hostile(put + b"Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + smuggled)
    yield Hostile(put + b"transfer-ENCODING: CHUNKED\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + smuggled)
    yield Hostile(put + b"Content-Length: 0\r\nX: y\r\n\r\n" + smuggled)
    for size in (b"zz", b"-1", b"0x5", b"ffffffffffffffffff", b"5 5", b"", b"5;" + b"x" * 50_000, b"\xff"):
        yield Hostile(put + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n")
    trailer = b"0\r\nContent-Length: 5\r\nAuthorization: Basic YTpi\r\n\r\n"
    yield Hostile(put + b"Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n2\r\n{}\r\n" + trailer)
    yield Hostile(put + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
    yield Hostile(put + b"Expect: something\r\nContent-Length: 2\r\n\r\n{}")
    yield Hostile(put.replace(b"close", b"close, upgrade") + b"Upgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n")
    yield Hostile(put.replace(b"close", b"close, upgrade") + b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")


@family
def no_http(target: Target) -> Iterator[Hostile]:
    """The explicit list of what the parser refuses by itself (see also `lengths`)."""
    del target
    line, host = b"GET /v2/ HTTP/1.1\r\n", b"Host: localhost\r\nConnection: close\r\n"
    put = b"PUT /v2/a/manifests/b HTTP/1.1\r\n" + host
    for data in (
        b"GET /v2/\r\n\r\n",
        b"GET /v2/ HTTP/2.0\r\n\r\n",
        b"GET /v2/ HTTP/1.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET v2/ HTTP/1.1\r\n\r\n",
        b"GET /v2/ a HTTP/1.1\r\n\r\n",
        b'GET /v2/<"{}|^`> HTTP/1.1\r\n\r\n',
        b"GET /v2/\xff\xfe HTTP/1.1\r\n\r\n",
        b"GET /v2/\0 HTTP/1.1\r\n\r\n",
        b"GET /v2/" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\n\r\n",
        b"G( /v2/ HTTP/1.1\r\n\r\n",
        line + host + b"X: a\0b\r\n\r\n",
        line + host + b"X : a\r\n\r\n",
        line + host + b": a\r\n\r\n",
        line + host + b"no colon\r\n\r\n",
        line + host + b"X: a\r\n folded\r\n\r\n",
        line + host + b"Authorization: Basic " + b"Q" * 2**20 + b"\r\n\r\n",
        line + host + b"".join(b"X-%d: 1\r\n" % number for number in range(150)) + b"\r\n",
        put + b"Transfer-Encoding: xchunked\r\n\r\n",
        put + b"Transfer-Encoding: identity\r\n\r\n",
        put + b"Transfer-Encoding: chunked, identity\r\n\r\n",
        put + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        put + b"Transfer-Encoding : chunked\r\n\r\n",
        put + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
        put.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    ):
        yield Hostile(data, unparsable=True)


def image_type() -> tuple[str, str]:
    return "Content-Type", OCI_IMAGE
