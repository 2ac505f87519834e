"""`python -m deploy.release build`, and then `python -m deploy.release publish HOST/PATH`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from deploy.image.__main__ import cache
from deploy.image.build import MACHINES, ROOT, BuildError
from deploy.image.debian import PackageError
from deploy.release.build import SUMS, ReleaseError, Source, build
from deploy.release.publish import publish

FOLDER: Final = ROOT / "dist" / "release"


def main() -> int:
    """Do what the arguments say; 1 if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description="A release of Trow.")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build everything that is published of this version")
    building.add_argument("--output", type=Path, default=FOLDER, help="the folder; what was in it is removed")
    building.add_argument("--arch", default=",".join(MACHINES), help="architectures, separated by commas")
    building.add_argument("--builder", default="urn:trow:local", help="who builds it, a URI for the provenance")
    publishing = commands.add_parser("publish", help="push the images and the chart")
    publishing.add_argument("namespace", help="host and path, such as registry.example.com/trow")
    publishing.add_argument("--from", dest="output", type=Path, default=FOLDER, help="the folder of the release")
    publishing.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    args = parser.parse_args()
    try:
        if args.command == "publish":
            publish(args.output, args.namespace, _say, plain_http=args.plain_http)
        else:
            _build(args.output, args.arch.split(","), args.builder)
    except (BuildError, PackageError, ReleaseError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _build(folder: Path, architectures: list[str], builder: str) -> None:
    source = Source.of_checkout()
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        build(unfinished, source, architectures, cache(), _say, builder=builder)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print((folder / SUMS).read_text("utf-8"), end="")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
