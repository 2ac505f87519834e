"""`trow serve --dry-run`: try what a start would try, in its order, and change nothing on the disk."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from trow.app.audit import try_audit
from trow.app.identity import try_identities
from trow.app.kubernetes import client_of
from trow.app.listeners import ADMISSION_BIND, CLIENT_TLS, LISTEN_BIND, PROBES_BIND
from trow.app.serve import start_errors
from trow.app.stores import try_database
from trow.http.server import reserve
from trow.lib.datadir import DATABASE, is_open_to_others, try_to_hold
from trow.lib.files import try_file, try_folder
from trow.lib.reserve import has_room
from trow.tls.files import TlsFiles
from trow.tls.terminator import TlsTerminator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.config import Bind, Config


def try_start(config: Config, *, new_database: bool = False) -> Sequence[str]:
    """See whether this could be served now.

    Args:
        config: what to serve.
        new_database: as for `serve`.

    Returns:
        What a start would say, do or go on without; nothing where all is well.

    Raises:
        StartError: it could not; as `serve` would say it.
    """
    listen, admission = config.listen, config.admission
    further = (
        (listen.client_tls.bind if listen.client_tls is not None else None, CLIENT_TLS),
        (admission.bind, ADMISSION_BIND),
        (listen.probes, PROBES_BIND),
    )
    shared = config.replicas > 1
    with start_errors(config), try_to_hold(config.data_dir, shared=shared), contextlib.ExitStack() as held:
        asyncio.run(try_database(config, new=new_database))
        for bind in listen.bind:
            _hold(held, bind, LISTEN_BIND)
        _try_files(config)
        asyncio.run(_try_cluster(config))
        for other, setting in further:
            if other is not None:
                _hold(held, other, setting)
        return list(_notes(config))


def _hold(held: contextlib.ExitStack, bind: Bind, setting: str) -> None:
    for address in reserve(bind.host, bind.port, setting):
        held.callback(address.reservation.close)


def _try_files(config: Config) -> None:
    """Certificates and keys of this side were tried with the settings."""
    if config.metadata == "sqlite":
        try_file(config.data_dir / DATABASE)
    for folder in ("blobs", "uploads", "quarantine"):
        try_folder(config.data_dir / folder)
    try_audit(config)
    try_identities(config)
    client_tls, tls = config.listen.client_tls, config.listen.tls
    if client_tls is not None and tls is not None:
        TlsTerminator(TlsFiles(tls.certificate, tls.key), client_tls.client_ca, client_tls.crl)


async def _try_cluster(config: Config) -> None:
    """The files that lead to the API server. It is not asked: a start goes on without an answer, and asks again."""
    kubernetes, admission = config.kubernetes, config.admission
    kept = admission.bind is not None and admission.tls is None
    if kubernetes.audiences or kubernetes.authorization or kubernetes.node_agents or admission.policies or kept:
        async with client_of(kubernetes):
            pass


def _notes(config: Config) -> Iterator[str]:
    if is_open_to_others(config.data_dir):
        yield f"others can read {config.data_dir}; a start closes it to them"
    reserve_file = config.data_dir / "trow.reserve"
    if not has_room(reserve_file, config.limits.reserved_space):
        yield f"there is no space in {config.data_dir} for the reserve for deletes (limits.reserved_space); free some"
    audit = config.audit
    if audit.enabled and audit.file is not None:
        try:
            try_file(audit.file)
        except OSError as error:
            yield f"no audit record can be written to {audit.file} ({error.strerror}); set another audit.file"
