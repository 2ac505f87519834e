"""`trow policy simulate`: what would break if a policy were on."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

from trow.cli import options
from trow.cli.printing import aligned, exit_code, failed, note, say
from trow.config import Size
from trow.lib.errors import StartError
from trow.policy.pods import UnreadableObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.cli.parser import Parser
    from trow.policytools.simulate import Simulation

EPILOG: Final = """\
exit code: 0 nothing would break, 1 something would, 2 it could not be decided or read; 1 wins over 2

Nothing in the cluster is changed. A Pod that runs goes on; it would not start again. What is scaled to nothing,
suspended or finished is passed over.

examples:
  trow policy simulate -f policies/
  kubectl get -A -o json namespaces,pods,deployments,replicasets,statefulsets,daemonsets,jobs,cronjobs > cluster.json
  trow policy simulate -f policies/ --from cluster.json
"""
_LARGEST: Final = Size(2**30)
_HEADS: Final = ("VERDICT", "NAMESPACE", "WORKLOAD", "IMAGE", "POLICY", "RULE", "PODS")


def add(parser: Parser) -> None:
    parser.add_argument(
        "--from",
        dest="dumps",
        metavar="DUMP",
        action="append",
        help="the output of `kubectl get -A -o json`, - is standard input; may be repeated (default: ask the cluster)",
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        default=_LARGEST,
        help=f"largest dump that is read, as a number of bytes or with a unit (default: {_LARGEST.text})",
    )
    options.add_cluster(parser)


def _size(text: str) -> Size:
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write {Size.form}") from None


def run(args: argparse.Namespace) -> int:
    # The engines are loaded only when they are needed.
    from trow.policytools.dumps import dumped  # noqa: PLC0415
    from trow.policytools.evaluation import namespace_of  # noqa: PLC0415
    from trow.policytools.judging import OfflineJudge  # noqa: PLC0415
    from trow.policytools.loading import policies_from  # noqa: PLC0415
    from trow.policytools.simulate import from_cluster, simulate  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        policies = policies_from(args.policies, args.namespace)
        documents = (
            dumped(args.dumps, args.max_size, _progress) if args.dumps else from_cluster(args.kubeconfig, args.context)
        )
        judge = OfflineJudge(policies.rules, time.time(), policies.settings)
        found = simulate(documents, judge, policies, args.namespace)
    except (StartError, UnreadableObject) as error:
        return failed(error)
    for unknown_kinds in found.evaluation.unknown_kinds:
        note(f"trow: warning: {unknown_kinds}")
    say(*_lines(found))
    return exit_code(found.evaluation.outcome)


def _progress(how_far: str) -> None:
    note(f"trow: {how_far}")


def _lines(found: Simulation) -> Iterator[str]:
    rows = [
        (
            each.outcome.value,
            each.namespace,
            each.workload,
            each.image,
            each.result.finding.policy,
            each.result.finding.rule,
            str(each.pods),
        )
        for each in found.breakages
    ]
    if rows:
        yield from aligned([_HEADS, *rows])
        yield ""
        yield from dict.fromkeys(f"{each.namespace} {each.workload}: {each.result.finding}" for each in found.breakages)
        yield ""
    for unreadable in found.evaluation.unreadable:
        yield f"cannot be read: {unreadable}"
    workloads = "workload" if found.workloads == 1 else "workloads"
    idle = f"; passed over, for they run nothing: {found.idle}" if found.idle else ""
    yield f"{found.broken} of {found.workloads} {workloads} would not start again{idle}"
