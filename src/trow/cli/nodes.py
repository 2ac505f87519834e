"""`trow nodes`: which node can pull, since when, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from trow.cli import options
from trow.cli.parser import command
from trow.cli.printing import EXIT_FAILED, EXIT_NO, EXIT_OK, aligned, failed, say, say_json
from trow.lib.errors import StartError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from trow.cli.parser import Commands
    from trow.doctor.readiness import NodeReadiness

EPILOG: Final = """\
exit code: 0 every node can pull, 1 one cannot, 2 it is not known of one; 1 wins over 2

examples:
  trow nodes
  trow nodes --output json
"""
_HEADS: Final = ("NODE", "RUNTIME", "VERSION", "CAN PULL", "SINCE")
_CODES: Final = {"yes": EXIT_OK, "no": EXIT_NO, "unknown": EXIT_FAILED}


def add(commands: Commands) -> None:
    description = (
        "Show which node of a cluster can pull from Trow, since when, and if not, why. It reads the nodes\n"
        "and the Pods of the node agent, with the rights of a kubeconfig file."
    )
    summary = "show which node of a cluster can pull, and if not, why"
    parser = command(commands, "nodes", summary, run, description, EPILOG)
    options.add_cluster(parser)
    parser.add_argument("-n", "--namespace", default="", help="namespace of the node agents (default: look in all)")
    parser.add_argument("--output", choices=["table", "json"], default="table", help="how to print (default: table)")


def run(args: argparse.Namespace) -> int:
    from trow.doctor.readiness import nodes_of_cluster  # noqa: PLC0415 - the client is loaded only when it is needed

    try:
        nodes = nodes_of_cluster(args.kubeconfig, args.context, args.namespace)
    except StartError as error:
        return failed(error)
    if args.output == "json":
        say_json(msgspec.json.format(msgspec.json.encode({"nodes": nodes}), indent=2).decode())
    else:
        say(*_lines(nodes))
    codes = {_CODES[each.can_pull] for each in nodes}
    return EXIT_NO if EXIT_NO in codes else max(codes, default=EXIT_OK)


def _lines(nodes: Sequence[NodeReadiness]) -> Iterator[str]:
    yield from aligned(
        [_HEADS, *((each.node, each.runtime, each.version, each.can_pull, each.since or "-") for each in nodes)]
    )
    for each in nodes:
        if each.can_pull != "yes":
            yield ""
            yield f"{each.node}: {each.reason}"
            if each.fix:
                yield f"  fix: {each.fix}"
