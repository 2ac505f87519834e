"""What no table thinks of: random requests, and upload sessions in any order of steps, against a live registry."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_from_bytes

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, OCI_LAYER, digest_of, image_of
from support.client import WireClient
from support.hostile import ATTACKER, OWN, Target, hostile, under_attack
from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.wire import Answer

pytestmark = pytest.mark.slow

# A machine that tests every change must not fail by luck; people's machines look further each time.
BOUNDED: Final = settings(
    max_examples=300,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
DIGEST: Final = digest_of(OWN)
SESSION: Final = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with under_attack(tmp_path_factory.mktemp("target")) as target:
        yield target


# ---- random requests, in the grammar of HTTP and near that of the registry

WORDS: Final = st.sampled_from(
    [
        "v2",
        "manifests",
        "blobs",
        "uploads",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "latest",
        "..",
        ".",
        "",
        "a",
        SESSION,
        DIGEST,
        "sha256:",
        "sha512:" + "0" * 128,
        "api",
        "v1",
        "repositories",
        "history",
        *ATTACKER.split("/"),
    ]
)
SEGMENTS: Final = st.one_of(
    WORDS,
    st.text(max_size=300).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.binary(max_size=40).map(quote_from_bytes),
    st.text("%./\\:;,~!$&'()*+=@-_0123456789abcABC", max_size=40).map(
        lambda text: quote(text, safe="%/:;,~!$&'()*+=@")
    ),
)
FORMS: Final = st.sampled_from(
    [
        "/v2/{}/manifests/{}",
        "/v2/{}/blobs/{}",
        "/v2/{}/blobs/uploads/",
        "/v2/{}/blobs/uploads/{}",
        "/v2/{}/{}/tags/list",
        "/v2/{}/referrers/{}",
        f"/v2/{ATTACKER}/manifests/{{}}",
        f"/v2/{ATTACKER}/blobs/{{}}",
        f"/v2/{ATTACKER}/blobs/uploads/{{}}",
        "/api/v1/repositories/{}/tags/{}/history",
        "/api/v1/repositories",
        "/v2/{}",
        "/{}/{}/{}/{}",
    ]
)
PARAMETERS: Final = st.tuples(
    st.sampled_from(["n", "last", "q", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "", "x"]),
    SEGMENTS,
).map("=".join)
HEADERS: Final = st.tuples(
    st.sampled_from(
        [
            "Accept",
            "Authorization",
            "Content-Range",
            "Content-Type",
            "If-Match",
            "If-None-Match",
            "If-Range",
            "Range",
            "Accept-Encoding",
            "Cookie",
            "Docker-Content-Digest",
            "Origin",
            "Referer",
            "User-Agent",
            "X-Forwarded-Proto",
        ]
    ),
    st.one_of(
        st.sampled_from([OCI_IMAGE, OCI_INDEX, "bytes=0-1", "0-4", "*", f'"{DIGEST}"', "Basic YTpi"]),
        st.from_regex(r"(bytes[= ])?-?[0-9]{0,25}-[0-9]{0,25}(/[0-9*]*)?(,[0-9]*-[0-9]*)?", fullmatch=True),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=200),
    ),
)
JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([OCI_IMAGE, DIGEST, OCI_CONFIG]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=10) | st.sampled_from(["mediaType", "digest", "size", "data", "urls"]), inner
        )
    ),
    max_leaves=12,
)
MEMBERS: Final = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "Layers",
        "x",
    ]
)
DOCUMENTS: Final = st.dictionaries(MEMBERS, JSON, max_size=3).map(
    lambda members: json.dumps(json.loads(image_of(OWN)) | members).encode()
)
BODIES: Final = st.one_of(
    st.none(), st.binary(max_size=2000), JSON.map(lambda value: json.dumps(value).encode()), DOCUMENTS
)
METHODS: Final = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])


@st.composite
def targets(draw: st.DrawFn) -> str:
    form = draw(FORMS)
    path = form.format(*(draw(SEGMENTS) for _ in range(form.count("{}"))))
    query = "&".join(draw(st.lists(PARAMETERS, max_size=3)))
    return f"{path}?{query}" if query else path


@BOUNDED
@given(METHODS, targets(), st.lists(HEADERS, max_size=4), BODIES)
def test_no_request_breaks_the_rule(
    target: Target, method: str, path: str, headers: list[tuple[str, str]], body: bytes | None
) -> None:
    assert target.complaint(hostile(method, path, headers, body)) is None


@BOUNDED
@given(DOCUMENTS, st.sampled_from([OCI_IMAGE, OCI_INDEX, OCI_LAYER, ""]))
def test_no_document_breaks_the_rule(target: Target, document: bytes, media_type: str) -> None:
    headers = [("Content-Type", media_type)] if media_type else []
    assert target.complaint(hostile("PUT", f"/v2/{ATTACKER}/manifests/random", headers, document)) is None


@BOUNDED
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"GET /v2/ HTTP/1.1\r\n", b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: localhost\r\n"]),
)
def test_what_is_no_http_harms_nobody(target: Target, noise: bytes, start: bytes) -> None:
    with Wire(target.trow.host) as wire:
        wire.send(start + noise)
    target.check_serving()


# ---- upload sessions in any order of steps

SIZES: Final = st.sampled_from([1, 2, 1000, 65_535, 65_536, 65_537, 200_000, 1_500_000])
CHUNKS: Final = st.builds(lambda size, seed: random.Random(seed).randbytes(size), SIZES, st.integers(0, 1000))
REPOSITORY: Final = "model/uploads"


class Uploads(RuleBasedStateMachine):
    """The model of a session is the bytes that it was sent; of the repository, the digests of finished ones."""

    sessions: Bundle[str] = Bundle("sessions")
    ended: Bundle[str] = Bundle("ended")

    host: str

    def __init__(self) -> None:
        super().__init__()
        self.client = WireClient(self.host)
        self.sent: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}

    def teardown(self) -> None:
        for session in self.sent:
            assert self.client.ask("DELETE", session).status == 204
        self.client.close()

    @rule(target=sessions)
    def begin(self) -> str:
        session = self.client.begin(REPOSITORY)
        self.sent[session] = b""
        return session

    @rule(session=sessions, chunk=CHUNKS)
    def append(self, session: str, chunk: bytes) -> None:
        self._accepted(session, chunk, self.client.append(session, chunk, len(self.sent[session])))

    @rule(session=sessions, chunk=CHUNKS)
    def append_without_place(self, session: str, chunk: bytes) -> None:
        self._accepted(session, chunk, self.client.ask("PATCH", session, body=chunk))

    @rule(session=sessions, chunks=st.lists(CHUNKS, max_size=4))
    def stream(self, session: str, chunks: list[bytes]) -> None:
        self._accepted(session, b"".join(chunks), self.client.stream(session, chunks))

    def _accepted(self, session: str, chunk: bytes, answer: Answer) -> None:
        self.sent[session] += chunk
        assert (answer.status, answer.header("range")) == (202, self._range(session))

    @rule(session=sessions, chunk=CHUNKS, place=st.integers(0, 2_000_000))
    def append_elsewhere(self, session: str, chunk: bytes, place: int) -> None:
        assume(place != len(self.sent[session]))
        answer = self.client.append(session, chunk, place)
        assert (answer.status, answer.header("range")) == (416, self._range(session))

    @rule(session=sessions, chunk=CHUNKS)
    def append_of_another_length(self, session: str, chunk: bytes) -> None:
        offset = len(self.sent[session])
        place = ("Content-Range", f"{offset}-{offset + len(chunk)}")
        assert self.client.ask("PATCH", session, [place], chunk).codes == ["SIZE_INVALID"]

    @rule(session=sessions, chunk=CHUNKS, missing=st.integers(1, 100_000))
    def vanish(self, session: str, chunk: bytes, missing: int) -> None:
        length = str(len(chunk) + missing)
        with Wire(self.host) as wire:
            wire.send(request("PATCH", session, [("Content-Length", length), ("Expect", "100-continue")]))
            wire.wait_until_read()
            wire.send(chunk)
        arrived = self.client.offset(session)
        sent = self.sent[session] + chunk
        assert arrived <= len(sent)
        self.sent[session] = sent[:arrived]

    @rule(session=sessions)
    def status(self, session: str) -> None:
        answer = self.client.ask("GET", session)
        assert (answer.status, answer.header("range")) == (204, self._range(session))

    def _range(self, session: str) -> str:
        return f"0-{max(0, len(self.sent[session]) - 1)}"

    @rule(target=ended, session=consumes(sessions))
    def cancel(self, session: str) -> str:
        assert self.client.ask("DELETE", session).status == 204
        del self.sent[session]
        return session

    @rule(
        target=ended,
        session=consumes(sessions),
        rest=st.just(b"") | CHUNKS,
        algorithm=st.sampled_from(["sha256", "sha512"]),
    )
    def finish(self, session: str, rest: bytes, algorithm: str) -> str:
        content = self.sent.pop(session) + rest
        digest = digest_of(content, algorithm)
        answer = self.client.finish(session, digest, rest)
        assert (answer.status, answer.header("docker-content-digest")) == (201, digest)
        self.stored[digest] = content
        return session

    @rule(session=sessions, rest=st.just(b"") | CHUNKS)
    def finish_as_something_else(self, session: str, rest: bytes) -> None:
        """The session goes on from where it was."""
        claimed = digest_of(self.sent[session] + rest + b"!")
        answer = self.client.finish(session, claimed, rest)
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
        assert self.client.get_blob(REPOSITORY, claimed).status == 404
        assert self.client.ask("GET", session).header("range") == self._range(session)

    @rule(session=sessions, chunk=CHUNKS)
    def finish_elsewhere(self, session: str, chunk: bytes) -> None:
        place = ("Content-Range", f"{len(self.sent[session]) + 1}-{len(self.sent[session]) + len(chunk)}")
        answer = self.client.ask("PUT", f"{session}?digest={digest_of(chunk)}", [place], chunk)
        assert (answer.status, answer.header("range")) == (416, self._range(session))

    @rule(session=ended, method=st.sampled_from(["GET", "PATCH", "PUT", "DELETE"]))
    def go_on_after_the_end(self, session: str, method: str) -> None:
        query = f"?digest={DIGEST}" if method == "PUT" else ""
        assert self.client.ask(method, session + query, body=b"x").codes == ["BLOB_UPLOAD_UNKNOWN"]

    @invariant()
    def what_was_stored_stays(self) -> None:
        for digest, content in self.stored.items():
            assert self.client.get_blob(REPOSITORY, digest).body == content


def test_uploads_behave_like_the_model(target: Target) -> None:
    class OfThisTarget(Uploads):
        host = target.trow.host

    run_state_machine_as_test(OfThisTarget, settings=settings(BOUNDED, max_examples=50))
