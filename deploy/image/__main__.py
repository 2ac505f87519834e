"""`python -m deploy.image build [--output DIR] [--arch ARCH,ARCH]`, or `fetch`, or `lock`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.image.agent import build_agent
from deploy.image.build import MACHINES, ROOT, BuildError, build, fetch
from deploy.image.debian import PackageError, write_lock

MIB: Final = 1 << 20
BUILDERS: Final = {"trow": build, "trow-node-agent": build_agent}


def main() -> int:
    """Do what the arguments say; 1 if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description="The container images of Trow.")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build an image as an OCI layout")
    building.add_argument("--output", type=Path, default=ROOT / "dist" / "image", help="a folder that does not exist")
    building.add_argument("--image", choices=[*BUILDERS], default="trow", help="which of the images")
    building.add_argument("--arch", default=",".join(MACHINES), help="architectures, separated by commas")
    commands.add_parser("fetch", help="download what a build needs, which then needs no network")
    commands.add_parser("lock", help="lock the newest packages of Debian")
    args = parser.parse_args()
    try:
        if args.command == "lock":
            write_lock([*MACHINES])
        elif args.command == "fetch":
            fetch(cache(), _say)
        else:
            _build(args.image, args.output, args.arch.split(","))
    except (BuildError, PackageError, FileExistsError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _build(image: str, folder: Path, architectures: list[str]) -> None:
    built = BUILDERS[image](folder, architectures, cache(), _created(), _say)
    for architecture in architectures:
        pulled, files = built.compressed[architecture] / MIB, built.unpacked[architecture] / MIB
        print(f"{architecture}: {pulled:.1f} MiB to pull, {files:.1f} MiB of files")
    print(f"{folder}: {built.digest}")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


def cache() -> Path:
    """Where downloads are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trow-image"


def _created() -> str:
    """The time of the last change: that of the commit, or what SOURCE_DATE_EPOCH says (reproducible-builds.org)."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told is None:
        argv = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return datetime.fromtimestamp(int(told), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(main())
