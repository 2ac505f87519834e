"""Builds the image: Debian's Python, the locked dependencies, Trow; a layer of each, the same bytes each time.

There is no shell, no package manager and no tool in it. Nothing in it can be written but ``/var/lib/trow``.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.image import debian, sbom
from deploy.image.layout import Layout

import trow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deploy.image.layout import Json, Layer

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = Path(__file__).with_name("requirements.lock")
PYTHON: Final = "python3.13"
_LOCKED: Final = ("--require-hashes", "--requirement", str(REQUIREMENTS))
USER: Final = 65532  # "nonroot", as distroless images have it
# Debian's names are Go's; the others' are the kernel's.
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
LOADERS: Final = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
PACKAGES_FOLDER: Final = Path("usr/local/lib") / PYTHON / "dist-packages"
# What a server never asks for.
_LEFT_OUT: Final = (
    "etc/apt", "etc/cron*", "etc/default", "etc/init.d", "etc/profile*", "etc/skel", "etc/update-motd.d", "etc/dpkg",
    "etc/ld.so.conf*", "etc/issue*", "etc/debian_version", "etc/host.conf", "etc/motd",
    "usr/share/base-files", "usr/share/bug", "usr/share/common-licenses", "usr/share/dict", "usr/share/info",
    "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/misc", "usr/share/binfmts",
    "usr/share/applications", "usr/share/pixmaps", "usr/share/python3", "usr/share/gcc", "usr/share/ca-certificates",
    "usr/share/doc/*/*[!t]", "usr/sbin/*", "usr/games", "usr/src", "usr/include", "usr/local/[!l]*", "usr/local/lib/*",
    "usr/lib/*/gconv", "usr/lib/*/audit", "usr/lib/*/ossl-modules", "usr/lib/*/engines-3", "usr/lib/locale",
    "usr/lib/python3.13/[!_a-z]*", "usr/lib/valgrind", "usr/bin/[!p]*", "usr/bin/p[!y]*",
    "var/backups", "var/cache", "var/local", "var/log", "var/mail", "var/spool", "var/opt", "var/lib/dpkg/info",
    "boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys",
    *(f"usr/lib/{PYTHON}/{name}" for name in (
        "_pyrepl", "config-3.13-*", "curses", "dbm", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "pydoc.py",
        "sqlite3", "test", "tkinter", "turtle*", "unittest", "venv", "doctest.py", "EXTERNALLY-MANAGED",
        "lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/_sqlite3*", "lib-dynload/_test*",
        "lib-dynload/_uuid*", "lib-dynload/_x*test*", "lib-dynload/readline*", "lib-dynload/nis*",
        # Encodings of Asia, twins in Python of what is there in C, and what a person or a mail program would use.
        "lib-dynload/_codecs_*", "_pydatetime.py", "_pydecimal.py", "_pyio.py", "antigravity.py", "bdb.py", "pdb.py",
        "ftplib.py", "imaplib.py", "mailbox.py", "modulefinder.py", "pickletools.py", "poplib.py", "pyclbr.py",
        "webbrowser.py", "xml/dom", "xml/sax", "xmlrpc",
    )),
    "usr/lib/*/libmvec.so*", "usr/lib/*/libexpatw.so*",
)  # fmt: skip
_OF_PACKAGES_LEFT_OUT: Final = (
    *(f"*.dist-info/{name}" for name in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")),
    "bin", ".lock", "**/tests", "**/test", "**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.c", "**/*.h", "**/*.hash",
    "apsw/sqlite_extra_binaries", "**/*.pyi", "uvloop/_testbase.py", "*.dist-info/sboms",
    *(f"apsw/{name}" for name in ("_unicode*", "unicode.py", "shell.py", "fts*.py", "speedtest.py", "trace.py")),
    # They make bindings from headers; what was made needs _cffi_backend alone.
    "cffi", "pycparser",
    "botocore/data/*/*/examples-1.json", "dateutil/rrule.py", "dateutil/zoneinfo",
)  # fmt: skip


# The services of AWS that a bucket and the ways to credentials need; botocore describes some four hundred.
_SERVICES: Final = {"s3", "sts", "sso", "sso-oidc", "signin"}


class BuildError(Exception):
    """The image cannot be built; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Built:
    """What came of a build.

    Attributes:
        digest: of the index.
        compressed: bytes of the layers of each architecture, as they are pulled.
        unpacked: bytes of the files of each architecture.
    """

    digest: str
    compressed: dict[str, int]
    unpacked: dict[str, int]


def build(folder: Path, architectures: Sequence[str], cache: Path, created: str, say: Callable[[str], None]) -> Built:
    """Build the image into a new folder, as an OCI layout.

    Args:
        folder: must not exist.
        architectures: as Go names them.
        cache: for downloads.
        created: RFC 3339; the time that the image tells.
        say: is told what is being done.

    Raises:
        BuildError: a tool or a download is missing.
    """
    folder.mkdir(parents=True)
    layout = Layout(folder)
    annotations = annotations_of("Trow", "Image management for Kubernetes", created)
    assembly = Assembly(layout, "trow", created, annotations)
    with tempfile.TemporaryDirectory(prefix="trow-image-") as place:
        workshop = _Workshop(Path(place), cache, say)
        for architecture in architectures:
            layers = [*workshop.layers(layout, architecture)]
            bill = sbom.cyclonedx(
                "trow", architecture, workshop.packages(architecture), workshop.wheels(architecture), created
            )
            assembly.add(architecture, layers, _config(annotations), bill)
    return assembly.finish()


class Assembly:
    """An image of several architectures that comes into being in a layout."""

    def __init__(self, layout: Layout, name: str, created: str, annotations: Json) -> None:
        self._layout = layout
        self._name = name
        self._created = created
        self._annotations = annotations
        self._images: list[Json] = []
        self._referrers: list[Json] = []
        self._compressed: dict[str, int] = {}
        self._unpacked: dict[str, int] = {}

    def add(self, architecture: str, layers: Sequence[Layer], config: Json, bill: bytes) -> None:
        """Add the image of an architecture, and its bill of materials."""
        document = {"created": self._created, "config": config}
        image = self._layout.add_image(layers, document, architecture, self._annotations)
        self._images.append(image)
        self._referrers.append(self._layout.add_referrer(image, bill, sbom.MEDIA_TYPE))
        self._compressed[architecture] = sum(int(str(layer.descriptor["size"])) for layer in layers)
        self._unpacked[architecture] = sum(layer.unpacked for layer in layers)

    def finish(self) -> Built:
        """Write the index."""
        digest = self._layout.finish(self._images, self._referrers, self._name, trow.__version__, self._annotations)
        return Built(digest, self._compressed, self._unpacked)


def fetch(cache: Path, say: Callable[[str], None]) -> None:
    """Download everything that a build needs, for all architectures; a build then needs no network.

    Raises:
        BuildError, PackageError: something cannot be had.
    """
    locks = hashlib.sha256(debian.LOCK.read_bytes() + REQUIREMENTS.read_bytes()).hexdigest()
    done = cache / f"fetched-{locks}"
    if done.exists():
        return
    for architecture, packages in debian.locked((*debian.PACKAGES, *debian.AGENT_PACKAGES)).items():
        say(f"{architecture}: downloading packages")
        for package in packages:
            debian.fetch(package, cache)
        with tempfile.TemporaryDirectory(prefix="trow-image-") as place:
            _install_wheels(architecture, Path(place), cache, _LOCKED)
    done.touch()


def _install_wheels(architecture: str, target: Path, cache: Path, what: Sequence[str]) -> None:
    """Install packages of Python for another machine: wheels only, nothing is built or run."""
    argv = [
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
        "--target", str(target), "--python-version", PYTHON.removeprefix("python"), "--link-mode", "copy",
        "--python-platform", f"{MACHINES[architecture]}-manylinux_2_40",
        "--cache-dir", str(cache / "uv"), *what,
    ]  # fmt: skip
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"uv cannot install the packages of Python: {done.stderr.strip()}")


class _Workshop:
    """Folders that are roots of images, one for each architecture."""

    def __init__(self, place: Path, cache: Path, say: Callable[[str], None]) -> None:
        self._place = place
        self._cache = cache
        self._say = say
        self._wheel: Path | None = None

    def packages(self, architecture: str) -> Sequence[debian.Package]:
        """The packages of Debian in the image."""
        return debian.locked()[architecture]

    def wheels(self, architecture: str) -> Path:
        """The folder with the packages of Python."""
        return self._place / architecture / PACKAGES_FOLDER

    def layers(self, layout: Layout, architecture: str) -> Iterator[Layer]:
        """The layers from the bottom up: what changes rarely comes first, so that nodes have it already."""
        root = self._base(architecture)
        base = _files(root)
        yield layout.add_layer(root, base, {root / "var/lib/trow": USER})
        self._install(architecture, _LOCKED)
        _drop_sources(self.wheels(architecture))
        dependencies = [path for path in _files(root) if path not in set(base)]
        yield layout.add_layer(root, dependencies)
        self._install(architecture, [str(self._own_wheel())])
        known = {*base, *dependencies}
        yield layout.add_layer(root, [path for path in _files(root) if path not in known])

    def _base(self, architecture: str) -> Path:
        root = self._place / architecture
        if not root.exists():
            self._say(f"{architecture}: packages of Debian")
            root.mkdir()
            for package in self.packages(architecture):
                debian.unpack(debian.fetch(package, self._cache), root)
            _furnish(root)
            self._compile(root / "usr/lib" / PYTHON, root)
            _drop_sources(root / "usr/lib" / PYTHON)
        return root

    def _install(self, architecture: str, what: Sequence[str]) -> None:
        self._say(f"{architecture}: packages of Python")
        target = self.wheels(architecture)
        _install_wheels(architecture, target, self._cache, what)
        _remove(target, _OF_PACKAGES_LEFT_OUT)
        _remove(target, [f"botocore/data/{name}" for name in _services(target) - _SERVICES])
        _trust_one_bundle(target / "botocore/cacert.pem")
        _strip(target)
        self._compile(target, self._place / architecture)

    def _own_wheel(self) -> Path:
        if self._wheel is None:
            target = self._place / "wheel"
            argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
            environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
            subprocess.run(argv, check=True, cwd=ROOT, env=environment, capture_output=True)
            self._wheel = next(target.glob("*.whl"))
        return self._wheel

    def _compile(self, folder: Path, root: Path) -> None:
        """Compile modules, which a root that is read-only could not keep, by the image's own Python.

        Compiled modules are the same for all machines, so that of this machine does it for the others.
        """
        own = next(name for name, machine in MACHINES.items() if machine == platform.machine())
        base = self._place / own
        if not base.exists():
            self._base(own)
        libraries = base / "usr/lib" / f"{MACHINES[own]}-linux-gnu"
        argv = [
            str(base / "usr" / LOADERS[own]), "--library-path", str(libraries),
            str(base / "usr/bin" / PYTHON), "-I", "-B", "-m", "compileall", "-q", "-b",
            "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/", str(folder),
        ]  # fmt: skip
        subprocess.run(argv, check=True)


def _furnish(root: Path) -> None:
    """Leave out what nobody needs, and add what the packages' scripts would have made."""
    certificates = b"".join(path.read_bytes() for path in sorted((root / "usr/share/ca-certificates").rglob("*.crt")))
    _remove(root, _LEFT_OUT)
    for name, target in (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")):
        if not (root / name).exists() and (root / target).exists():
            (root / name).symlink_to(target)
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_bytes(certificates)
    openssl = root / "usr/lib/ssl"
    openssl.mkdir(exist_ok=True)
    (openssl / "cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (root / "etc/passwd").write_text(f"root:x:0:0:root:/:/sbin/nologin\ntrow:x:{USER}:{USER}:Trow:/:/sbin/nologin\n")
    (root / "etc/group").write_text(f"root:x:0:\ntrow:x:{USER}:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/lib/trow").mkdir()
    (root / "var/lib/trow").chmod(0o770)  # for its user, and for any user in the group root, as OpenShift runs them


def _strip(folder: Path) -> None:
    """Take the symbols for debuggers out of libraries: a quarter of the image.

    LLVM's tool does it for every machine, where GNU's knows that which it runs on.
    """
    libraries = sorted(folder.rglob("*.so"))
    if shutil.which("llvm-strip") is None:
        raise BuildError("there is no llvm-strip on this machine; install LLVM (Debian: apt install llvm)")
    subprocess.run(["llvm-strip", "--strip-all", *map(str, libraries)], check=True)


def _drop_sources(folder: Path) -> None:
    """Leave the compiled modules of others alone: tracebacks still tell file and line."""
    for source in folder.rglob("*.py"):
        if source.with_suffix(".pyc").exists():
            source.unlink()


def _remove(root: Path, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _trust_one_bundle(file: Path) -> None:
    """The authorities of the image are those of a bucket, too."""
    if file.exists():
        file.unlink()
        file.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def _services(packages: Path) -> set[str]:
    return {path.parent.parent.name for path in packages.glob("botocore/data/*/*/service-2.json*")}


def _files(root: Path) -> list[Path]:
    """Everything that is not a folder, and the folders that have a meaning of their own."""
    kept = {root / "tmp", root / "var/lib/trow"}
    return sorted(path for path in root.rglob("*") if path.is_symlink() or not path.is_dir() or path in kept)


def annotations_of(title: str, description: str, created: str) -> Json:
    """What an image says of itself."""
    return {
        "org.opencontainers.image.title": title,
        "org.opencontainers.image.description": description,
        "org.opencontainers.image.version": trow.__version__,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.created": created,
    }


def _config(labels: Json) -> Json:
    return {
        "User": f"{USER}:{USER}",
        "ExposedPorts": {"8000/tcp": {}},
        "Env": ["TROW_DATA_DIR=/var/lib/trow"],
        # Isolated: nothing that lies in a folder or stands in a variable is taken for a module.
        "Entrypoint": [f"/usr/bin/{PYTHON}", "-I", "-m", "trow"],
        "Cmd": ["serve"],
        "WorkingDir": "/",
        "Volumes": {"/var/lib/trow": {}},
        "Labels": labels,
    }
