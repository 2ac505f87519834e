"""Measure Trow beside its peers: `python -m bench [--only CASE,CASE] [--rounds N] [--quick] [--output FILE]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from bench import servers
from bench.cases import (
    access,
    admission,
    audit_search,
    blob_get,
    blob_push,
    crowds,
    images,
    lists,
    manifest_get,
    manifest_head,
    memory,
    pulls,
    start,
    tls,
)
from bench.machine import describe
from bench.measure import QUICK, Case, Setting, Sizes
from bench.report import markdown
from bench.tools import tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Result

CASES = {
    module.CASE.name: module.CASE
    for module in (
        manifest_get,
        manifest_head,
        access,
        admission,
        pulls,
        blob_get,
        blob_push,
        images,
        lists,
        audit_search,
        memory,
        start,
        tls,
        crowds,
    )
}
REPORT = Path("docs/benchmarks.md")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Trow beside its peers.")
    parser.add_argument("--only", type=_cases, default=list(CASES.values()), help=f"some of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each case (default 5)")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to try the harness; the report goes to stdout"
    )
    parser.add_argument("--output", type=Path, help=f"the report (default {REPORT}; stdout with --only or --quick)")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"), help="folder on the disk to measure on")
    return parser.parse_args(arguments)


def _cases(names: str) -> list[Case]:
    unknown = set(names.split(",")) - set(CASES)
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return [CASES[name] for name in names.split(",")]


def measure(options: argparse.Namespace, scratch: Path) -> tuple[list[tuple[Case, list[Result]]], list[str]]:
    """What was measured, and the names of the cases that failed: minutes of measuring are not lost for one of them."""
    setting = Setting(scratch, options.rounds, QUICK if options.quick else Sizes())
    measured, failed = [], []
    for case in options.only:
        print(f"{case.name}", flush=True)
        began = time.monotonic()
        try:
            measured.append((case, case.run(setting)))
        except Exception:  # noqa: BLE001 - whatever it was
            traceback.print_exc()
            failed.append(case.name)
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return measured, failed


def facts(scratch: Path) -> list[tuple[str, str]]:
    contenders = (servers.Trow, servers.Distribution, servers.Nginx)
    wrk = servers.output([str(tool("wrk")), "-v"]).split()[1]
    return [*describe(scratch), *((each.name, each.version()) for each in contenders), ("wrk", wrk)]


def main(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="trow-bench-", dir=options.scratch) as folder:
        measured, failed = measure(options, Path(folder))
        report = markdown(" ".join(["python -m bench", *arguments]), facts(Path(folder)), measured)
    if options.quick:
        report = "QUICK: small sizes, no result\n\n" + report
    partial = options.quick or bool(failed) or len(options.only) < len(CASES)
    output = options.output or (None if partial else REPORT)
    if output is None or options.quick:
        print(report)
    else:
        output.write_text(report)
        print(f"written to {output}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; measure these again with --only")


if __name__ == "__main__":
    main(sys.argv[1:])
