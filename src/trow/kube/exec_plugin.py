"""Credential plugins: programs that kubeconfig files of EKS, GKE, AKS and others name, and that print credentials.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins. Only commands run
them, as kubectl does: for the person who called, with that person's environment and terminal.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime  # noqa: TC003 - msgspec reads it
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from trow.kube.access import AccessError
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_OUTPUT_BYTES: Final = 1 << 20
# Long enough for a person to log in.
INTERACTIVE_SECONDS: Final = 300.0


class _Variable(Struct, frozen=True):
    name: str
    value: str


class ExecConfig(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a kubeconfig file says about a plugin."""

    command: str
    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    args: tuple[str, ...] | None = None
    env: tuple[_Variable, ...] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool = False
    interactive_mode: Literal["Never", "IfAvailable", "Always"] | None = None


class ExecCluster(Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What a plugin is told about the cluster."""

    server: str
    tls_server_name: str = ""
    certificate_authority_data: str = ""
    config: Any = None


class _Spec(Struct, frozen=True, omit_defaults=True):
    interactive: bool
    cluster: ExecCluster | None = None


class _Request(Struct, frozen=True, rename="camel"):
    api_version: str
    spec: _Spec
    kind: str = "ExecCredential"


class ExecCredentialStatus(Struct, frozen=True, rename="camel"):
    """What a plugin has printed: a token, a client certificate with its key, or both."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: Annotated[datetime, Meta(tz=True)] | None = None


class _ExecCredential(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: Literal["ExecCredential"]
    status: ExecCredentialStatus


class ExecPlugin:
    """Runs a plugin, and again when the credentials have expired. Methods may be called from any thread.

    Args:
        config: which program.
        folder: where the kubeconfig file is: a command with a slash in it is relative to that.
        cluster: what the plugin is told; None where it does not want to know.
        clock: seconds since 1970.
        seconds: how long the plugin may take where nobody logs in meanwhile.
    """

    def __init__(
        self,
        config: ExecConfig,
        folder: Path,
        cluster: ExecCluster | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seconds: float = 60.0,
    ) -> None:
        self._config = config
        self._folder = folder
        self._cluster = cluster
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: ExecCredentialStatus | None = None

    def credentials(self) -> ExecCredentialStatus:
        """The current credentials.

        Raises:
            AccessError: the plugin cannot be run, or prints none.
        """
        with self._lock:
            expires = self._known.expiration_timestamp if self._known is not None else None
            if self._known is None or (expires is not None and expires.timestamp() <= self._clock()):
                self._known = self._run()
            return self._known

    def token(self) -> str:
        """The current token.

        Raises:
            Unavailable: as `credentials` raises AccessError.
        """
        try:
            return self.credentials().token
        except AccessError as error:
            raise Unavailable(str(error)) from None

    def _run(self) -> ExecCredentialStatus:
        config, interactive = self._config, self._interactive()
        request = _Request(config.api_version, _Spec(interactive, self._cluster))
        environment = os.environ | {each.name: each.value for each in config.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(request).decode()
        try:
            answer = msgspec.json.decode(self._output(environment, interactive=interactive), type=_ExecCredential)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._failure(f"does not print an ExecCredential ({error}); run it to see what it prints") from None
        found = answer.status
        if answer.api_version != config.api_version:
            raise self._failure(f"answers in {answer.api_version}; set apiVersion to that, or update the program")
        if bool(found.client_certificate_data) != bool(found.client_key_data):
            raise self._failure("prints a certificate without its key, or a key alone; update the program")
        if not found.token and not found.client_certificate_data:
            raise self._failure("prints neither a token nor a certificate; log in with it, and try again")
        return found

    def _interactive(self) -> bool:
        """Whether the plugin may use the terminal."""
        config = self._config
        if config.interactive_mode is None and config.api_version.endswith("/v1"):
            raise self._failure("has no interactiveMode, which v1 requires; set interactiveMode: IfAvailable")
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if config.interactive_mode == "Always" and not terminal:
            raise self._failure("needs a terminal (interactiveMode: Always); run this in one")
        return terminal and config.interactive_mode != "Never"

    def _output(self, environment: Mapping[str, str], *, interactive: bool) -> bytes:
        words = [self._program(), *(self._config.args or ())]
        # Without a terminal it leads a group of its own, so that what it has started ends with it.
        stdin, group = (None, None) if interactive else (subprocess.DEVNULL, 0)
        seconds = INTERACTIVE_SECONDS if interactive else self._seconds
        deadline = time.monotonic() + seconds
        try:
            with subprocess.Popen(  # noqa: S603 - the person's own kubeconfig file names it
                words, stdin=stdin, stdout=subprocess.PIPE, env=environment, process_group=group
            ) as process:
                try:
                    output = self._read(process, deadline)
                    code = process.wait(max(1.0, deadline - time.monotonic()))
                finally:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        if interactive:
                            process.kill()
                        else:
                            os.killpg(process.pid, signal.SIGKILL)
        except AccessError:
            raise
        except (OSError, ValueError) as error:
            raise self._failure(f"cannot be run ({error}); correct the exec section") from None
        except subprocess.TimeoutExpired:
            raise self._failure(f"takes longer than {seconds:g} s; run it to see what it waits for") from None
        if code:
            raise self._failure(f"fails with exit code {code}; see what it says above")
        return output

    def _read(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        assert process.stdout is not None  # noqa: S101 - a pipe
        descriptor, output = process.stdout.fileno(), b""
        while len(output) <= MOST_OUTPUT_BYTES:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise subprocess.TimeoutExpired(process.args, left)
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                return output
            output += chunk
        raise self._failure(f"prints more than {MOST_OUTPUT_BYTES} bytes; run it to see what it prints")

    def _program(self) -> str:
        command = self._config.command
        path = str((self._folder / command).absolute()) if "/" in command else shutil.which(command)
        # As with Go, nothing is taken from a relative entry of PATH, such as the current directory.
        if path is None or not Path(path).is_absolute() or not Path(path).exists():
            raise self._failure(f"is not installed; {self._config.install_hint or 'install it, or correct PATH'}")
        return path

    def _failure(self, what: str) -> AccessError:
        return AccessError(f"the credential plugin {self._config.command!r} {what}")
