"""`trow policy simulate`: what would break if a policy were on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.cli.printing import aligned, exit_code, failed, say
from trow.errors import StartError
from trow.lib.terminal import shown
from trow.policy.pods import UnreadableObject

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from trow.app.simulate import Simulation
    from trow.cli.parser import Parser

EPILOG: Final = """\
exit code: 0 nothing would break, 1 something would, 2 it could not be decided or read; 1 wins over 2

Nothing in the cluster is changed. A Pod that runs goes on; it would not start again.

examples:
  trow policy simulate -f policies/
  kubectl get -A -o json pods,deployments,replicasets,statefulsets,daemonsets,jobs,cronjobs > cluster.json
  trow policy simulate -f policies/ --from cluster.json
"""
_HEADS: Final = ("VERDICT", "NAMESPACE", "WORKLOAD", "IMAGE", "POLICY", "RULE", "OBJECTS")


def add(parser: Parser) -> None:
    parser.add_argument(
        "--from",
        dest="dumps",
        metavar="DUMP",
        action="append",
        help="what `kubectl get -A -o json` wrote, - is standard input; may be repeated; without it a live cluster",
    )
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="PATH", help="the cluster (default: $KUBECONFIG, or ~/.kube/config)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # The engines are loaded only when they are needed.
    from trow.app.judging import Judge  # noqa: PLC0415
    from trow.app.policies import policies_from  # noqa: PLC0415
    from trow.app.simulate import from_cluster, from_files, simulated  # noqa: PLC0415
    from trow.app.trial import namespace_of  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        policies = policies_from(args.policies, args.namespace)
        documents = from_files(args.dumps) if args.dumps else from_cluster(args.kubeconfig or _kubeconfig())
        judge = Judge(policies.rules, time.time(), policies.setting)
        found = simulated(documents, judge, policies.subjects, args.namespace)
    except (StartError, UnreadableObject) as error:
        return failed(error)
    for strange in found.trial.strange:
        print(f"trow: warning: {shown(str(strange))}", file=sys.stderr)
    say(_lines(found))
    return exit_code(found.trial.outcome)


def _kubeconfig() -> Path:
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(first) if first else Path.home() / ".kube" / "config"


def _lines(found: Simulation) -> Iterator[str]:
    rows = [
        (
            each.outcome.value,
            each.namespace,
            each.workload,
            each.image,
            each.opinion.finding.policy,
            each.opinion.finding.rule,
            str(each.count),
        )
        for each in found.breakages
    ]
    if rows:
        yield from aligned([_HEADS, *rows])
        yield ""
        yield from dict.fromkeys(
            f"{each.namespace} {each.workload}: {each.opinion.finding}" for each in found.breakages
        )
        yield ""
    for unreadable in found.trial.unreadable:
        yield f"cannot be read: {unreadable}"
    workloads = "workload" if found.workloads == 1 else "workloads"
    yield f"{found.broken} of {found.workloads} {workloads} would not start again"
