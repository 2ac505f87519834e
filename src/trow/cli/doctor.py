"""`trow doctor`: what is wrong, and the fix."""

from __future__ import annotations

import asyncio
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trow.cli import options
from trow.cli.parser import command
from trow.cli.printing import EXIT_NO, EXIT_OK, failed, note, say_json
from trow.lib.errors import StartError
from trow.lib.handshake import trust_of
from trow.lib.terminal import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from trow.cli.parser import Commands
    from trow.doctor.findings import Diagnosis

_EPILOG: Final = """\
exit code: 0 no problem found, 1 problems found, 2 nothing could be checked

It changes nothing and prints no secret. Run it where you push from, in Trow's Pod, and on a node: what cannot be
checked from here it says, with the reason.

examples:
  trow doctor --host registry.example.com
  trow doctor --url http://127.0.0.1:8000
  trow doctor --host registry.example.com --containerd-config containerd.toml
  kubectl exec trow-0 --namespace trow -- /usr/bin/python3.13 -Im trow doctor --config /etc/trow/config/trow.yaml
"""
_WIDTH: Final = 118
_MARKS: Final = {"ok": "ok", "problem": "PROBLEM"}


def add(commands: Commands) -> None:
    description = "Look at the registry, the cluster, its nodes and this machine, and say what is wrong and the fix."
    parser = command(commands, "doctor", "find out what is wrong, and say the fix", run, description, _EPILOG)
    parser.add_argument(
        "--url", metavar="URL", default="", help="the address of the registry, such as http://10.0.0.7:30500"
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        default="",
        help="the host in the names of images, such as registry.example.com",
    )
    options.add_config(parser)
    parser.add_argument("--ca-file", metavar="FILE", type=Path, help="an authority to trust beside those of the system")
    options.add_cluster(parser, "this Pod's, ")
    parser.add_argument("--namespace", metavar="NAME", default="", help="where Trow is (default: where its Pods are)")
    parser.add_argument(
        "--containerd-config", metavar="FILE", type=Path, help="the output of `containerd config dump` on a node"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
    parser.add_argument("--quiet", action="store_true", help="print only problems")


def run(args: argparse.Namespace) -> int:
    # The clients that it brings take as much memory as all else: they are loaded when they are needed.
    from trow.doctor.findings import DiagnosisStatus  # noqa: PLC0415
    from trow.doctor.place import Options  # noqa: PLC0415
    from trow.doctor.run import examine  # noqa: PLC0415

    if args.url and not args.url.startswith(("https://", "http://")):
        return failed(f"--url {args.url!r} is not a URL; write it such as https://registry.example.com")
    chosen = Options(
        args.url,
        args.host,
        options.resolved(args).config if args.config else None,
        args.ca_file,
        args.kubeconfig,
        args.context,
        args.namespace,
        args.containerd_config,
    )
    try:
        trust_of(args.ca_file)
        findings = asyncio.run(examine(chosen))
    except OSError:
        return failed(f"--ca-file {args.ca_file} holds no certificates that can be read; give a file in PEM form")
    except StartError as error:
        return failed(error)
    shown = [each for each in findings if each.status is DiagnosisStatus.PROBLEM] if args.quiet else list(findings)
    if args.output == "json":
        say_json(msgspec.json.encode({"findings": shown}).decode())
    else:
        for line in _lines(shown):
            print(line)
        note(_summary(findings))
    found = {each.status for each in findings}
    if DiagnosisStatus.PROBLEM in found:
        return EXIT_NO
    known = {each.check for each in findings if each.status is DiagnosisStatus.OK}
    if known & {"dns", "trow"} or args.containerd_config:
        return EXIT_OK
    return failed("neither a registry nor a cluster is known here; give --url, --host or --kubeconfig")


def _lines(findings: Sequence[Diagnosis]) -> Iterator[str]:
    width = max((len(each.check) for each in findings), default=0)
    unknown: dict[str, list[str]] = {}
    for each in findings:
        said = f"{each.where}: {each.what}" if each.where else each.what
        if each.status == "unchecked":
            unknown.setdefault(said, []).append(each.check)
            continue
        yield from _wrapped(f"{_MARKS[each.status]:<7}  {each.check:<{width}}  ", said, width)
        if each.fix:
            # Not broken: a command is copied whole.
            yield f"{'':<{width + 11}}fix: {printable(each.fix)}"
    for why, checks in unknown.items():
        yield from _wrapped("not checked: ", f"{', '.join(checks)}: {why}", 2)


def _wrapped(head: str, said: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        printable(said),
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (width + 11),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(findings: Sequence[Diagnosis]) -> str:
    counts = Counter(each.status.value for each in findings)
    problems = "1 problem" if counts["problem"] == 1 else f"{counts['problem']} problems"
    return f"{problems}, {counts['ok']} ok, {counts['unchecked']} not checked"
