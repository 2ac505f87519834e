"""Looking things up: every filter and all of them together, page by page, and who runs an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.trails import digest, sql, workload, write
from trow.access.identity import Identity, Method
from trow.audit import record as records
from trow.audit.queries import AuditQueries, Query, opened, search, who_runs
from trow.lib import times
from trow.oci.digest import Digest
from trow.oci.errors import RequestInvalid, Unavailable
from trow.registry.events import Action, Event, Origin, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from trow.audit.record import Record

NOW = 1_700_000_000_000_000
USERS = ["ada", "bob", "system:serviceaccount:team-a:builder"]
REPOSITORIES = ["team-a", "team-a/app", "team-a/app/base", "team-a0/app", "team-ab/app", "team/app", "b"]
ACTIONS = [Action.PULL, Action.PUSH, Action.TAG_DELETE]
OUTCOMES = [Outcome.OK, Outcome.DENIED]
COUNT = 120


def event(number: int) -> Event:
    user = USERS[number % 3]
    return Event(
        ACTIONS[number % 7 % 3],
        OUTCOMES[number % 5 == 0],
        actor=workload(number) if user.startswith("system") else Identity(user, Method.PASSWORD),
        origin=Origin(f"10.0.0.{number % 4}"),
        repository=REPOSITORIES[number % 11 % 7],
        reference="v1",
        digest=digest(number % 6) if number % 4 else "",
        manifests=(digest(number % 5), digest(number % 6)) if number % 3 else (),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    return write(folder / "audit.db", map(event, range(COUNT)), now=NOW / 1e6, step=0)


@pytest.fixture(scope="module")
def everything(path: Path) -> list[Record]:
    return [records.read(text) for (text,) in sql(path, "SELECT content FROM record ORDER BY at, sequence")][::-1]


def find(path: Path, **given: str) -> list[Record]:
    with opened(path) as connection:
        return [records.read(text) for text in search(connection, Query.parse(given | {"n": "1000"}, NOW)).records]


def wanted(record: Record, given: dict[str, str]) -> bool:
    """What the database is to do, in other words."""
    repository = given.get("repository", record.repository)
    facts = {
        "user": record.actor is not None and record.actor.user == given.get("user"),
        "action": record.action == given.get("action"),
        "outcome": record.outcome == given.get("outcome"),
        "namespace": record.workload is not None and record.workload.namespace == given.get("namespace"),
        "digest": given.get("digest") in (record.digest, *record.manifests),
        "repository": record.repository == repository
        or (repository.endswith("/*") and record.repository.startswith(repository[:-1])),
    }
    return all(facts[name] for name in given)


FILTERS = {
    "user": USERS,
    "action": [action.value for action in ACTIONS],
    "outcome": [outcome.value for outcome in OUTCOMES],
    "namespace": ["team-a", "team-b"],
    "digest": [digest(number) for number in range(7)],
    "repository": [*REPOSITORIES, "team-a/*", "team-a/app/*", "team/*"],
}
QUERIES = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in FILTERS.items()})


@pytest.mark.slow
@given(QUERIES)
@settings(max_examples=150)
def test_what_is_found_is_what_was_looked_for(path: Path, everything: list[Record], query: dict[str, str]) -> None:
    assert find(path, **query) == [record for record in everything if wanted(record, query)]


def test_prefix_with_many_records_finds_the_same(
    path: Path, everything: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trow.audit.queries._MANY", 1)
    found = find(path, repository="team-a/*")
    assert found == [record for record in everything if record.repository.startswith("team-a/")]
    assert find(path, repository="team-a/**") == found


def test_time_is_from_and_not_up_to(tmp_path: Path) -> None:
    path = write(tmp_path / "audit.db", [event(number) for number in range(10)], now=1000)
    found = find(path, since=times.precise(1_003_000_000), until=times.precise(1_006_000_000))
    assert [record.time for record in found] == [times.precise(second * 10**6) for second in (1005, 1004, 1003)]
    assert len(find(path, since="24h")) == 0
    assert len(find(path, until="24h")) == 10


@given(QUERIES, st.integers(1, 50))
@settings(max_examples=50)
def test_pages_are_the_whole_without_gap_or_repetition(path: Path, query: dict[str, str], limit: int) -> None:
    pages: list[Record] = []
    last = ""
    with opened(path) as connection:
        while True:
            given = query | {"n": str(limit)} | ({"last": last} if last else {})
            found = search(connection, Query.parse(given, NOW))
            pages += [records.read(text) for text in found.records]
            assert len(found.records) == limit or not found.more
            if not found.more:
                break
            last = found.last
    assert pages == find(path, **query)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"repo": "a"}, "'repo' is not something to search by"),
        ({"repository": "A"}, "repository: the repository name is invalid"),
        ({"repository": "team-*/app"}, "repository: .* at its end"),
        ({"repository": "*"}, "repository: .* at its end"),
        ({"repository": "a/*/b"}, "repository: .* at its end"),
        ({"user": ""}, "user: give 1 to 256 characters"),
        ({"namespace": "n" * 300}, "namespace: give 1 to 256 characters"),
        ({"digest": "sha256:1"}, "digest: not a digest"),
        ({"action": "pulled"}, "action: 'pulled' is not one of pull, "),
        ({"outcome": "OK"}, "outcome: 'OK' is not one of ok, "),
        ({"since": "yesterday"}, "since: 'yesterday' is not a time"),
        ({"until": "5"}, "until: '5' is not a time"),
        ({"last": "1-2"}, "last: last is not a position in the list"),
        ({"last": "a-b-c"}, "last: last is not a position in the list"),
        ({"n": "many"}, "n: 'many' is not a number"),
        ({"n": "-1"}, "n: '-1' is not a number"),
    ],
)
def test_query_that_is_not_understood_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestInvalid, match=message):
        Query.parse(given, NOW)


def test_more_records_than_a_page_may_have_are_not_given() -> None:
    for text in ("99999", "9" * 20, "0" * 20 + "1000"):
        assert Query.parse({"n": text}, NOW).limit == 1000
    assert Query.parse({}, NOW).limit == 100


def test_page_of_nothing_leads_nowhere(path: Path) -> None:
    with opened(path) as connection:
        assert search(connection, Query(limit=0)) == ([], False, "")


async def test_search_goes_on_while_records_are_written(path: Path) -> None:
    found = await AuditQueries(path).search({"n": "3"})
    assert len(found.records) == 3
    assert found.next


async def test_search_that_takes_too_long_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trow.audit.queries._STEPS_BETWEEN_LOOKS", 1)
    with pytest.raises(Unavailable, match="narrow it"):
        await AuditQueries(path, longest_seconds=0).search({})


async def test_trail_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        await AuditQueries(tmp_path / "audit.db").search({})


# Who runs an image


def pull(identity: Identity, image: str = "app:v1", address: str = "10.0.0.1", **members: Any) -> Event:
    repository, _, reference = image.partition(":")
    return Event(
        Action.PULL, actor=identity, origin=Origin(address), repository=repository, reference=reference,
        **{"digest": digest(1), "manifests": (digest(2),)} | members,
    )  # fmt: skip


def test_who_runs_an_image_is_told_by_pod_and_node(tmp_path: Path) -> None:
    robot = Identity("robot:ci", Method.ROBOT)
    events = [
        pull(workload(1)),
        pull(workload(2), address="10.0.0.2"),
        pull(robot, "app:v2", "192.0.2.1"),
        pull(workload(1), address="10.0.0.9"),  # the same pod
        pull(workload(3), digest=digest(9), manifests=(digest(1),)),  # as a platform of another index
        pull(workload(4), outcome=Outcome.DENIED),
        pull(workload(5), digest=digest(3), manifests=()),
        Event(Action.PUSH, actor=robot, repository="app", digest=digest(1)),
        Event(
            Action.PULL_BEGIN,
            Outcome.INTENT,
            actor=workload(6),
            repository="app",
            reference=digest(1),
            digest=digest(1),
        ),
    ]
    path = write(tmp_path / "audit.db", events, now=1)
    with opened(path) as connection:
        found, more = who_runs(connection, Digest.parse(digest(1)))
    assert not more
    assert [
        (each.pod, each.user, each.address, each.image, each.first[17:19], each.last[17:19], each.count)
        for each in found
    ] == [
        ("pod-6", "system:serviceaccount:team-a:builder", "", f"app@{digest(1)}", "09", "09", 0),
        ("pod-3", "system:serviceaccount:team-a:builder", "", "app:v1", "05", "05", 1),
        ("pod-1", "system:serviceaccount:team-a:builder", "", "app:v1", "01", "04", 2),
        ("", "robot:ci", "192.0.2.1", "app:v2", "03", "03", 1),
        ("pod-2", "system:serviceaccount:team-a:builder", "", "app:v1", "02", "02", 1),
    ]
    assert (found[2].namespace, found[2].service_account, found[2].node) == ("team-a", "builder", "node-1")


def test_nobody_runs_what_nobody_pulled(path: Path) -> None:
    with opened(path) as connection:
        assert who_runs(connection, Digest.parse(digest(99))) == ([], False)


def test_index_serves_the_searches_that_matter(path: Path) -> None:
    """Nothing is sorted and no table is read as a whole, so that the size of the trail does not matter."""
    queries = [
        {}, {"repository": "b"}, {"user": "ada"}, {"action": "push"}, {"outcome": "denied"}, {"namespace": "team-a"},
        {"digest": digest(1)}, {"repository": "b", "since": "24h"},
    ]  # fmt: skip
    with opened(path) as connection:
        seen: list[str] = []

        def note(_cursor: object, statement: str, _values: object) -> bool:
            seen.append(statement)
            return True

        connection.set_exec_trace(note)
        for given in queries:
            search(connection, Query.parse(given, NOW))
        connection.set_exec_trace(None)
        for statement in seen:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", [0] * statement.count("?")).fetchall()
            steps = [str(row[3]) for row in plan]
            assert any("INDEX" in step or "PRIMARY KEY" in step for step in steps), (statement, steps)
            assert "USE TEMP B-TREE FOR ORDER BY" not in steps, (statement, steps)
