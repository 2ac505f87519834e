"""What it costs to know who asks and to write it down: manifest GET with a token and the audit trail, and without."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import TYPE_CHECKING

import bcrypt
from bench import servers
from bench.cases.manifest_get import requests_a_second
from bench.contenders import REPOSITORY, folder, push_small_image
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METHOD = """\
As manifest-get. One Trow is open to all and keeps no record (`--no-audit`). The other has a user, gives out a token
(`GET /token`) for each round, verifies it with every request and keeps the audit trail. Distribution has the same user
in an htpasswd file (bcrypt, the cost 5 that `htpasswd -B` uses) and is sent the password with every request, which is
the only way it knows by itself."""
USER, PASSWORD = "alice", "correct horse battery staple"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def run(setting: Setting) -> list[Result]:
    with folder(setting, "access") as home:
        open_trow = servers.Trow(home / "open")
        guarded = servers.Trow(home / "guarded")
        peer = servers.Distribution(home / "distribution")
        open_trow.flags = ["--no-audit"]
        for server in (open_trow, guarded, peer):  # filled while nobody has to log in
            with server:
                push_small_image(server)
        guarded.flags = ["--user", USER, "--password-file", str(_password(home))]
        peer.htpasswd = f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()}\n"
        with open_trow, guarded, peer:
            rate, seconds = requests_a_second, setting.sizes.seconds
            with_token, without, basic = interleaved(
                setting,
                "requests/s",
                {
                    "Trow": partial(rate, guarded, seconds, headers=partial(_bearer, guarded)),
                    "Trow, open, no record": partial(rate, open_trow, seconds),
                    "distribution, htpasswd": partial(rate, peer, seconds, headers=_basic),
                },
            )
    what = "manifest GET with token and audit"
    return [
        Result(what, "requests/s", with_token, without, must=Goal("≥", 0.7)),
        Result(what, "requests/s", with_token, basic, must=Goal("≥", 2)),
    ]


def _password(home: Path) -> Path:
    path = home / "password"
    path.write_text(PASSWORD)
    return path


def _basic() -> Sequence[str]:
    return [f"Authorization: {BASIC}"]


def _bearer(server: servers.Trow) -> Sequence[str]:
    with Connection(server.address) as connection:
        scope = f"/token?service=trow&scope=repository:{REPOSITORY}:pull"
        answer = connection.request("GET", scope, {"authorization": BASIC}).expect(200)
    return [f"Authorization: Bearer {json.loads(answer.body)['token']}"]


CASE = Case("access", METHOD, run)
