"""A live Trow: the real program in its own process, on a port of the kernel's choice, ended by its id."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import trustme

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

RESERVE: Final = "trow.reserve"  # space for deletes, which the next start takes again
START_SECONDS: Final = 60  # every core may be at work for other tests
STOP_SECONDS: Final = 40  # requests in flight have 30 s to end
LISTENING: Final = re.compile(r"\blistening\s+(?P<url>https?://(?P<host>\S+))")


@dataclass(frozen=True)
class Tls:
    """A certificate for loopback and the authority that signed it, which no machine trusts."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def issue(cls, folder: Path) -> Tls:
        """The files of `folder`; made once, so that a server started again keeps its certificate."""
        tls = cls(ca=folder / "ca" / "ca.crt", certificate=folder / "server.crt", key=folder / "server.key")
        if not folder.exists():
            tls.ca.parent.mkdir(parents=True)  # alone in its folder: some clients are told of folders
            authority = trustme.CA()
            issued = authority.issue_cert("127.0.0.1", "::1", "localhost")
            authority.cert_pem.write_to_path(str(tls.ca))
            issued.private_key_pem.write_to_path(str(tls.key))
            tls.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return tls


class Trow:
    """`with Trow.start(tmp_path) as trow:` serves `tmp_path/data` at `trow.url` until the block ends.

    Attributes:
        urls: of all listeners; that for client certificates is the last one.
    """

    def __init__(self, process: subprocess.Popen[str], urls: Sequence[str], folder: Path, tls: Tls | None) -> None:
        self.process = process
        self.urls = tuple(urls)
        self.url = urls[0]
        self.host = self.url.partition("://")[2]
        self.folder = folder
        self.stderr = folder / "stderr.log"
        self.tls = tls
        self._killed = False

    @classmethod
    def start(
        cls,
        tmp_path: Path,
        *flags: str,
        tls: bool = False,
        user: tuple[str, str] | None = None,
        config: Mapping[str, object] | None = None,
        files: int | None = None,
        log_to: int | None = None,
    ) -> Trow:
        """Start it; `config` is what stands in its configuration file, beside what these flags say.

        With `files` it may have no more of them open. Its log goes to the descriptor `log_to`, or to a file.
        """
        tmp_path.mkdir(parents=True, exist_ok=True)
        issued = Tls.issue(tmp_path / "tls") if tls else None
        argv = [sys.executable, "-m", "trow", "serve", "--host", "127.0.0.1", "--port", "0"]
        argv += ["--data-dir", str(tmp_path / "data")]
        if config is not None:
            (tmp_path / "trow.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
            argv += ["--config", str(tmp_path / "trow.yaml")]
        if issued:
            argv += ["--tls", f"{issued.certificate},{issued.key}"]
        if user:
            secret = tmp_path / "password"
            secret.write_text(user[1], encoding="utf-8")
            secret.chmod(0o600)
            argv += ["--user", user[0], "--password-file", str(secret)]
        stderr = tmp_path / "stderr.log"
        if files is not None:
            argv = ["prlimit", f"--nofile={files}:{files}", *argv]
        with stderr.open("ab") as log:
            process = subprocess.Popen(
                [*argv, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log if log_to is None else log_to, encoding="utf-8",
            )  # fmt: skip
        return cls(process, listeners(process, stderr), tmp_path, issued)

    @property
    def ca(self) -> Path:
        """The certificate of the authority that clients have to be told of."""
        assert self.tls is not None, "this server was started without tls=True"
        return self.tls.ca

    def command(self, *arguments: str, last: Sequence[str] = ()) -> str:
        """What another `trow` says beside this one, which is told of the same data, unless the last flags say where."""
        done = subprocess.run(
            [sys.executable, "-m", "trow", *arguments, *(last or ("--data-dir", str(self.folder / "data")))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"trow {' '.join(arguments)} ended with {done.returncode}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """Ask it to end and see that it ends well; a server that has been stopped or killed stays so."""
        if self._killed or self.process.returncode == 0:
            return
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self._close()
        assert code == 0, f"trow ended with {code}\n{tail(self.stderr)}"

    def kill(self) -> None:
        """What a power cut does to a process: no last words."""
        self._killed = True
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        # What a file of tests has in common stays until the run ends, and would add up.
        (self.folder / "data" / RESERVE).unlink(missing_ok=True)


def listening(process: subprocess.Popen[str], stderr: Path) -> str:
    """The URL from the start banner, which the server prints once it serves requests."""
    assert process.stdout is not None
    watchdog = threading.Timer(START_SECONDS, process.kill)  # ends the reading below
    watchdog.start()
    try:
        for line in process.stdout:
            if found := LISTENING.search(line):
                return found["url"].rstrip("/")
    finally:
        watchdog.cancel()
    process.kill()
    process.stdout.close()
    code = process.wait()
    raise AssertionError(f"trow did not start within {START_SECONDS} s (exit code {code})\n{tail(stderr)}")


def listeners(process: subprocess.Popen[str], stderr: Path) -> list[str]:
    """All URLs of the start banner, which is one piece: its last line is the command to push."""
    urls = [listening(process, stderr)]
    assert process.stdout is not None
    for line in process.stdout:
        if found := LISTENING.search(line):
            urls.append(found["url"].rstrip("/"))
        if line.startswith("  push"):
            break
    return urls


def tail(log: Path, size: int = 4000) -> str:
    return log.read_bytes()[-size:].decode("utf-8", "replace")
