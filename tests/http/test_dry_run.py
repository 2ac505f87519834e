"""`trow serve --dry-run` tries what a start tries, says what that would say, and changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

import apsw
import pytest

from support.server import START_SECONDS, Tls, Trow
from trow.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Spoil: TypeAlias = Callable[[Path], list[str]]

pytestmark = pytest.mark.slow

PLAIN: Final = ["--port", "0"]


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A folder with the data of a registry that was stopped."""
    with Trow.start(tmp_path):
        pass
    return tmp_path


def state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything in a folder: modes, times of change, bytes."""
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        seen = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
        found[str(path)] = seen.st_mode, seen.st_mtime_ns, hashlib.sha256(content).hexdigest()
    return found


def dry_run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What a dry run says; nothing in the folder has changed after it."""
    before = state(folder)
    done = serve(folder, "--dry-run", *flags)
    assert "Traceback" not in done.stderr
    assert state(folder) == before
    return done


def serve(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trow", "serve", "--data-dir", str(folder / "data"), *flags]
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=START_SECONDS
    )


def configured(folder: Path, **settings: object) -> list[str]:
    (folder / "trow.yaml").write_text(json.dumps(settings), "utf-8")  # JSON is YAML
    return ["--config", str(folder / "trow.yaml"), *PLAIN]


# What keeps a start from coming about: the name is that of the obstacle.


def a_file_in_place_of_the_directory(folder: Path) -> list[str]:
    (folder / "data").touch()
    return PLAIN


def a_file_above_the_directory(folder: Path) -> list[str]:
    (folder / "file").touch()
    return [*PLAIN, "--data-dir", str(folder / "file" / "data")]


def a_database_of_a_newer_trow(folder: Path) -> list[str]:
    set_version(folder / "data" / "trow.db")
    return PLAIN


def an_audit_database_of_a_newer_trow(folder: Path) -> list[str]:
    set_version(folder / "data" / "audit.db")
    return PLAIN


def set_version(database: Path) -> None:
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        connection.execute("PRAGMA user_version = 1000")


def a_lost_database(folder: Path) -> list[str]:
    (folder / "data" / "trow.db").unlink()
    return PLAIN


def a_damaged_database(folder: Path) -> list[str]:
    (folder / "data" / "trow.db").write_bytes(b"\0" * 8192)
    return PLAIN


def a_damaged_audit_database(folder: Path) -> list[str]:
    (folder / "data" / "audit.db").write_bytes(b"\0" * 8192)
    return PLAIN


def an_audit_key_that_is_none(folder: Path) -> list[str]:
    (folder / "data" / "keys" / "audit.pem").write_text("none")
    return PLAIN


def a_token_key_that_is_none(folder: Path) -> list[str]:
    (folder / "data" / "keys" / "token-0002.pem").write_text("none")
    return PLAIN


def a_file_in_place_of_the_folder_of_keys(folder: Path) -> list[str]:
    (folder / "keys").touch()
    return configured(folder, tokens={"keys": str(folder / "keys")})


def a_users_file_without_sense(folder: Path) -> list[str]:
    (folder / "users").write_text("alice\n")
    rule = {"users": ["alice"], "repositories": ["**"], "actions": ["pull"]}
    return configured(folder, auth={"users_file": str(folder / "users")}, access={"rules": [rule]})


def client_authorities_that_are_none(folder: Path) -> list[str]:
    tls = Tls.issue(folder / "tls")
    (folder / "clients.pem").write_text("none")
    client_tls = {"bind": "127.0.0.1:0", "client_ca": str(folder / "clients.pem")}
    own = {"certificate": str(tls.certificate), "key": str(tls.key)}
    return configured(folder, listen={"tls": own, "client_tls": client_tls})


def a_certificate_that_is_none(folder: Path) -> list[str]:
    for name in ("cert.pem", "key.pem"):
        (folder / name).write_text("none")
    return [*PLAIN, "--tls", f"{folder}/cert.pem,{folder}/key.pem"]


def no_way_to_the_cluster(folder: Path) -> list[str]:
    return configured(folder, kubernetes={"audiences": ["trow"]})


def an_address_of_another_machine(folder: Path) -> list[str]:
    return ["--bind", "192.0.2.1:0", "--anonymous", "pull"]


FRESH: Final[list[Spoil]] = [
    a_file_in_place_of_the_directory,
    a_file_above_the_directory,
    a_file_in_place_of_the_folder_of_keys,
    a_users_file_without_sense,
    client_authorities_that_are_none,
    a_certificate_that_is_none,
    no_way_to_the_cluster,
    an_address_of_another_machine,
]
USED: Final[list[Spoil]] = [
    a_lost_database,
    a_damaged_database,
    a_database_of_a_newer_trow,
    a_damaged_audit_database,
    an_audit_database_of_a_newer_trow,
    an_audit_key_that_is_none,
    a_token_key_that_is_none,
]


def says_what_a_start_says(folder: Path, flags: list[str]) -> str:
    tried = dry_run(folder, *flags)
    started = serve(folder, *flags)
    assert tried.returncode == started.returncode != 0
    assert tried.stdout == ""
    assert tried.stderr.startswith("trow: error: ")
    assert tried.stderr in started.stderr
    return tried.stderr


@pytest.mark.parametrize("obstacle", FRESH)
def test_a_dry_run_ends_as_a_start_does(obstacle: Spoil, tmp_path: Path) -> None:
    says_what_a_start_says(tmp_path, obstacle(tmp_path))


@pytest.mark.parametrize("obstacle", USED)
def test_a_dry_run_over_a_registry_ends_as_a_start_does(obstacle: Spoil, used: Path) -> None:
    says_what_a_start_says(used, obstacle(used))


@contextlib.contextmanager
def taken() -> Iterator[str]:
    """An address that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def at_bind(folder: Path, address: str) -> list[str]:
    return ["--bind", address]


def at_client_tls(folder: Path, address: str) -> list[str]:
    tls = Tls.issue(folder / "tls")
    client_tls = {"bind": address, "client_ca": str(tls.ca)}
    own = {"certificate": str(tls.certificate), "key": str(tls.key)}
    return configured(folder, listen={"tls": own, "client_tls": client_tls})


def at_admission(folder: Path, address: str) -> list[str]:
    tls = Tls.issue(folder / "tls")
    own = {"certificate": str(tls.certificate), "key": str(tls.key)}
    return configured(folder, admission={"bind": address, "tls": own}, image_validation={"default": "Allow"})


def at_probes(folder: Path, address: str) -> list[str]:
    return [*PLAIN, "--probes", address]


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        (at_bind, "listen.bind, --bind"),
        (at_client_tls, "listen.client_tls"),
        (at_admission, "admission.bind"),
        (at_probes, "listen.probes, --probes"),
    ],
)
def test_an_address_in_use_is_told_with_the_setting_that_gives_another(
    given: Callable[[Path, str], list[str]], setting: str, tmp_path: Path
) -> None:
    with taken() as address:
        said = says_what_a_start_says(tmp_path, given(tmp_path, address))
    what = f"cannot listen on 127.0.0.1 port {address.partition(':')[2]}: Address already in use"
    assert said == (f"trow: error: {what}; stop the program that listens there, or give another address ({setting})\n")


def test_a_directory_in_use_is_told_and_its_server_serves_on(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        done = serve(tmp_path, "--dry-run", *PLAIN)
        assert done.returncode == 1
        assert f"{tmp_path / 'data'} is in use by another trow; stop it or give another --data-dir" in done.stderr
        assert trow.process.poll() is None


def test_a_dry_run_makes_nothing_where_nothing_is(tmp_path: Path) -> None:
    done = dry_run(tmp_path, *PLAIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert done.stdout.endswith("A start would succeed. Nothing was changed, and nothing is served.\n")


def test_a_dry_run_leaves_a_registry_as_it_is_and_it_starts_afterwards(used: Path) -> None:
    done = dry_run(used, *PLAIN)
    assert (done.returncode, done.stderr) == (0, "")
    with Trow.start(used) as trow:
        assert trow.url in trow.urls


def test_a_dry_run_after_a_crash_leaves_the_logs_to_the_start(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        trow.process.send_signal(signal.SIGKILL)
        trow.kill()
    assert (tmp_path / "data" / "trow.db-wal").stat().st_size
    assert dry_run(tmp_path, *PLAIN).returncode == 0
    for index in (tmp_path / "data").glob("*-shm"):
        index.unlink()
    assert dry_run(tmp_path, *PLAIN).returncode == 0


def test_a_dry_run_asks_for_an_empty_database_as_a_start_does(used: Path) -> None:
    flags = a_lost_database(used)
    assert dry_run(used, *flags, "--new-database").returncode == 0


def test_what_a_start_goes_on_without_is_told_of(used: Path) -> None:
    (used / "file").touch()
    (used / "data").chmod(0o755)
    flags = configured(used, audit={"file": str(used / "file" / "audit.jsonl")})
    done = dry_run(used, *flags)
    assert done.returncode == 0
    assert f"WARNING: others can read {used / 'data'}; a start closes it to them.\n" in done.stdout
    assert f"WARNING: no audit record can be written to {used}/file/audit.jsonl (File exists)" in done.stdout


def test_too_little_space_for_the_reserve_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    nothing_free = os.statvfs_result([*real[:3], 0, 0, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: nothing_free)
    assert main(["serve", "--dry-run", *PLAIN, "--data-dir", str(tmp_path / "data")]) == 0
    assert "WARNING: there is no space in" in capsys.readouterr().out
