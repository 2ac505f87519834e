"""The event loop is for deciding: whatever one client asks for, everybody else is answered meanwhile.

A row for each request that has been costly, or could be. A new one is a function that prepares the server and returns
what is asked again and again, with ``@row`` before it.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from factories import OCI_IMAGE, OCI_INDEX, descriptor_of, digest_of, image_of
from support.admission import body, pod
from support.client import WireClient
from support.server import Trow
from support.watchdog import Costly, assert_others_are_answered, costly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    Prepare = Callable[[Trow], Sequence[Costly]]

MIB: Final = 2**20
REPOSITORY: Final = "costly/app"
EXTRA: Final = [{"group": "example.com", "kind": "Deep", "paths": ["spec.a[*][*].image"]}]


@dataclass
class Row:
    """What is asked, and what the server is started with."""

    prepare: Prepare
    start: Mapping[str, Any] = field(default_factory=dict)


ROWS: Final[dict[str, Row]] = {}


def row(**start: Any) -> Callable[[Prepare], Prepare]:
    """Add a row; the arguments are those of `Trow.start`."""

    def add(prepare: Prepare) -> Prepare:
        ROWS[prepare.__name__] = Row(prepare, start)
        return prepare

    return add


@row()
def ranges_with_spaces(trow: Trow) -> Sequence[Costly]:
    with WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, b"x" * 100).status == 201
    headers = [("Range", f"bytes={' ' * 8000}x")]
    return [costly("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(b'x' * 100)}", headers=headers)]


@row()
def manifests_of_4_mib(trow: Trow) -> Sequence[Costly]:
    """Their many small parts are what takes time."""
    entries = [descriptor_of(b"%d" % number, OCI_IMAGE) for number in range(25_000)]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    assert 3.5 * MIB < len(raw) < 4 * MIB
    headers = [("Content-Type", OCI_INDEX)]
    return [costly("PUT", f"/v2/{REPOSITORY}/manifests/large", 201, headers, raw)]


def invented(members: str) -> bytes:
    """An index with members that nobody knows, which are read to know that the document has one meaning."""
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[],"x":[{members}]}}'.encode()


@row()
def manifests_of_a_million_members(trow: Trow) -> Sequence[Costly]:
    raw = invented("[]," * 1_300_000 + "[]")
    return [costly("PUT", f"/v2/{REPOSITORY}/manifests/large", 400, [("Content-Type", OCI_INDEX)], raw)]


@row()
def documents_of_numbers_that_are_hard_to_round(trow: Trow) -> Sequence[Costly]:
    numbers = f"0.77777e300,{'1e300,' * 9_000}1"
    return [
        costly(
            "PUT", f"/v2/{REPOSITORY}/manifests/{size}", 201, [("Content-Type", OCI_INDEX)], invented(numbers * times)
        )
        for size, times in (("small", 1), ("large", 12))
    ]


@row(user=("costly", "a password"))
def tokens_of_numbers_and_scopes_without_meaning(trow: Trow) -> Sequence[Costly]:
    """What nobody has signed is read to know who shall verify it."""
    claims = base64.urlsafe_b64encode(f'{{"iss":"x","x":[{"1e300," * 1_900}1]}}'.encode()).decode().rstrip("=")
    return [
        costly("GET", "/v2/", 401, [("Authorization", f"Bearer eyJhIjoxfQ.{claims}.e30")]),
        costly("GET", f"/token?scope={'a+' * 30_000}", 401),
    ]


@row()
def referrers_with_annotations(trow: Trow) -> Sequence[Costly]:
    """Some that are as large as a manifest may be, and some that a list shows."""
    subject = image_of(b"subject")
    about = {"mediaType": OCI_IMAGE, "digest": digest_of(subject), "size": len(subject)}
    with WireClient(trow.host) as client:
        for number in range(120):
            filling = {"filling": f"{number:03}" * ((4 * MIB - 1000) // 3 if number % 2 else 20_000)}
            index = {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [],
                "subject": about,
                "annotations": filling,
            }
            raw = json.dumps(index).encode()
            assert client.put_manifest(REPOSITORY, digest_of(raw), raw, OCI_INDEX).status == 201
    return [costly("GET", f"/v2/{REPOSITORY}/referrers/{digest_of(subject)}")]


REPOSITORIES: Final = [f"{'x' * 100}{number:06}/app" for number in range(100_000)]


def fill(trow: Trow) -> None:
    with closing(sqlite3.connect(trow.folder / "data" / "trow.db")) as database, database:
        database.executemany("INSERT INTO repository (name) VALUES (?)", ((name,) for name in REPOSITORIES))


def lists_for(rule: str) -> Mapping[str, Any]:
    """The start of a server where everybody may list and pull what the glob means, and has to log in for the rest."""
    rule_of_all = {"anonymous": True, "repositories": [rule], "actions": ["pull", "list"]}
    return {"user": ("alice", "correct horse"), "config": {"access": {"rules": [rule_of_all]}}}


@row(**lists_for("nothing-of-it/**"))
def catalogue_for_one_who_may_see_nothing(trow: Trow) -> Sequence[Costly]:
    fill(trow)
    return [costly("GET", "/v2/_catalog"), costly("GET", "/api/v1/repositories?q=xx")]


@row(**lists_for("**/nothing-of-it"))
def catalogue_that_has_to_be_read_to_its_end(trow: Trow) -> Sequence[Costly]:
    fill(trow)
    return [costly("GET", "/v2/_catalog"), costly("GET", "/api/v1/repositories?q=xx")]


@row()
def images_of_many_layers(trow: Trow) -> Sequence[Costly]:
    with WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, b"{}").status == 201
        assert client.push_whole(REPOSITORY, b"x").status == 201
    raw = image_of(b"{}", [b"x"] * 20_000)
    assert 2 * MIB < len(raw) < 4 * MIB
    return [costly("PUT", f"/v2/{REPOSITORY}/manifests/many", 201, [("Content-Type", OCI_IMAGE)], raw)]


@row()
def pages_of_tags(trow: Trow) -> Sequence[Costly]:
    with WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, b"{}").status == 201
        assert client.put_manifest(REPOSITORY, "latest", image_of(b"{}")).status == 201
    with closing(sqlite3.connect(trow.folder / "data" / "trow.db")) as database, database:
        database.executemany(
            "INSERT INTO tag (repository, name, digest) VALUES (?, ?, ?)",
            ((REPOSITORY, f"{number:0128}", digest_of(image_of(b"{}"))) for number in range(20_000)),
        )
    return [costly("GET", f"/v2/{REPOSITORY}/tags/list?n=10000")]


REVIEWS: Final = {"image_validation": {"default": "Deny"}, "admission": {"on_registry_addresses": True}}


def review(spec: str, status: int, **members: Any) -> Costly:
    """A review of a Pod with this specification, and how it is answered."""
    content = body(pod(), **members).replace(b'{"containers": []}', spec.encode())
    return costly("POST", "/admission/validate", status, [("Content-Type", "application/json")], content)


@row(config=REVIEWS)
def reviews_of_two_million_containers(trow: Trow) -> Sequence[Costly]:
    return [review('{"containers":[' + "{}," * 2_000_000 + "{}]}", 400)]


@row(config=REVIEWS)
def reviews_of_as_many_members_as_there_may_be(trow: Trow) -> Sequence[Costly]:
    lists = ("containers", "initContainers", "volumes")
    return [review(f'{{"containers":[{{"image":"a"}}],"{name}":[' + "{}," * 98_000 + "{}]}", 200) for name in lists]


@row(config=REVIEWS)
def reviews_of_numbers_that_are_hard_to_round(trow: Trow) -> Sequence[Costly]:
    return [review('{"containers":[{"image":"a"}],"x":[' + "1e300," * 190_000 + "1]}", 200)]


@row(config=REVIEWS)
def reviews_of_6_mib(trow: Trow) -> Sequence[Costly]:
    image = '{"name":"a","image":"a","imagePullPolicy":"Always","env":[{"name":"a","value":"' + "x" * 2000 + '"}]},'
    return [review('{"containers":[' + image * 999 + '{"image":"b"}],"x":"' + "y" * 3_500_000 + '"}', 200)]


@row(config=REVIEWS | {"admission": {"on_registry_addresses": True, "extra_kinds": EXTRA}})
def reviews_of_kinds_with_many_lists(trow: Trow) -> Sequence[Costly]:
    spec = '{"a":[' + ",".join(["[" + "{}," * 9_000 + "{}]"] * 10) + "]}"
    return [review(spec, 200, kind={"group": "example.com", "version": "v1", "kind": "Deep"})]


@row(user=("alice", "correct horse"))
def wrong_passwords(_: Trow) -> Sequence[Costly]:
    """Of users that nobody is, each of whom may try some times without having to wait."""
    secrets = [base64.b64encode(f"user-{number}:wrong".encode()).decode() for number in range(300)]
    return [costly("GET", "/v2/", 401, [("Authorization", f"Basic {secret}")]) for secret in secrets]


@row()
def metrics(trow: Trow) -> Sequence[Costly]:
    """With a series for each of many repositories and statuses, and all that has been counted."""
    with WireClient(trow.host) as client:
        for number in range(50):
            assert client.push_whole(f"{REPOSITORY}-{number}", b"x").status == 201
    return [costly("GET", "/metrics")]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """A server that nobody else asks for anything."""
    with Trow.start(tmp_path_factory.mktemp("idle")) as trow:
        yield trow


@pytest.mark.parametrize("what", ROWS)
def test_others_are_answered_while_one_asks_for_what_is_costly(what: str, idle: Trow, tmp_path: Path) -> None:
    with Trow.start(tmp_path, **ROWS[what].start) as trow:
        assert_others_are_answered(trow.host, idle.host, ROWS[what].prepare(trow))


def test_others_are_answered_while_nobody_reads_the_log(idle: Trow, tmp_path: Path) -> None:
    """More lines than a pipe and what may wait for it hold; some longer than lines may be."""
    reading, writing = os.pipe()
    with Trow.start(tmp_path, log_to=writing) as trow:
        os.close(writing)
        long = "/" + "x" * 3000
        with WireClient(trow.host) as client:
            for _ in range(2500):
                assert client.ask("GET", long).status == 404
        assert_others_are_answered(trow.host, idle.host, [costly("GET", long, 404)])
    os.close(reading)
