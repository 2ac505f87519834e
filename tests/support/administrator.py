"""The administrator of a registry, as a client."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from factories import digest_of
from support.client import WireClient
from trow.oci.pull_check import pull_check_image

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"


class Administrator(WireClient):
    """Asks with the password, wherever the token service of the registry is."""

    def __init__(self, host: str, password: str) -> None:
        super().__init__(host)
        self._headers = [("authorization", f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}")]

    def push(self, repository: str) -> None:
        """An image that runs for minutes."""
        image = pull_check_image()
        for blob in image.blobs:
            target = f"/v2/{repository}/blobs/uploads/?digest={digest_of(blob)}"
            assert self.ask("POST", target, self._headers, blob).status == 201
        documents = [(digest_of(each), MANIFEST, each) for each in image.manifests] + [("v1", INDEX, image.index)]
        for reference, kind, content in documents:
            headers = [*self._headers, ("content-type", kind)]
            assert self.ask("PUT", f"/v2/{repository}/manifests/{reference}", headers, content).status == 201

    def pulls(self, repository: str) -> list[dict[str, Any]]:
        answer = self.ask("GET", f"/api/v1/audit?repository={repository}&action=pull&outcome=ok", self._headers)
        found: list[dict[str, Any]] = json.loads(answer.body)["records"]
        return found
