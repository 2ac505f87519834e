"""`trow doctor`, check by check, and servers in which something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trow.doctor.checks import CHECKS
from trow.doctor.findings import Diagnosis, DiagnosisStatus
from trow.doctor.place import Options
from trow.doctor.run import examine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import trustme

NOWHERE: Final = Path("/nowhere")


def examined(*names: str, **options: Any) -> Sequence[Diagnosis]:
    """What the checks of these names say, without anything of this machine that is not given."""
    alone = {"home": NOWHERE, "environment": {"PATH": ""}, "root": NOWHERE}
    chosen = [check for check in CHECKS if check.name in names]
    assert len(chosen) == len(names)
    return asyncio.run(examine(Options(**{**alone, **options}), chosen))


def problem(findings: Sequence[Diagnosis], check: str) -> Diagnosis:
    """The one problem that a check has found; it says a fix."""
    [found] = [each for each in findings if each.check == check and each.status is DiagnosisStatus.PROBLEM]
    assert found.fix
    return found


def fine(findings: Sequence[Diagnosis], check: str) -> Diagnosis:
    """What a check has found that has no problem."""
    found = [each for each in findings if each.check == check]
    assert {each.status for each in found} == {DiagnosisStatus.OK}, found
    return found[0]


def unchecked(findings: Sequence[Diagnosis], check: str) -> str:
    """Why something could not be found out."""
    [found] = [each for each in findings if each.check == check]
    assert found.status is DiagnosisStatus.UNCHECKED, found
    return found.what


@contextlib.contextmanager
def serving(
    certificate: trustme.LeafCert | None = None,
    headers: Mapping[str, str] | None = None,
    status: int = 200,
    body: bytes = b"",
) -> Iterator[str]:
    """A server that answers every GET alike, at HOST:PORT."""
    sent = {"Docker-Distribution-Api-Version": "registry/2.0"} if headers is None else headers

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            for name, value in sent.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - as the library calls it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
