"""Addresses: both families, names, ports that are taken, and a data directory that is."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from support.registry import Client
from support.server import LISTENING, START_SECONDS, STOP_SECONDS, Trow, listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


def command(tmp_path: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "trow", "serve", "--data-dir", str(tmp_path / "data"), *flags]


@contextlib.contextmanager
def serving(tmp_path: Path, *flags: str) -> Iterator[list[str]]:
    """The URLs of a server's banner, while it runs."""
    stderr = tmp_path / "stderr.log"
    with stderr.open("ab") as log:
        process = subprocess.Popen(
            command(tmp_path, *flags), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, encoding="utf-8"
        )
    assert process.stdout is not None
    try:
        urls = [listening(process, stderr)]
        for line in process.stdout:  # the banner is one piece, and ends with the command to push
            if found := LISTENING.search(line):
                urls.append(found["url"])
            if line.startswith("  push"):
                break
        yield urls
    finally:
        process.terminate()
        code = process.wait(STOP_SECONDS)
        process.stdout.close()
    assert code == 0, stderr.read_text("utf-8")


def refused(tmp_path: Path, *flags: str, code: int = 1) -> str:
    """What a server says that cannot start."""
    done = subprocess.run(
        command(tmp_path, *flags), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
        timeout=START_SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def answers(url: str) -> bool:
    with Client(url) as client:
        return client.get("/v2/").status == 200


def test_ipv6(tmp_path: Path) -> None:
    with serving(tmp_path, "--bind", "[::1]:0") as urls:
        (url,) = urls
        assert url.startswith("http://[::1]:")
        assert answers(url)


def test_wildcard_is_both_families(tmp_path: Path) -> None:
    with serving(tmp_path, "--bind", "[::]:0", "--allow-anonymous-push") as urls:
        port = urlsplit(urls[0]).port
        assert all(answers(f"http://{host}:{port}") for host in ("127.0.0.1", "[::1]"))


def test_name_is_all_its_addresses(tmp_path: Path) -> None:
    found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with serving(tmp_path, "--bind", "localhost:0") as urls:
        assert {urlsplit(url).hostname for url in urls} == found
        assert len({urlsplit(url).port for url in urls}) == 1
        assert all(map(answers, urls))


def test_several_addresses(tmp_path: Path) -> None:
    with serving(tmp_path, "--bind", "127.0.0.1:0", "--bind", "[::1]:0") as urls:
        assert [urlsplit(url).hostname for url in urls] == ["127.0.0.1", "::1"]
        assert all(map(answers, urls))


def test_client_of_the_other_family_has_its_own_address_in_the_log(tmp_path: Path) -> None:
    with serving(tmp_path, "--bind", "[::]:0", "--allow-anonymous-push") as urls:
        port = urlsplit(urls[0]).port
        assert all(answers(f"http://{host}:{port}") for host in ("127.0.0.1", "[::1]"))
    log = (tmp_path / "stderr.log").read_text("utf-8")
    assert '"client":"::1"' in log
    assert '"client":"::ffff:127.0.0.1"' in log or '"client":"127.0.0.1"' in log


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_port_that_another_program_has(tmp_path: Path, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(tmp_path, "--host", host, "--port", str(port))
    assert f"cannot listen on {host} port {port}: Address already in use" in said


def test_port_that_another_trow_has(tmp_path: Path) -> None:
    with Trow.start(tmp_path / "one") as trow:
        (tmp_path / "two").mkdir()
        said = refused(tmp_path / "two", "--bind", trow.host)
        assert "Address already in use" in said
        assert answers(trow.url)


def test_address_of_another_machine(tmp_path: Path) -> None:
    assert "192.0.2.1" in refused(tmp_path, "--bind", "192.0.2.1:0", "--allow-anonymous-push")


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_other_machines_are_let_in_only_where_somebody_logs_in_or_in_so_many_words(tmp_path: Path, bind: str) -> None:
    """CVE-2026-4404 and its like: no default lets strangers push."""
    said = refused(tmp_path, "--bind", bind, code=2)
    assert "everybody could push and delete" in said
    assert "--allow-anonymous-push" in said
    for flags in (["--anonymous", "pull"], ["--allow-anonymous-push"]):
        done = subprocess.run(
            [sys.executable, "-m", "trow", "config", "check", "--bind", bind, *flags],
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=START_SECONDS, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_everybody_may_do_everything_on_loopback_and_the_banner_says_so(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow, Client(trow.url) as nobody:
        assert nobody.get("/v2/").status == 200
        assert nobody.post("/v2/a/blobs/uploads/").status == 202
    done = subprocess.run(
        command(tmp_path, "--dry-run"),
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=START_SECONDS, check=True,
    )  # fmt: skip
    assert "open to all: nobody has to log in" in done.stdout


@pytest.mark.parametrize("words", ["all", "push", "everything"])
def test_anonymous_access_is_none_or_pull(tmp_path: Path, words: str) -> None:
    said = refused(tmp_path, "--anonymous", words, code=2)
    assert "write one of none, pull" in said


def test_data_directory_that_another_trow_has(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        said = refused(tmp_path, "--port", "0")
        assert f"{tmp_path / 'data'} is in use by another trow; stop it or give another --data-dir" in said
        assert answers(trow.url)


def test_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert f"cannot write to {tmp_path / 'data'}" in refused(tmp_path, "--port", "0")


def test_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "trow.db").write_bytes(b"not a database" * 1000)
    assert "recover.md" in refused(tmp_path, "--port", "0")


def test_database_of_a_newer_trow(tmp_path: Path) -> None:
    import apsw  # noqa: PLC0415

    with Trow.start(tmp_path):
        pass
    connection = apsw.Connection(str(tmp_path / "data" / "trow.db"))
    connection.execute("PRAGMA user_version = 1000")
    connection.close()
    assert "start the newer version" in refused(tmp_path, "--port", "0")


def test_dry_run_shows_what_would_be_served_and_touches_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--dry-run", "--bind", "[::1]:5000", "--anonymous", "pull"),
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=START_SECONDS, check=True,
    )  # fmt: skip
    assert "listening   http://[::1]:5000" in done.stdout
    assert f"data        {tmp_path / 'data'}" in done.stdout
    assert "without credentials: pull" in done.stdout
    assert not (tmp_path / "data").exists()
