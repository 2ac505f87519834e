"""What a record holds, and the one form it is written in."""

from __future__ import annotations

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from support.trails import digest, full
from trow.access.identity import Identity, Method, Workload
from trow.audit import record as records
from trow.audit.chain import UNSEALED
from trow.oci.names import Repository, Tag
from trow.registry.events import Action, Event, Origin, Outcome

TEXT = st.text(st.characters(), max_size=40)  # half surrogate pairs included
NUMBER = st.integers(-5, 2**70)
IDENTITY = st.builds(
    Identity, name=TEXT, method=st.sampled_from(Method), uid=TEXT, groups=st.lists(TEXT, max_size=4).map(tuple),
    credential=TEXT,
)  # fmt: skip
EVENT = st.builds(
    Event,
    action=st.sampled_from(Action),
    outcome=st.sampled_from(Outcome),
    actor=IDENTITY,
    origin=st.builds(Origin, TEXT, TEXT, TEXT, TEXT, TEXT),
    status=NUMBER,
    reason=TEXT,
    repository=TEXT | TEXT.map(Repository),
    reference=TEXT | TEXT.map(Tag),
    digest=TEXT,
    media_type=TEXT,
    manifests=st.lists(TEXT, max_size=3).map(tuple),
    previous=TEXT,
    source=TEXT | TEXT.map(Repository),
    detail=TEXT,
    count=NUMBER,
    blobs=NUMBER,
    bytes=NUMBER,
    started_at=st.floats(0, 1e12),
)


def compose(event: Event) -> records.Record:
    return records.compose(event, "0a1b2c3d", 7, 1_700_000_000_123_456, "ab" * 32, UNSEALED)


@given(EVENT)
def test_form_is_the_canonical_one_of_rfc_8785(event: Event) -> None:
    text = records.encode(compose(event))
    assert text == rfc8785.dumps(msgspec.json.decode(text))


@given(EVENT)
def test_what_is_written_is_read(event: Event) -> None:
    record = compose(event)
    assert records.decode(records.encode(record)) == record
    assert records.decode(records.encode(record).decode()) == record


def test_record_tells_all_of_an_event() -> None:
    assert msgspec.json.decode(records.encode(compose(full(1)))) == {
        "time": "2023-11-14T22:13:20.123456Z",
        "writer": "0a1b2c3d",
        "sequence": 7,
        "action": "pull",
        "outcome": "ok",
        "status": 200,
        "reason": "allowed by rule builders",
        "actor": {
            "user": "system:serviceaccount:team-a:builder",
            "uid": "uid-1",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "method": "kubernetes",
            "credential": "token-1",
        },
        "workload": {
            "namespace": "team-a",
            "service_account": "builder",
            "pod": "pod-1",
            "pod_uid": "pod-uid-1",
            "node": "node-1",
            "node_uid": "node-uid-1",
        },
        "client": {"address": "10.0.0.1", "forwarded": "10.9.9.9, 10.9.9.8", "agent": "containerd/2.0"},
        "repository": "team-a/app-1",
        "reference": "v1",
        "digest": digest(1),
        "media_type": "application/vnd.oci.image.index.v1+json",
        "manifests": [digest(1_001), digest(2_001)],
        "previous": digest(3_001),
        "source": "team-b/base",
        "detail": "with détails",
        "count": 2,
        "blobs": 3,
        "bytes": 4_000,
        "started": "2023-11-14T22:13:19.250000Z",
        "request": "r1",
        "trace": "4bf92f3577b3",
        "prev": "ab" * 32,
        "hash": UNSEALED,
    }


@pytest.mark.parametrize("nothing", ["", Repository("")])
def test_empty_members_are_left_out(nothing: str) -> None:
    record = records.compose(Event(Action.COLLECTION, repository=nothing), "0a1b2c3d", 1, 0, "", "")
    assert records.encode(record) == (
        b'{"action":"collection","outcome":"ok","sequence":1,"time":"1970-01-01T00:00:00.000000Z","writer":"0a1b2c3d"}'
    )


@pytest.mark.parametrize(
    ("event", "member", "most"),
    [
        (Event(Action.PULL, reason="r" * 2000), "reason", 1024),
        (Event(Action.PULL, detail="d" * 2000), "detail", 1024),
        (Event(Action.PULL, repository="n" * 2000), "repository", 256),
        (Event(Action.PULL, reference="é" * 2000), "reference", 128),
        (Event(Action.PULL, reference="\x00" * 2000), "reference", 43),
    ],
)
def test_long_text_is_cut_and_shows_it(event: Event, member: str, most: int) -> None:
    text = getattr(compose(event), member)
    assert len(text) == most
    assert text.endswith("…")


def test_long_agent_is_cut() -> None:
    client = compose(Event(Action.PULL, origin=Origin(agent="a" * 300))).client
    assert client is not None
    assert client.agent == "a" * 255 + "…"


def test_long_lists_are_cut_and_show_it() -> None:
    record = compose(Event(Action.PULL, actor=Identity("u", groups=("g" * 300,) * 200), manifests=(digest(1),) * 101))
    assert record.actor is not None
    assert (len(record.actor.groups), len(record.manifests)) == (16, 100)
    assert record.actor.groups[-1] == record.manifests[-1] == "…"
    assert len(record.actor.groups[0]) == 256
    assert records.digests(record) == {digest(1)}


def test_largest_record_fits_a_batch_of_the_webhook() -> None:
    worst = "\x00" * 5000
    event = Event(
        Action.PULL, actor=Identity(worst, groups=(worst,) * 500), origin=Origin(*[worst] * 5), reason=worst,
        repository=worst, reference=worst, digest=worst, media_type=worst, manifests=(worst,) * 500, detail=worst,
    )  # fmt: skip
    assert len(records.encode(compose(event))) < 2**15


@pytest.mark.parametrize("letter", ["a", "é", "日", "🙂", "\x00", '"', "\ud800", "\u202e"])
def test_what_a_stranger_writes_is_bounded_to_some_kilobytes(letter: str) -> None:
    """A review of a Pod, as large as a body may be."""
    worst = letter * 100_000
    actor = Identity(worst, Method.REVIEW, uid=worst, groups=(worst,) * 1000)
    event = Event(
        Action.ADMISSION, Outcome.DENIED, actor=actor, origin=Origin("192.0.2.1", agent=worst), status=200,
        reason=worst, repository=worst, reference=worst, digest=worst, detail=worst,
        workload=Workload(worst, pod=worst),
    )  # fmt: skip
    text = records.encode(compose(event))
    assert len(text) < 6 * 1024
    assert text.count("…".encode()) >= 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"action":"pull"}',
        '{"action":"pull","outcome":"ok","sequence":1,"time":"t","unknown":1,"writer":"w"}',
        '{"action":"pull","outcome":"ok","sequence":"1","time":"t","writer":"w"}',
        '{"action":"pull","outcome":"ok","sequence":1,"time":"t","writer": "w"}',
        '{"outcome":"ok","action":"pull","sequence":1,"time":"t","writer":"w"}',
        '{"action":"pull","count":1,"outcome":"ok","sequence":1,"time":"t","writer":"w"}',
        '{"action":"x","action":"pull","outcome":"ok","sequence":1,"time":"t","writer":"w"}',
        '{"action":"pull","outcome":"ok","sequence":1,"time":"t","writer":"w"}\n',
        '{"action":"\\u0070ull","outcome":"ok","sequence":1,"time":"t","writer":"w"}',
    ],
)
def test_record_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        records.decode(text)
