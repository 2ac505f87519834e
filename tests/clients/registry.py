"""A live registry as these tests see it: over the wire, with no client between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import urllib3

from factories import DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX, digest_of
from support.server import Trow
from trow.identity import htpasswd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clients.authority import Certificate
    from factories import Manifest

ACCEPT: Final = f"{OCI_IMAGE}, {OCI_INDEX}, {DOCKER_IMAGE}, {DOCKER_LIST}"


@dataclass(frozen=True)
class Login:
    name: str
    password: str


ALICE: Final = Login("alice", "correct-horse")  # may do everything
CAROL: Final = Login("carol", "battery-staple")  # may do next to nothing


@dataclass(frozen=True)
class Stored:
    """A manifest as the registry serves it, all content of which has been fetched and hashed."""

    media_type: str
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.manifest)
        return document


class Registry:
    """A server, and the user whose eyes look into it; that user's password goes with each request."""

    def __init__(
        self,
        trow: Trow,
        login: Login | None = None,
        challenge: str = "bearer",
        *,
        url: str = "",
        certificate: Certificate | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.challenge = challenge
        self.url = url or trow.url
        self.host = self.url.partition("://")[2]
        self.login = login
        self.trow = trow
        self._pool = urllib3.PoolManager(
            ca_certs=str(trow.ca) if trow.tls else None,
            cert_file=str(certificate.file) if certificate else None,
            key_file=str(certificate.key) if certificate else None,
            retries=False,
        )
        self._headers = (
            urllib3.make_headers(basic_auth=f"{login.name}:{login.password}") if login else dict(headers or {})
        )

    @cached_property
    def robot(self) -> Login:
        """A token of `trow token create` in the place of a password; the name says nothing."""
        grants = ("--repository=clients/**", "--action=pull,push")
        return Login("any-name", self.trow.command("token", "create", "--name=ci", *grants).strip())

    @property
    def connections(self) -> int:
        """How many were made."""
        pool: urllib3.HTTPConnectionPool = self._pool.connection_from_url(self.url)
        return pool.num_connections

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """One request; `path` may be a Location, with or without the host."""
        url = path if path.startswith("http") else self.url + path
        headers = {**self._headers, **options.pop("headers", {})}
        return self._pool.request(method, url, headers=headers, timeout=20, redirect=False, **options)

    def manifest(self, repository: str, reference: str) -> Stored:
        answer = self.request("GET", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT})
        assert answer.status == 200, answer.data
        assert answer.headers["Docker-Content-Digest"] == digest_of(answer.data)
        return Stored(answer.headers["Content-Type"], answer.data)

    def blob(self, repository: str, name: str) -> bytes:
        answer = self.request("GET", f"/v2/{repository}/blobs/{name}")
        assert answer.status == 200, answer.data
        assert digest_of(answer.data) == name
        return answer.data

    def has(self, repository: str, reference: str) -> bool:
        answer = self.request("HEAD", f"/v2/{repository}/manifests/{reference}", headers={"Accept": ACCEPT})
        assert answer.status in (200, 404), answer.status
        return answer.status == 200

    def tags(self, repository: str) -> list[str]:
        answer = self.request("GET", f"/v2/{repository}/tags/list")
        tags: list[str] = answer.json()["tags"]
        return tags

    def complete(self, repository: str, reference: str) -> Stored:
        """The manifest under the reference, after every blob and manifest it leads to came back unharmed."""
        stored = self.manifest(repository, reference)
        document = stored.document
        for child in document.get("manifests", ()):
            assert self.complete(repository, child["digest"]).digest == child["digest"]
        for part in (*document.get("layers", ()), *([document["config"]] if "config" in document else ())):
            assert len(self.blob(repository, part["digest"])) == part["size"]
        return stored

    def push(self, repository: str, image: Manifest, reference: str) -> None:
        """Put an image there without any client."""
        for child in image.children:
            self.push(repository, child, child.digest)
        for blob in image.blobs:
            location = self.request("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
            joiner = "&" if "?" in location else "?"
            put = self.request("PUT", f"{location}{joiner}digest={blob.digest}", body=blob.content)
            assert put.status == 201, put.data
        put = self.request(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            body=image.raw,
            headers={"Content-Type": image.media_type},
        )
        assert put.status == 201, put.data


def start_private(folder: Path, *flags: str, **config: object) -> Trow:
    """ALICE may do everything, CAROL may do nothing that these tests want."""
    users = folder / "users"
    users.write_text(f"{CAROL.name}:{htpasswd.hash_password(CAROL.password)}\n", encoding="utf-8")
    users.chmod(0o600)
    rule = {"users": [CAROL.name], "repositories": ["carol/**"], "actions": ["pull"]}
    known = {"auth": {"users_file": str(users)}, "access": {"rules": [rule]}}
    return Trow.start(folder, *flags, tls=True, user=(ALICE.name, ALICE.password), config=known | config)
