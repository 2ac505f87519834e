"""`trow audit` on trails in a data directory, also while they are written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from support.clock import Clock
from support.trails import NOW, digest, full, name_of, read, sql, texts
from support.waiting import until
from trow.access.identity import Identity, Method
from trow.audit import chain, queries
from trow.audit import record as records
from trow.audit.keys import SigningKey
from trow.audit.retention import Retention
from trow.audit.sinks import FileSink
from trow.audit.store import AuditStore, WriteBatch
from trow.audit.trail import AuditTrail
from trow.cli import audit
from trow.cli.parser import Parser
from trow.registry.events import Action, Event, Origin, Outcome

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with four records: three pulls and a push that was denied."""
    folder = tmp_path / "data"
    folder.mkdir()
    clock = Clock(NOW)
    trail = AuditTrail(folder / "audit.db", SigningKey.load_or_make(folder / "keys" / "audit.pem"), clock=clock)
    trail.add_sink(FileSink(folder / "audit.jsonl"))
    for number in (1, 2, 1):
        trail.record(full(number))
        clock.now += 1
    robot = Identity("robot:ci\x1b[31m", Method.ROBOT)
    trail.record(
        Event(Action.PUSH, Outcome.DENIED, actor=robot, origin=Origin("10.1.1.1"), status=403, repository="team-b/app")
    )
    trail.close()
    return folder


class Ran:
    """What a command has answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.lines = out.splitlines()


@pytest.fixture
def trow(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(data.parent)

    def run(command: str, *arguments: str, folder: Path = data) -> Ran:
        parser = Parser(prog="trow")
        audit.add(parser.add_subparsers(required=True))
        args = parser.parse_args(["audit", command, "--data-dir", str(folder), *arguments])
        code = args.run(args)
        return Ran(code, *capsys.readouterr())

    return run


# search


def test_search_shows_a_table_newest_first(trow: Any) -> None:
    ran = trow("search")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0].split() == [
        "TIME", "ACTION", "OUTCOME", "COUNT", "USER", "METHOD", "WORKLOAD", "IMAGE", "DIGEST", "BYTES"
    ]  # fmt: skip
    assert [line.split()[1] for line in ran.lines[1:]] == ["push", "pull", "pull", "pull"]
    assert ran.lines[4].split() == [
        "2023-11-14T22:13:20.250000Z", "pull", "ok", "2", "system:serviceaccount:team-a:builder", "kubernetes",
        "team-a/pod-1@node-1",
        "team-a/app-1:v1", digest(1)[:19], "4000",
    ]  # fmt: skip


def test_what_clients_write_is_no_command_to_the_terminal(trow: Any) -> None:
    assert "\x1b" not in trow("search").out
    assert "robot:ci?[31m" in trow("search").out


def test_a_name_that_is_only_said_is_marked(trow: Any, data: Path) -> None:
    trail = AuditTrail(data / "audit.db", SigningKey.load(data / "keys" / "audit.pem"))
    trail.record(Event(Action.ADMISSION, Outcome.DENIED, actor=Identity("alice", Method.REVIEW), count=12))
    trail.close()
    row = trow("search", "--user", "alice").lines[1].split()
    assert row[1:6] == ["admission", "denied", "12", "alice", "unproven"]
    actor = msgspec.json.decode(trow("search", "--user", "alice", "--json").out)["actor"]
    assert actor == {"user": "alice", "method": "review", "unproven": True}


TERMINAL = "\x9b31m\u202etxt\u2028\u2066\x7f"


@pytest.fixture
def hostile(data: Path) -> str:
    """A digest that was pulled by somebody whose every name is a command to a terminal."""
    actor = Identity(TERMINAL, Method.OIDC, groups=(TERMINAL,))
    trail = AuditTrail(data / "audit.db", SigningKey.load(data / "keys" / "audit.pem"))
    trail.add_sink(FileSink(data / "audit.jsonl"))
    origin = Origin(TERMINAL, agent=TERMINAL)
    trail.record(Event(Action.PULL, actor=actor, origin=origin, repository="a/b", reference="v1", digest=digest(99)))
    trail.close()
    return digest(99)


def test_nothing_that_a_terminal_obeys_is_printed_in_any_form(trow: Any, data: Path, hostile: str) -> None:
    printed = [
        trow("search", "--json"), trow("search"), trow("who-runs", hostile), trow("who-runs", hostile, "--json")
    ]  # fmt: skip
    for ran in printed:
        assert all(each.isprintable() for each in ran.out.replace("\n", "")), ran.out
    assert TERMINAL.encode() not in (data / "audit.jsonl").read_bytes()
    assert (data / "audit.jsonl").read_text().replace("\n", "").isprintable()


def test_escaped_json_is_the_record_that_was_hashed(trow: Any, data: Path, hostile: str) -> None:
    (line,) = trow("search", "--json", "--digest", hostile).lines
    assert records.encode(msgspec.json.decode(line, type=records.Record)).decode() in texts(data / "audit.db")
    assert trow("verify", "--file", str(data / "audit.jsonl")).code == 0


def test_a_line_that_is_escaped_in_another_way_is_found(trow: Any, data: Path, hostile: str) -> None:
    path = data / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\\u009b", b"\\u009B", 1))
    assert trow("verify", "--file", str(path)).lines[0].startswith("ALTERED")


@pytest.mark.parametrize("name", ["audit.db", "notes.txt"])
def test_file_in_which_nothing_is_a_record_is_not_called_altered(trow: Any, data: Path, name: str) -> None:
    (data / "notes.txt").write_text("# Notes\n\n{}\n")
    ran = trow("verify", "--file", str(data / name))
    assert (ran.code, ran.out) == (2, "")
    assert f"{name} is not an audit record; give the file that audit.file names" in ran.err


def test_record_of_which_only_some_lines_are_left_is_altered(trow: Any, data: Path) -> None:
    path = data / "audit.jsonl"
    path.write_bytes(b"x" * 9 + b"\n" + path.read_bytes().partition(b"\n")[2])
    ran = trow("verify", "--file", str(path))
    assert ran.code == 1
    assert ran.lines[0].startswith("ALTERED: record 1 ")


def test_as_many_records_are_printed_as_were_asked_for(trow: Any, data: Path) -> None:
    many = Event(Action.PULL, repository="team-c/app", reference="v1", digest=digest(7))
    trail = AuditTrail(data / "audit.db", SigningKey.load(data / "keys" / "audit.pem"))
    for _ in range(2_345):
        trail.record(many)
    trail.close()
    ran = trow("search", "--json", "--limit", "5000", "--repo", "team-c/app")
    assert (len(ran.lines), ran.err) == (2_345, "")
    assert len(trow("search", "--limit", "2000", "--repo", "team-c/app").lines) == 2_001


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_search_that_was_cut_says_how_to_go_on(trow: Any, form: list[str]) -> None:
    ran = trow("search", "--limit", "3", *form)
    assert ran.err.startswith("there are more; go on with --last ")
    rest = trow("search", "--json", "--last", ran.err.split()[7].removesuffix(","))
    assert [msgspec.json.decode(line)["sequence"] for line in rest.lines] == [1]
    assert rest.err == ""


def test_who_runs_says_when_there_are_more(trow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MOST_WORKLOADS", 1)
    assert "there are more" in trow("who-runs", digest(1)).err


@pytest.mark.parametrize("flags", [[], ["--json", "--limit", "1"]])
def test_search_over_a_damaged_record_says_what_to_do(trow: Any, data: Path, flags: list[str]) -> None:
    sql(data / "audit.db", "UPDATE record SET content = CAST(x'7bff' AS TEXT)")
    ran = trow("search", *flags)
    assert ran.code == 2
    assert "trow audit verify tells which" in ran.err


def test_verify_names_a_damaged_record(trow: Any, data: Path) -> None:
    sql(data / "audit.db", "UPDATE record SET content = CAST(x'7bff' AS TEXT) WHERE sequence = 2")
    ran = trow("verify")
    assert ran.code == 1
    assert ran.lines[0].startswith("ALTERED: record 2 of writer ")


@pytest.mark.parametrize(
    ("flags", "sequences"),
    [
        (["--repo", "team-a/app-1"], [3, 1]),
        (["--repo", "team-a/*"], [3, 2, 1]),
        (["--user", "system:serviceaccount:team-a:builder"], [3, 2, 1]),
        (["--namespace", "team-a"], [3, 2, 1]),
        (["--digest", digest(1001)], [3, 1]),
        (["--action", "push"], [4]),
        (["--outcome", "denied", "--repo", "team-b/*"], [4]),
        (["--since", "2023-11-14T22:13:22Z"], [4, 3]),
        (["--until", "2023-11-14T22:13:22Z"], [2, 1]),
        (["--since", "24h"], []),
        (["--limit", "2"], [4, 3]),
    ],
)
def test_search_by(trow: Any, data: Path, flags: list[str], sequences: list[int]) -> None:
    ran = trow("search", "--json", *flags)
    assert ran.code == 0
    assert ran.lines == [texts(data / "audit.db")[sequence - 1] for sequence in sequences]


def test_search_says_when_there_is_more(trow: Any) -> None:
    assert trow("search", "--limit", "2").err.startswith("there are more; go on with --last ")


@pytest.mark.parametrize(
    "flags", [["--repo", "A"], ["--digest", "1"], ["--since", "x"], ["--limit", "x"], ["--limit", "0"]]
)
def test_search_that_is_not_understood_is_refused(trow: Any, flags: list[str]) -> None:
    ran = trow("search", *flags)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("trow: error: ")


@pytest.mark.parametrize("command", [["search"], ["verify"], ["who-runs", digest(1)], ["anchor"]])
def test_directory_without_a_trail_is_named(trow: Any, tmp_path: Path, command: list[str]) -> None:
    ran = trow(*command, folder=tmp_path)
    assert ran.code == 2
    assert str(tmp_path) in ran.err


def test_commands_work_while_the_trail_is_written(trow: Any, data: Path) -> None:
    with contextlib.closing(AuditTrail(data / "audit.db", SigningKey.load(data / "keys" / "audit.pem"))) as trail:
        trail.record(full(9))
        assert trow("search").code == trow("verify").code == trow("anchor").code == 0


# who-runs


def test_who_runs_lists_workloads(trow: Any) -> None:
    ran = trow("who-runs", digest(1))
    assert ran.code == 0
    (line,) = ran.lines[1:]
    assert line.split() == [
        "team-a", "builder", "pod-1", "node-1", "system:serviceaccount:team-a:builder", "-", "team-a/app-1:v1",
        "2023-11-14T22:13:20.250000Z", "2023-11-14T22:13:22.250000Z", "4",
    ]  # fmt: skip
    assert "who pulled it" in ran.err
    assert trow("who-runs", digest(2002)).lines[1].split()[2] == "pod-2"


def test_who_runs_as_json(trow: Any) -> None:
    (line,) = trow("who-runs", digest(1), "--json").lines
    assert msgspec.json.decode(line)["node"] == "node-1"


def test_who_runs_wants_a_digest(trow: Any) -> None:
    assert trow("who-runs", "v1").code == 2


# verify and anchor


def test_verify_finds_nothing_in_a_trail_as_it_was_written(trow: Any) -> None:
    ran = trow("verify")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[-1] == "records checked: 4, checkpoints: 1"


def test_verify_tells_what_was_removed_by_rule(trow: Any, data: Path) -> None:
    key = SigningKey.load(data / "keys" / "audit.pem")
    with contextlib.closing(AuditStore(data / "audit.db")) as store:
        last = store.checkpoint_up_to(store.name, 4)
        assert last is not None
        store.commit(WriteBatch(trims=[chain.trim(last, "2026-01-31T08:00:00.000000Z", key)]))
    trail = AuditTrail(data / "audit.db", key)
    trail.record(full(5))
    until(lambda: sql(data / "audit.db", "SELECT min(sequence) FROM record") == [(5,)])
    trail.close()
    ran = trow("verify")
    assert ran.code == 0
    assert ran.lines[0].endswith(": records 1 to 4 were removed by rule")
    sql(data / "audit.db", "DELETE FROM trim")
    assert trow("verify").code == 1


def test_verify_names_what_was_altered(trow: Any, data: Path) -> None:
    writer = read(data / "audit.db")[0].writer
    sql(data / "audit.db", "UPDATE record SET content = replace(content, 'pod-2', 'pod-3') WHERE sequence = 2")
    ran = trow("verify")
    assert ran.code == 1
    assert ran.lines[0].startswith(f"ALTERED: record 2 of writer {writer} was altered")


def test_anchor_is_what_verify_takes(trow: Any, data: Path, tmp_path: Path) -> None:
    ran = trow("anchor")
    anchor, *pem = ran.lines
    last = read(data / "audit.db")[-1]
    assert anchor == f"{last.writer}:4:{last.hash}"
    public = tmp_path / "audit.pub"
    public.write_text("\n".join(pem) + "\n")
    kept = tmp_path / "anchor.txt"
    kept.write_text(ran.out)
    for flags in ([], ["--file", str(data / "audit.jsonl")]):
        assert trow("verify", "--public-key", str(public), "--anchor", anchor, *flags).code == 0
        assert trow("verify", "--public-key", str(public), "--anchor", str(kept), *flags).code == 0
    for table in ("record", "record_digest", "checkpoint"):
        sql(data / "audit.db", f"DELETE FROM {table} WHERE sequence > 2")
    assert trow("verify").code == 0
    assert trow("verify", "--public-key", str(public), "--anchor", anchor).code == 1
    assert trow("verify", "--public-key", str(kept), "--anchor", str(kept)).code == 1


def test_there_is_an_anchor_for_every_part_of_the_record(trow: Any, data: Path, tmp_path: Path) -> None:
    trail = AuditTrail(data / "audit.db", SigningKey.load(data / "keys" / "audit.pem"))
    trail.record(Event(Action.ADMISSION, Outcome.DENIED, actor=Identity("alice", Method.REVIEW)))
    trail.record(Event(Action.LOGIN, Outcome.DENIED))
    trail.close()
    kept = tmp_path / "anchor.txt"
    kept.write_text(trow("anchor").out)
    name = name_of(data / "audit.db")
    found = {line.split(":")[0] for line in kept.read_text().splitlines() if line.startswith(name)}
    assert found == {name, f"{name}.anonymous", f"{name}.reviews"}
    flags = ("verify", "--public-key", str(kept), "--anchor", str(kept))
    assert trow(*flags).code == 0
    for table in ("record", "checkpoint"):
        sql(data / "audit.db", f"DELETE FROM {table} WHERE writer LIKE '%.reviews'")
    ran = trow(*flags)
    assert ran.code == 1
    assert ran.lines[0].startswith(f"ALTERED: record 1 of writer {name}.reviews is missing")


def test_verify_refuses_a_file_without_anchors(trow: Any, tmp_path: Path) -> None:
    empty = tmp_path / "anchor.txt"
    empty.write_text("-----BEGIN PUBLIC KEY-----\n")
    assert "has no anchor in it" in trow("verify", "--anchor", str(empty)).err


@pytest.mark.slow
def test_verify_says_of_each_part_what_was_removed(trow: Any, data: Path) -> None:
    key = SigningKey.load(data / "keys" / "audit.pem")
    trail = AuditTrail(data / "audit.db", key, retention=Retention(most_bytes=2**20))
    for number in range(1000):
        origin = Origin(f"10.0.{number >> 8}.{number & 255}")
        trail.record(Event(Action.LOGIN, Outcome.DENIED, origin=origin, reason="x" * 900))
    until(lambda: sql(data / "audit.db", "SELECT count(*) FROM trim") == [(1,)])
    trail.close()
    ran = trow("verify")
    name = name_of(data / "audit.db")
    assert ran.code == 0
    ((first,),) = sql(data / "audit.db", "SELECT sequence FROM trim")
    assert f"writer {name}.anonymous (anonymous): records 1 to {first - 1} were removed by rule" in ran.lines
    assert f"writer {name} (effects): records 1 to 4, signed up to 4" in ran.lines


def test_verify_with_somebody_elses_key_finds_an_unknown_one(trow: Any, tmp_path: Path) -> None:
    public = tmp_path / "other.pub"
    public.write_text(SigningKey.load_or_make(tmp_path / "other.pem").public.pem)
    ran = trow("verify", "--public-key", str(public))
    assert ran.code == 1
    assert "unknown key" in ran.out


def test_verify_says_when_it_could_not_check_everything(trow: Any, data: Path) -> None:
    (data / "keys" / "audit.pem").unlink()
    ran = trow("verify")
    assert ran.code == 2
    assert "not checked: there is no public key" in ran.out


@pytest.mark.parametrize("flags", [["--anchor", "x"], ["--public-key", "none"], ["--file", "none"]])
def test_verify_that_cannot_begin(trow: Any, flags: list[str]) -> None:
    ran = trow("verify", *flags)
    assert ran.code == 2
    assert ran.err.startswith("trow: error: ")


def test_verify_of_a_file_names_the_line(trow: Any, data: Path) -> None:
    file = data / "audit.jsonl"
    assert trow("verify", "--file", str(file)).code == 0
    file.write_text(file.read_text().replace("pod-2", "pod-3"))
    ran = trow("verify", "--file", str(file))
    assert ran.code == 1
    assert "(audit.jsonl line 2)" in ran.lines[0]


def test_trail_without_a_checkpoint_has_no_anchor(trow: Any, data: Path) -> None:
    sql(data / "audit.db", "DELETE FROM checkpoint")
    ran = trow("anchor")
    assert ran.code == 2
    assert "no checkpoint yet" in ran.err
