"""`trow fsck`: compare what is stored with its digests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from trow.cli import options
from trow.cli.parser import command
from trow.cli.printing import EXIT_NO, EXIT_OK, failed, say, say_json
from trow.lib.datadir import DataDirectoryError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from trow.cli.parser import Commands
    from trow.registry.fsck import FsckReport

_EXAMPLES = """\
exit code: 0 nothing found, 1 problems found, 2 the check could not run

examples:
  trow fsck --data-dir ./data                  report what does not match its digest
  trow fsck --data-dir ./data --quarantine     and move it out of the way
"""


def add(commands: Commands) -> None:
    description = (
        "Read every stored blob and manifest and compare it with its digest. Damage does not stop the check: what a"
        " damaged database still holds is read around the damage."
    )
    summary = "check every stored blob and manifest against its digest"
    parser = command(commands, "fsck", summary, run, description, _EXAMPLES)
    options.add_data_dir(parser)
    parser.add_argument(
        "--quarantine",
        action="store_true",
        help="move what does not match to DIR/quarantine, and remove names that point at nothing",
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def run(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import fsck  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        report = fsck(config, quarantine=args.quarantine, progress=_progress)
    except (DataDirectoryError, OSError) as error:
        return failed(error)
    if args.json:
        say_json(msgspec.json.encode(report).decode())
    else:
        say(*_summary(report))
    return EXIT_NO if report.problems else EXIT_OK


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _summary(report: FsckReport) -> Sequence[str]:
    lines = [*report.problems, f"blobs and manifests checked: {report.checked}, problems: {len(report.problems)}"]
    if report.quarantined:
        lines.append(f"moved to quarantine: {report.quarantined}; push them again")
    if report.removed:
        lines.append(f"names that pointed at nothing, removed: {report.removed}")
    if report.unreferenced:
        lines.append(f"files that no repository knows: {report.unreferenced}; they only take space")
    return lines
