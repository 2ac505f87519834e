"""Publishes a release in a registry: the images with their bills of materials, and the chart."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from deploy.image.__main__ import BUILDERS
from deploy.release.build import LAYOUTS, ReleaseError, chart_version

import trow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def publish(folder: Path, namespace: str, say: Callable[[str], None], *, plain_http: bool) -> None:
    """Push what `build` has made: each image to ``NAMESPACE/`` and its name, the chart to ``NAMESPACE/charts/trow``.

    The credentials are those of `oras login` and `helm registry login`.

    Args:
        folder: of the release.
        namespace: host and path, such as ``registry.example.com/trow``.
        say: is told what is being done.
        plain_http: the registry has no TLS.

    Raises:
        ReleaseError: the release is not there, is in the registry already, or cannot be pushed.
    """
    plain = ("--plain-http",) if plain_http else ()
    layouts = {folder / LAYOUTS / name: f"{namespace}/{name}:{trow.__version__}" for name in BUILDERS}
    for layout in layouts:
        if not layout.is_dir():
            raise ReleaseError(f"{layout} does not exist; run `make release` first")
    chart = f"{namespace}/charts/trow:{chart_version()}"
    for tool in ("oras", "helm"):
        if shutil.which(tool) is None:
            raise ReleaseError(f"there is no {tool} on this machine; install it, and then publish again")
    for name in (*layouts.values(), chart):
        if _exists(name, plain):
            raise ReleaseError(f"{name} is there already, and a release never changes; raise the version")
    for layout, image in layouts.items():
        say(f"pushing {image}")
        _run("oras", "copy", "--recursive", "--from-oci-layout", *_to(plain), f"{layout}:{trow.__version__}", image)
    say(f"pushing {chart}")
    _run("helm", "push", f"{folder}/trow-chart-{chart_version()}.tgz", f"oci://{namespace}/charts", *plain)


def _exists(name: str, plain: tuple[str, ...]) -> bool:
    done = subprocess.run(["oras", "resolve", *plain, name], check=False, capture_output=True, text=True)
    if done.returncode and "not found" not in done.stderr:
        raise ReleaseError(f"oras cannot ask for {name}: {done.stderr.strip()}")
    return done.returncode == 0


def _to(plain: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"--to-{flag.removeprefix('--')}" for flag in plain)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{argv[0]} cannot push: {done.stderr.strip()}")
