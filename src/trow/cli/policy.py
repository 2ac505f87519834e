"""`trow policy`: try policies of images without a cluster, bring them over from other programs, hand them on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.errors import StartError
from trow.policy.pods import UnreadableObject

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from trow.app.trial import JudgedImage, JudgedObject, Outcome, Trial
    from trow.cli.parser import Commands, Parser

EXIT_ALLOWED: Final = 0
EXIT_DENIED: Final = 1
EXIT_UNDECIDED: Final = 2
EXIT_LEFT_OUT: Final = 3

_POLICY: Final = (
    "a configuration file with image_validation, a file of policies as Kubernetes objects, or a directory of such"
    " files; may be repeated"
)
_TEST: Final = """\
exit code: 0 all allowed, 1 something denied, 2 it could not be decided or read; 1 wins over 2

Workloads such as Deployments are judged as the Pods that they would make. What policies only warn of is printed and
does not count. require.exists, require.maxAge and require.platforms can be decided by a registry alone.

examples:
  trow policy test -f policies/ deployment.yaml
  helm template chart | trow policy test -f trow.yaml --namespace team-a -
  kustomize build overlay | trow policy test -f policies/ --output junit - > policy.xml
"""
_EXPLAIN: Final = """\
exit code: 0 allowed, 1 denied, 2 it could not be decided or read

example:
  trow policy explain -f policies/ --namespace team-a docker.io/nginx:1.27
"""


def add(commands: Commands) -> None:
    group = commands.add_parser("policy", help="try and bring over policies of images, without a cluster")
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_test(actions)
    _add_explain(actions)


def _add_test(actions: Commands) -> None:
    parser = _command(actions, "test", "say whether the objects in manifests may run", _TEST)
    parser.add_argument(
        "--output", choices=("table", "json", "junit"), default="table", help="how the result is printed"
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="manifests, YAML or JSON; - is standard input")
    parser.set_defaults(run=run_test)


def _add_explain(actions: Commands) -> None:
    parser = _command(actions, "explain", "say how an image is read and what each policy makes of it", _EXPLAIN)
    parser.add_argument("image", metavar="IMAGE", help="as a Pod would name it")
    parser.set_defaults(run=run_explain)


def _command(actions: Commands, name: str, what: str, epilog: str) -> Parser:
    parser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=epilog)
    parser.add_argument(
        "-f", "--policy", metavar="POLICY", type=Path, action="append", required=True, dest="policies", help=_POLICY
    )
    parser.add_argument(
        "--namespace", metavar="NS", default="default", help="of what does not say where it is (default: default)"
    )
    return parser


# ---- test


def run_test(args: argparse.Namespace) -> int:
    # The engines are loaded only when they are needed.
    from trow.app.policies import policies_from  # noqa: PLC0415
    from trow.app.reports import as_json, as_junit  # noqa: PLC0415
    from trow.app.trial import Judge, namespace_of, tried  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        policies = policies_from(args.policies, args.namespace)
        trial = tried(args.files, Judge(policies.rules, time.time()), policies.subjects, args.namespace)
    except (StartError, UnreadableObject) as error:
        return _failed(error)
    if args.output == "table":
        _print(_table(trial))
    else:
        print(as_json(trial) if args.output == "json" else as_junit(trial))
    for unreadable in trial.unreadable:
        print(f"trow: error: {_harmless(str(unreadable))}", file=sys.stderr)
    return _exit_code(trial.outcome)


def _exit_code(outcome: Outcome) -> int:
    return {"denied": EXIT_DENIED, "undecided": EXIT_UNDECIDED}.get(outcome.value, EXIT_ALLOWED)


_LONGEST_CELL: Final = 72
_HEADS: Final = ("VERDICT", "FILE", "OBJECT", "USED BY", "IMAGE", "POLICY", "RULE")


def _table(trial: Trial) -> Iterator[str]:
    rows = [(judged, image) for judged in trial.judged for image in judged.images]
    if rows:
        yield from _aligned([_HEADS, *(_cells(judged, image) for judged, image in rows)])
        yield ""
    for judged, image in rows:
        for opinion in image.opinions:
            if opinion.outcome.value != "allowed" or opinion.finding.exemption:
                yield f"{opinion.outcome.value}: {judged}, {opinion.finding}"
    yield _summary(trial)


def _cells(judged: JudgedObject, image: JudgedImage) -> Sequence[str]:
    decisive = next((each.finding for each in image.opinions if each.outcome is image.outcome), None)
    policy, rule = (decisive.policy, decisive.rule) if decisive else ("none applies", "")
    name = _short(str(image.reference or image.use.text))
    return image.outcome.value, judged.place.short, str(judged), image.use.owner, name, policy, rule


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _summary(trial: Trial) -> str:
    counts = [f"{count} {outcome.value}" for outcome, count in trial.counts.items() if count]
    images = sum(trial.counts.values())
    noun = "image" if images == 1 else "images"
    skipped = f"; objects without images: {trial.skipped}" if trial.skipped else ""
    return f"{images} {noun}{': ' if counts else ''}{', '.join(counts)}{skipped}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


# ---- explain


def run_explain(args: argparse.Namespace) -> int:
    from trow.app.explain import explained  # noqa: PLC0415 (the engines are loaded only when they are needed)
    from trow.app.policies import policies_from  # noqa: PLC0415
    from trow.app.trial import namespace_of  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        rules = policies_from(args.policies, args.namespace).rules
    except (StartError, UnreadableObject) as error:
        return _failed(error)
    outcome, lines = explained(rules, args.namespace, args.image, time.time())
    _print(lines)
    return _exit_code(outcome)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(_harmless(line))


def _harmless(text: str) -> str:
    """What files say reaches a terminal here: nothing of it may be taken for a command to that."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _failed(error: Exception) -> int:
    for line in str(error).splitlines():
        print(f"trow: error: {_harmless(line)}", file=sys.stderr)
    return EXIT_UNDECIDED
