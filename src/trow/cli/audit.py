"""`trow audit`: search the audit trail, see who runs an image, verify that nobody has changed the trail."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trow.audit import database, keys, queries
from trow.audit import record as records
from trow.audit.chain import Head, part_name
from trow.audit.errors import AuditError
from trow.audit.queries import (
    DEFAULT_LIMIT,
    MOST_WORKLOADS,
    Query,
    image_of,
    opened,
    pages,
    read_limit,
    who_runs,
)
from trow.audit.verify import verify_database, verify_files
from trow.cli import options
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_FAILED, EXIT_NO, EXIT_OK, aligned, cut, failed, note, say, say_json
from trow.lib import times
from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid, RequestInvalid

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from trow.audit.checks import VerificationReport
    from trow.audit.keys import PublicKey
    from trow.audit.queries import Found
    from trow.audit.record import Record
    from trow.cli.parser import Commands

_FILTERS: Final = {
    "repository": ("--repo", "NAME", "a repository, or 'team-a/*' for all below team-a"),
    "user": ("--user", "USER", "the user who did it"),
    "namespace": ("--namespace", "NS", "the namespace of the workload that did it"),
    "digest": ("--digest", "DIGEST", "a manifest, or one of the platforms pulled with it"),
    "action": ("--action", "ACTION", "what was done, such as pull, push, tag.delete"),
    "outcome": ("--outcome", "OUTCOME", "how it ended: ok, intent, denied, failed"),
    "since": ("--since", "TIME", "not before this time, such as 2026-01-31T08:00:00Z, or how long ago, such as 24h"),
    "until": ("--until", "TIME", "before this time; written in the same way"),
    "last": ("--last", "POSITION", "continue after this position, as the page before printed it"),
    "n": ("--limit", "N", "how many records at most (default 100)"),
}
_LONGEST_CELL: Final = 60
# Where the public key begins in what `anchor` prints, and how long that can be.
_PEM: Final = "-----BEGIN"
_LONGEST_FILE: Final = 64 * 1024
_SHORT_DIGEST: Final = len("sha256:") + 12

_SEARCH: Final = """\
examples:
  trow audit search --since 24h --outcome denied
  trow audit search --repo 'team-a/*' --action push --json
"""
_VERIFY: Final = """\
exit code: 0 intact, 1 altered, 2 not checked

Signatures are checked with the key in the data directory unless --public-key is given. Whoever can
change the trail can often change that key as well: keep what trow audit anchor prints elsewhere. Each part of the
trail has its own writer and chain; what was removed by rule is listed for each.

examples:
  trow audit verify --data-dir ./data --public-key anchor.txt --anchor anchor.txt
  trow audit verify --public-key audit.pub --file audit.jsonl audit.jsonl.1
"""


def add(commands: Commands) -> None:
    parts = group(commands, "audit", "search and verify the audit trail")
    _add_search(parts)
    _add_verify(parts)
    who = command(parts, "who-runs", "list the workloads that pulled an image, from the record", _run_who_runs)
    options.add_data_dir(who)
    who.add_argument("digest", metavar="DIGEST", help="of the manifest, the index or one of its platforms")
    who.add_argument("--json", action="store_true", help="print JSON lines")
    kept = "print the last record of each chain and the public key, to keep elsewhere"
    anchor = command(parts, "anchor", kept, _run_anchor)
    options.add_data_dir(anchor)


def _add_search(parts: Commands) -> None:
    parser = command(parts, "search", "list records, the newest first", _run_search, epilog=_SEARCH)
    options.add_data_dir(parser)
    for name, (flag, metavar, what) in _FILTERS.items():
        parser.add_argument(flag, dest=f"filter_{name}", metavar=metavar, help=what)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the records as JSON lines; characters that are not printable are escaped",
    )


def _add_verify(parts: Commands) -> None:
    summary = "find the first record that was altered, removed or moved"
    parser = command(parts, "verify", summary, _run_verify, epilog=_VERIFY)
    options.add_data_dir(parser)
    parser.add_argument(
        "--public-key", metavar="FILE", type=Path, action="append", help="the key of the checkpoints; may be repeated"
    )
    parser.add_argument(
        "--anchor",
        metavar="W:S:H",
        action="append",
        default=[],
        help="a record that must exist, or a file with the output of trow audit anchor; may be repeated",
    )
    parser.add_argument(
        "--file", metavar="FILE", type=Path, nargs="+", help="check these files of JSON lines instead of the database"
    )


# ---- search


def _run_search(args: argparse.Namespace) -> int:
    given = {name: text for name in _FILTERS if (text := getattr(args, f"filter_{name}")) is not None}
    try:
        most = read_limit(given.pop("n", str(DEFAULT_LIMIT)))
        query = Query.parse(given, times.microseconds(time.time()))
        with opened(_directory(args) / database.FILE_NAME) as connection:
            last = (_show_json if args.json else _show_table)(pages(connection, query, most))
    except (RequestInvalid, AuditError) as error:
        return failed(error)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return failed("a record was damaged and cannot be read; trow audit verify tells which")
    except ValueError as error:
        return failed(error)
    if last.more:
        note(f"there are more; go on with --last {last.last}, or raise --limit, or narrow the search")
    return EXIT_OK


def _show_json(found: Iterable[Found]) -> Found:
    """Print each page as it is found, and return the last one."""
    for page in found:
        for record in page.records:
            say_json(record)
    return page


def _show_table(found: Iterable[Found]) -> Found:
    rows: list[Sequence[str]] = []
    for page in found:
        rows += [_cells(records.read(text)) for text in page.records]
    say(*_table(_HEADS, rows))
    return page


_HEADS: Final = ("TIME", "ACTION", "OUTCOME", "COUNT", "USER", "METHOD", "WORKLOAD", "IMAGE", "DIGEST", "BYTES")
# Shown as the method where nothing proves the user name.
UNPROVEN: Final = "unproven"


def _cells(record: Record) -> Sequence[str]:
    return (
        record.time,
        record.action,
        record.outcome,
        str(record.count),
        record.actor.user if record.actor is not None else "",
        _method(record),
        _place(record.workload or records.RecordedWorkload()),
        image_of(record),
        record.digest[:_SHORT_DIGEST],
        str(record.bytes or ""),
    )


def _method(record: Record) -> str:
    if record.actor is None:
        return ""
    return UNPROVEN if record.actor.only_said else record.actor.method


def _place(place: records.RecordedWorkload) -> str:
    name = f"{place.namespace}/{place.pod or place.service_account}" if place.namespace else ""
    return f"{name}@{place.node}" if place.node else name


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    return aligned([heads, *([cut(text, _LONGEST_CELL) or "-" for text in row] for row in rows)])


# ---- who-runs


def _run_who_runs(args: argparse.Namespace) -> int:
    try:
        digest = Digest.parse(args.digest)
        with opened(_directory(args) / database.FILE_NAME) as connection:
            found, more = who_runs(connection, digest)
    except (DigestInvalid, AuditError, ValueError) as error:
        return failed(error)
    if more:
        note(f"there are more: only the last {MOST_WORKLOADS} are listed")
    if args.json:
        for each in found:
            say_json(msgspec.json.encode(each).decode())
        return EXIT_OK
    heads = ("NAMESPACE", "SERVICE ACCOUNT", "POD", "NODE", "USER", "ADDRESS", "IMAGE", "FIRST", "LAST", "PULLS")
    rows = [
        (w.namespace, w.service_account, w.pod, w.node, w.user, w.address, w.image, w.first, w.last, str(w.count))
        for w in found
    ]
    say(*_table(heads, rows))
    note("from the record: who pulled it; a node that has an image already starts it without a pull")
    return EXIT_OK


# ---- verify and anchor


def _run_verify(args: argparse.Namespace) -> int:
    try:
        anchors = [anchor for text in args.anchor for anchor in _anchors(text)]
        known = _public_keys(args)
        if args.file:
            report = verify_files(args.file, known, anchors)
        else:
            report = verify_database(_directory(args) / database.FILE_NAME, known, anchors)
    except PermissionError:
        raise
    except (ValueError, AuditError, OSError) as error:
        return failed(error)
    say(*_summary(report))
    if report.problem is not None:
        return EXIT_NO
    return EXIT_FAILED if report.unchecked else EXIT_OK


def _anchors(text: str) -> Sequence[Head]:
    """One that is written out, or those of a file, one for each part of the record."""
    path = Path(text)
    if ":" in text or not path.exists():
        return [Head.parse(text)]
    lines = path.read_text("ascii", "replace")[:_LONGEST_FILE].partition(_PEM)[0].split()
    if not lines:
        raise AuditError(f"{path} has no anchor in it; give what trow audit anchor printed")
    return [Head.parse(line) for line in lines]


def _public_keys(args: argparse.Namespace) -> Mapping[str, PublicKey]:
    if args.public_key:
        found = [keys.PublicKey.load(path) for path in args.public_key]
    else:
        path = _directory(args) / keys.KEY_FILE
        found = [keys.SigningKey.load(path).public] if path.exists() else []
    return {key.id: key for key in found}


def _summary(report: VerificationReport) -> Iterable[str]:
    if report.problem is not None:
        yield f"ALTERED: {report.problem}"
    for found in report.chains:
        who = f"writer {found.writer} ({part_name(found.writer)})"
        if found.retained > 1:
            yield f"{who}: records 1 to {found.retained - 1} were removed by rule"
        if found.removed:
            yield f"{who}: {found.removed} further records were removed by rule, the oldest of whoever had most"
        yield f"{who}: records {found.first} to {found.last.sequence}, signed up to {found.covered}"
    for text in report.unchecked:
        yield f"not checked: {text}"
    yield f"records checked: {report.records}, checkpoints: {report.checkpoints}"


def _run_anchor(args: argparse.Namespace) -> int:
    directory = _directory(args)
    try:
        with opened(directory / database.FILE_NAME) as connection:
            key = keys.SigningKey.load(directory / keys.KEY_FILE)
            found = queries.anchors(connection)
    except AuditError as error:
        return failed(error)
    if not found:
        return failed("the trail has no checkpoint yet; try again in a minute")
    say(*map(str, found), *key.public.pem.splitlines())
    return EXIT_OK


def _directory(args: argparse.Namespace) -> Path:
    return options.resolved(args).config.data_dir
