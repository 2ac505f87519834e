"""`trow policy`: try policies of images without a cluster, bring them over from other programs, hand them on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import yaml

from trow.cli import simulate
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_OK, aligned, cut, exit_code, failed, note, say, say_json
from trow.lib.errors import StartError
from trow.policy.pods import UnreadableObject, UsedBy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trow.cli.parser import Commands, Parser
    from trow.policytools.evaluation import Evaluation, ImageEvaluation, ObjectEvaluation

EXIT_LEFT_OUT: Final = 3

_POLICY: Final = (
    "Trow's configuration, a file with policies as Kubernetes objects, a directory of such files, or - for standard"
    " input; may be repeated"
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
_IMPORT: Final = """\
exit code: 0 it means the same, 3 something means something else or is left out, 2 it could not be read

The policies go to standard output. What means something else, and what is left out, is told on standard error.

examples:
  trow policy import old-trow.yaml > policies.yaml
  kubectl get k8sallowedrepos -o yaml | trow policy import - > policies.yaml
  trow policy import --from kyverno policies/*.yaml > policies.yaml
"""
_EXPORT: Final = """\
exit code: 0 written, 2 it could not be read

What the API server cannot enforce by itself is told on standard error.

examples:
  trow policy export -f policies/ | kubectl apply --server-side -f -
  trow policy export -f policies/ --static > /etc/kubernetes/admission/images.yaml
"""
SOURCES: Final = ("trow", "connaisseur", "kyverno", "gatekeeper")


def add(commands: Commands) -> None:
    actions = group(commands, "policy", "try and bring over policies of images, without a cluster")
    _add_test(actions)
    _add_explain(actions)
    _add_import(actions)
    _add_export(actions)
    broken = "say what would break if policies were on"
    simulate.add(_command(actions, "simulate", broken, simulate.run, simulate.EPILOG))


def _add_test(actions: Commands) -> None:
    parser = _command(actions, "test", "say whether the objects in manifests may run", run_test, _TEST)
    parser.add_argument(
        "--output", choices=("table", "json", "junit"), default="table", help="how to print (default: table)"
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="manifests, YAML or JSON, or a directory of them; - is standard input"
    )


def _add_explain(actions: Commands) -> None:
    summary = "say how an image is read and what each policy makes of it"
    parser = _command(actions, "explain", summary, run_explain, _EXPLAIN)
    parser.add_argument("image", metavar="IMAGE", help="as a Pod would name it")
    parser.add_argument(
        "--used-by",
        choices=[each.value for each in UsedBy],
        default=UsedBy.CONTAINERS.value,
        help="the field of the Pod that names it (default: containers)",
    )


def _add_import(actions: Commands) -> None:
    summary = "write policies of other programs as ClusterImagePolicy and ImagePolicy"
    parser = command(actions, "import", summary, run_import, epilog=_IMPORT)
    parser.add_argument(
        "--from", dest="source", choices=SOURCES, help="the program that they come from (default: found by their form)"
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="YAML or JSON, or a directory of them; - is standard input"
    )


def _add_export(actions: Commands) -> None:
    summary = "write policies as ValidatingAdmissionPolicy, for API servers"
    parser = _command(actions, "export", summary, run_export, _EXPORT)
    parser.add_argument(
        "--static", action="store_true", help="for files on the API server's disk, which it reads when it starts"
    )
    parser.add_argument(
        "--exclude-namespace",
        metavar="NS",
        action="append",
        dest="excluded",
        help="leave a namespace alone, whatever the policies say; may be repeated (default:"
        " admission.excluded_namespaces)",
    )


def _command(
    actions: Commands, name: str, summary: str, run: Callable[[argparse.Namespace], int], epilog: str
) -> Parser:
    """A command that reads policies."""
    parser = command(actions, name, summary, run, epilog=epilog)
    parser.add_argument(
        "-f", "--policy", metavar="POLICY", type=Path, action="append", required=True, dest="policies", help=_POLICY
    )
    parser.add_argument(
        "--namespace", metavar="NS", default="default", help="namespace of objects that name none (default: default)"
    )
    return parser


# ---- test


def run_test(args: argparse.Namespace) -> int:
    # The engines are loaded only when they are needed.
    from trow.policytools.evaluation import evaluate_files, namespace_of  # noqa: PLC0415
    from trow.policytools.judging import OfflineJudge  # noqa: PLC0415
    from trow.policytools.loading import policies_from  # noqa: PLC0415
    from trow.policytools.reports import as_json, as_junit  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        policies = policies_from(args.policies, args.namespace)
        judge = OfflineJudge(policies.rules, time.time(), policies.settings)
        evaluation = evaluate_files(args.files, judge, policies, args.namespace)
    except (StartError, UnreadableObject) as error:
        return failed(error)
    if args.output == "table":
        say(*_table(evaluation))
    elif args.output == "json":
        say_json(as_json(evaluation))
    else:
        print(as_junit(evaluation))
    for each in evaluation.unknown_kinds:
        note(f"trow: warning: {each}")
    for unreadable in evaluation.unreadable:
        note(f"trow: error: {unreadable}")
    return exit_code(evaluation.outcome)


_LONGEST_CELL: Final = 72
_YAML_WIDTH: Final = 120
_HEADS: Final = ("VERDICT", "FILE", "OBJECT", "USED BY", "IMAGE", "POLICY", "RULE")


def _table(evaluation: Evaluation) -> Iterator[str]:
    rows = [(judged, image) for judged in evaluation.objects for image in judged.images]
    if rows:
        yield from aligned([_HEADS, *(_cells(judged, image) for judged, image in rows)])
        yield ""
    for judged, image in rows:
        for result in image.results:
            if result.outcome.value != "allowed" or result.finding.exception:
                yield f"{result.outcome.value}: {judged}, {result.finding}"
    yield _summary(evaluation)


def _cells(judged: ObjectEvaluation, image: ImageEvaluation) -> Sequence[str]:
    decisive = next((each.finding for each in image.results if each.outcome is image.outcome), None)
    policy, rule = (decisive.policy, decisive.rule) if decisive else ("none applies", "")
    name = cut(str(image.reference or image.use.text), _LONGEST_CELL)
    return image.outcome.value, judged.location.short, str(judged), image.use.owner, name, policy, rule


def _summary(evaluation: Evaluation) -> str:
    counts = [f"{count} {outcome.value}" for outcome, count in evaluation.counts.items() if count]
    images = sum(evaluation.counts.values())
    noun = "image" if images == 1 else "images"
    skipped = f"; objects without images: {evaluation.without_images}" if evaluation.without_images else ""
    return f"{images} {noun}{': ' if counts else ''}{', '.join(counts)}{skipped}"


# ---- explain


def run_explain(args: argparse.Namespace) -> int:
    from trow.policy.rules import RunContext  # noqa: PLC0415
    from trow.policytools.evaluation import namespace_of  # noqa: PLC0415
    from trow.policytools.explain import explain  # noqa: PLC0415 (the engines are loaded only when they are needed)
    from trow.policytools.loading import policies_from  # noqa: PLC0415

    try:
        namespace_of(args.namespace)
        policies = policies_from(args.policies, args.namespace)
    except (StartError, UnreadableObject) as error:
        return failed(error)
    where = RunContext(args.namespace, UsedBy(args.used_by))
    outcome, lines = explain(policies, where, args.image, time.time())
    say(*lines)
    return exit_code(outcome)


# ---- import


def run_import(args: argparse.Namespace) -> int:
    from trow.policytools.importing import RemarkKind, import_policies  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        manifests, remarks = import_policies(args.files, args.source)
    except StartError as error:
        return failed(error)
    for remark in remarks:
        note(str(remark))
    _print_yaml(manifests)
    return EXIT_LEFT_OUT if any(remark.kind is not RemarkKind.NOTE for remark in remarks) else EXIT_OK


# ---- export


def run_export(args: argparse.Namespace) -> int:
    from trow.policy.vap.export import compile_policy  # noqa: PLC0415
    from trow.policy.vap.namespace_expressions import MutatedNamespaces  # noqa: PLC0415
    from trow.policytools.evaluation import namespace_of  # noqa: PLC0415
    from trow.policytools.loading import policies_from  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        for name in (args.namespace, *(args.excluded or ())):
            namespace_of(name)
        read = policies_from(args.policies, args.namespace)
    except (StartError, UnreadableObject) as error:
        return failed(error)
    excluded, now = args.excluded or read.excluded, time.time()
    manifests: list[Mapping[str, object]] = []
    changes = MutatedNamespaces(read.rules.policies)
    for policy in read.rules.policies:
        compiled = compile_policy(
            policy,
            excluded=excluded,
            exceptions=read.rules.exceptions,
            now=now,
            changed=changes.where(policy),
            static=args.static,
        )
        manifests += [*compiled.policies, *compiled.bindings]
        for left_out in compiled.left_out:
            note(f"left out: {policy.title}: {left_out}")
    _print_yaml(manifests)
    return EXIT_OK


def _print_yaml(manifests: Sequence[Mapping[str, object]]) -> None:
    if manifests:
        # Without shared parts, which YAML would write as aliases.
        plain = msgspec.json.decode(msgspec.json.encode(manifests))
        print(yaml.safe_dump_all(plain, sort_keys=False, explicit_start=True, width=_YAML_WIDTH), end="")
