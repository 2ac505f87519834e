"""The contenders, each a real process on a free port of 127.0.0.1, logging as it does by default, to a file."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import trustme
from bench.processes import tree
from bench.tools import tool
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.001
HOST = "127.0.0.1"


class Tls:
    """A certificate for loopback, in PEM files below `folder`, and clients that trust it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        issued = authority.issue_cert(HOST, key_type=trustme.KeyType.RSA)
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority.cert_pem.write_to_path(str(self.authority))
        issued.private_key_pem.write_to_path(str(self.key))
        self.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        self.context = ssl.create_default_context(cafile=str(self.authority))

    @property
    def files(self) -> str:
        """Both files as a mapping of YAML."""
        return f"{{certificate: {self.certificate}, key: {self.key}}}"


class Server:
    """One contender: `start`, talk to `address`, `stop`. It keeps everything below `home`."""

    name: ClassVar[str]
    ready: ClassVar[str] = "/v2/"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "log"
        self.tls: Tls | None = None
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}"

    def connect(self) -> Connection:
        """A connection over TLS where the server has a certificate."""
        return Connection(self.address, self.tls.context if self.tls else None)

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> float:
        """Run it; answer the seconds from its start to its first 200."""
        command = self.command()
        self.log.write_bytes(b"")
        began = time.perf_counter()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.environment()
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - began > START_SECONDS:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - began

    def stop(self) -> None:
        """Ask it to end, and after a while make it."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it without warning."""
        process = self._running()
        for member in tree(process.pid):
            os.kill(member, signal.SIGKILL)
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError

    def _answers(self) -> bool:
        try:
            with self.connect() as connection:
                return connection.request("GET", self.ready).status == 200
        except OSError:
            return False


class Trow(Server):
    """`flags` are for the next start."""

    name = "Trow"
    ready = "/healthz"
    program = Path(sys.executable).with_name("trow")
    flags: Sequence[str] = ()

    def command(self) -> list[str]:
        self.port = 0
        place = ["--data-dir", str(self.data), "--host", HOST, "--port", "0"]
        tls = ["--tls", f"{self.tls.certificate},{self.tls.key}"] if self.tls else []
        return [str(self.program), "serve", *place, *tls, *self.flags]

    @classmethod
    def version(cls) -> str:
        return output([str(cls.program), "version"]).splitlines()[0].split()[-1]

    def _answers(self) -> bool:
        """The kernel chooses the port; the banner tells it once requests are served."""
        if not self.port:
            banner = re.search(rf"listening\s+https?://{re.escape(HOST)}:(\d+)", self.log.read_text())
            self.port = int(banner[1]) if banner else 0
        return self.port != 0 and super()._answers()


DISTRIBUTION = """\
version: 0.1
log: {{fields: {{service: registry}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {data}}}
  tag: {{concurrencylimit: 8}}
http:
  addr: {host}:{port}
  headers: {{X-Content-Type-Options: [nosniff]}}
health:
  storagedriver: {{enabled: true, interval: 10s, threshold: 3}}
"""


HTPASSWD = """\
auth:
  htpasswd: {{realm: bench, path: {path}}}
"""


class Distribution(Server):
    """With the configuration and the environment of its own image; `htpasswd`, a file's text, is for the next start."""

    name = "distribution"
    # It answers without credentials where it wants some.
    ready = "/"
    htpasswd = ""

    def command(self) -> list[str]:
        self.port = free_port()
        config = self.home / "config.yml"
        text = DISTRIBUTION.format(data=self.data, host=HOST, port=self.port)
        if self.htpasswd:
            users = self.home / "htpasswd"
            users.write_text(self.htpasswd)
            text += HTPASSWD.format(path=users)
        if self.tls:
            text = text.replace(f"{self.port}\n", f"{self.port}\n  tls: {self.tls.files}\n", 1)
        config.write_text(text)
        return [str(tool("registry")), "serve", str(config)]

    def environment(self) -> Mapping[str, str]:
        return {"OTEL_TRACES_EXPORTER": "none"}

    @classmethod
    def version(cls) -> str:
        return output([str(tool("registry")), "--version"]).split()[-1]


NGINX = """\
{user}
daemon off;
worker_processes auto;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 768; }}
http {{
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
  access_log {home}/access.log;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  server {{
    listen {host}:{port};
    root {data};
    location = /ready {{ return 200; }}
  }}
}}
"""


class Nginx(Server):
    """Files by `sendfile`, with the settings of its Debian package: the limit of what a server can hand out."""

    name = "nginx"
    ready = "/ready"

    def command(self) -> list[str]:
        self.port = free_port()
        config = self.home / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(NGINX.format(home=self.home, data=self.data, host=HOST, port=self.port, user=user))
        return [str(tool("nginx")), "-p", str(self.home), "-e", "stderr", "-c", str(config)]

    @classmethod
    def version(cls) -> str:
        return output([str(tool("nginx")), "-v"]).rpartition("/")[2]


def free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def output(command: list[str]) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip()
