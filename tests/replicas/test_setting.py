"""`metadata: postgres`: what a start asks for, what real clients see, and what happens while the server is gone."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import factories
from clients.box import Box
from clients.image import TAG, image, write_layout
from clients.registry import Registry
from support.postgres import PostgresServer, pgbouncer
from support.registry import Client, Repository
from support.server import START_SECONDS, Trow
from support.waiting import until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.replicas import Replicas

pytestmark = pytest.mark.slow


def refusal(
    folder: Path, config: Mapping[str, Any], *flags: str, data_dir: Path | None = None, path: Path | None = None
) -> str:
    """What `trow serve` says where it does not start; modules are looked for in `path` first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trow.yaml").write_text(json.dumps(config), "utf-8")
    argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--config", str(folder / "trow.yaml"), *flags]
    done = subprocess.run(
        [*argv, "--data-dir", str(data_dir or folder / "data")],
        stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=START_SECONDS, check=False,
        env={**os.environ, "PYTHONPATH": str(path or "")},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    return done.stderr


def on(url: str, **postgres: Any) -> dict[str, Any]:
    return {"metadata": "postgres", "postgres": {"url": url, **postgres}}


@pytest.mark.parametrize("server", ["newest", "oldest"], indirect=True)
def test_real_clients_push_at_one_replica_and_pull_at_the_other(replicas: Replicas, tmp_path: Path) -> None:
    first, second = (Registry(each) for each in replicas.trows)
    made = image("team/app")
    layout, box = write_layout(made, tmp_path / "in"), Box(tmp_path)
    box.run("crane", "push", layout, f"{first.host}/team/app:{TAG}", "--insecure")
    assert second.complete("team/app", TAG).manifest == made.raw
    box.run("crane", "validate", f"--remote={second.host}/team/app:{TAG}", "--insecure")
    box.run(
        "skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
        f"docker://{second.host}/team/app:{TAG}", f"docker://{second.host}/team/copy:{TAG}",
    )  # fmt: skip
    box.run(
        "skopeo", "copy", "--src-tls-verify=false",
        f"docker://{first.host}/team/copy:{TAG}", f"oci:{tmp_path / 'out'}:{TAG}",
    )  # fmt: skip
    assert (tmp_path / "out" / "blobs" / "sha256" / made.digest.removeprefix("sha256:")).read_bytes() == made.raw


def test_a_pgbouncer_in_transaction_mode_may_stand_between(server: PostgresServer, url: str, tmp_path: Path) -> None:
    with (
        pgbouncer(tmp_path, server, url.rpartition("/")[2]) as between,
        Trow.start(tmp_path, config=on(between, statement_cache_size=0)) as trow,
        Client(trow.url) as client,
    ):
        for number in range(20):
            repository, pushed = Repository(client, f"team/app{number % 3}"), factories.image()
            repository.push(pushed, f"v{number}")
            assert client.get(repository.manifest(f"v{number}")).body == pushed.raw
        assert client.get("/readyz").status == 200


def test_a_registry_is_not_ready_while_its_database_is_gone_and_serves_again_when_it_is_back(
    server: PostgresServer, replicas: Replicas
) -> None:
    repository, pushed = Repository(replicas.clients[0], "team/app"), factories.image()
    repository.push(pushed, "v1")
    server.down()
    for client in replicas.clients:
        ready, pulled = client.get("/readyz"), client.get(repository.manifest("v1"))
        assert (ready.status, ready.json["checks"]["storage"]) == (503, "ok")
        assert "the registry's database does not work" in ready.json["checks"]["database"]
        assert pulled.refusal == (503, "UNAVAILABLE")
        assert int(pulled.headers["retry-after"]) > 0
        assert client.get("/healthz").status == 200
    server.up()
    for client in replicas.clients:
        until(lambda client=client: client.get("/readyz").status == 200, START_SECONDS)  # type: ignore[misc]
        assert client.get(repository.manifest("v1")).body == pushed.raw


def test_a_server_that_takes_no_writes_takes_its_replicas_out_of_service(
    server: PostgresServer, replicas: Replicas
) -> None:
    client = replicas.clients[0]
    server.configure("default_transaction_read_only", "on")
    try:
        until(lambda: client.get("/readyz").status == 503, START_SECONDS)
    finally:
        server.configure("default_transaction_read_only", "off")
    until(lambda: client.get("/readyz").status == 200, START_SECONDS)


def test_a_data_directory_that_is_not_shared_is_refused(replicas: Replicas, url: str, tmp_path: Path) -> None:
    said = refusal(tmp_path / "other", on(url))
    assert "is not the data directory that the database in PostgreSQL belongs to" in said
    assert "ReadWriteMany" in said


def test_an_empty_database_is_not_taken_for_that_of_a_registry_unless_it_is_wanted(
    server: PostgresServer, replicas: Replicas, tmp_path: Path
) -> None:
    Repository(replicas.clients[0], "team/app").push_blob(factories.blob(100_000))
    for trow in replicas.trows:
        trow.stop()
    with server.whole_database() as empty:
        said = refusal(tmp_path / "again", on(empty), data_dir=replicas.data_dir)
        assert "holds nothing, although a registry was in" in said
        flags = ("--data-dir", str(replicas.data_dir), "--new-database")
        with Trow.start(tmp_path / "again", *flags, config=on(empty)) as trow, Client(trow.url) as client:
            assert client.get("/readyz").status == 200


def test_a_dry_run_makes_nothing_in_the_database(server: PostgresServer, url: str, tmp_path: Path) -> None:
    (tmp_path / "trow.yaml").write_text(json.dumps(on(url)), "utf-8")
    argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--config", str(tmp_path / "trow.yaml"), "--dry-run"]
    done = subprocess.run(
        [*argv, "--data-dir", str(tmp_path / "data")], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    server.execute("CREATE TABLE trow_schema ()", url=url)  # fails where there is one
    unreachable = refusal(tmp_path, on("postgresql://trow@127.0.0.1:1/trow"), "--dry-run")
    assert "PostgreSQL cannot be reached" in unreachable
    assert "check postgres.url" in unreachable


def test_without_its_package_a_start_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "asyncpg").mkdir()
    (tmp_path / "asyncpg" / "__init__.py").write_text("raise ModuleNotFoundError('No module named asyncpg')", "utf-8")
    said = refusal(tmp_path, on("postgresql://trow@127.0.0.1:1/trow"), path=tmp_path)
    assert "pip install 'trow[postgres]'" in said


def test_the_password_comes_from_a_file_and_the_certificate_is_verified(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    for name, ca in (("ca.crt", authority), ("other.crt", stranger)):
        ca.cert_pem.write_to_path(str(tmp_path / name))
    password, wrong = secrets.token_hex(8), tmp_path / "wrong"
    (tmp_path / "password").write_text(f"{password}\n", "utf-8")
    wrong.write_text("guess", "utf-8")
    with PostgresServer.start(Path(tool("pg_ctl")).parent) as server:  # the other one is built without TLS
        server.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{password}'", "CREATE DATABASE guarded OWNER guarded")
        key = server.give("server.key", issued.private_key_pem.bytes())
        certificate = server.give("server.crt", b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        server.give("data/pg_hba.conf", b"hostssl guarded guarded 127.0.0.1/32 scram-sha-256\n")
        server.down()
        server.up("-c", "ssl=on", "-c", f"ssl_key_file={key}", "-c", f"ssl_cert_file={certificate}")
        url = f"postgresql://guarded@127.0.0.1:{server.port}/guarded"
        files = {"password_file": str(tmp_path / "password"), "ca_file": str(tmp_path / "ca.crt")}
        with Trow.start(tmp_path, config=on(url, **files)) as trow, Client(trow.url) as client:
            assert client.get("/readyz").status == 200
        assert "password authentication failed" in refusal(tmp_path, on(url, **files | {"password_file": str(wrong)}))
        stranger_file = {"ca_file": str(tmp_path / "other.crt")}
        assert "certificate verify failed" in refusal(tmp_path, on(url, **files | stranger_file))
