"""`trow quick-install`: Trow in a cluster for development, by the script that also runs without Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.cli.parser import command
from trow.cli.printing import failed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from trow.cli.parser import Commands

_EXAMPLES: Final = """\
It runs the script deploy/quick-install/install.sh, which needs a POSIX shell and kubectl. The cluster is that of your
kubeconfig. The exit code is the script's: 0 done, 1 not done and why, 2 the command line was not understood.

examples:
  trow quick-install --image-archive dist/image --dry-run     what would be done, and every object
  trow quick-install --image-archive dist/image               onto the nodes of kind, k3d, k3s, minikube, MicroK8s, ...
  trow quick-install --image registry.example.com/trow:1.0.0  in any cluster whose nodes can pull it
  trow quick-install --uninstall                              takes everything away again
"""
# The same as the script's, which says what is wrong with a value.
_SWITCHES: Final = {
    "--dry-run": "check, print what would be done and every object, change nothing",
    "--private": "do not let everybody pull who reaches the registry",
    "--ephemeral": "keep images in the Pod, also where the cluster has volumes",
    "--uninstall": "take away everything that was installed, with all images",
    "--keep-data": "with --uninstall: leave the volume and the password for the next installation",
}
_VALUES: Final = {
    "--image": ("REF", "the image of Trow, in a registry that the nodes reach"),
    "--image-archive": ("FILE", "put this image onto the nodes first: an archive, or a folder with an OCI layout"),
    "--node-agent": ("REF", "the image of an agent that prepares each node; without this, one that is in an archive"),
    "--namespace": ("NAME", "where Trow lives (default: trow)"),
    "--host": ("HOST[:PORT]", "the registry in the names of images (default: localhost and the port of the nodes)"),
    "--node-port": ("PORT", "the port of each node that leads to Trow (default: 30500)"),
    "--timeout": ("SECONDS", "for each step (default: 180)"),
    "--context": ("NAME", "as in kubectl"),
    "--kubeconfig": ("FILE", "as in kubectl"),
}


def add(commands: Commands) -> None:
    description = "Install Trow in the cluster of your kubeconfig, for development, or take it away again."
    summary = "install Trow in a cluster for development"
    parser = command(commands, "quick-install", summary, run, description, _EXAMPLES)
    for flag, text in _SWITCHES.items():
        parser.add_argument(flag, action="store_const", const=[], help=text)
    for flag, (value, text) in _VALUES.items():
        parser.add_argument(flag, action="append", metavar=value, help=text)


def run(args: argparse.Namespace) -> int:
    script = _script()
    if script is None:
        return failed("the script of the quick install is not where it was installed; install Trow again")
    os.environ["TROW_QUICK_INSTALL"] = "trow quick-install"  # what its messages call it
    try:
        os.execvp("sh", ["sh", str(script), *_arguments(args)])  # noqa: S606, S607 - each argument is one word
    except FileNotFoundError:
        return failed("there is no sh on the PATH; run this on a machine with a POSIX shell and kubectl")


def _arguments(args: argparse.Namespace) -> Iterator[str]:
    given = vars(args)
    for flag in (*_SWITCHES, *_VALUES):
        values = given[flag.removeprefix("--").replace("-", "_")]
        if values == []:
            yield flag
        for value in values or ():
            yield from (flag, value)


def _script() -> Path | None:
    """It is beside this module where Trow is installed, and in its own place in a clone."""
    places = (
        Path(__file__).with_name("quick-install.sh"),
        Path(__file__).parents[3] / "deploy" / "quick-install" / "install.sh",
    )
    return next((place for place in places if place.is_file()), None)
