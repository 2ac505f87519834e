"""64 clients push and delete the same tags, manifests and blobs for some seconds; the store is whole afterwards."""

from __future__ import annotations

import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from factories import OCI_IMAGE, digest_of, image_of
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged, strangers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.wire import Answer

CLIENTS: Final = 64
SECONDS: Final = 8.0
REPOSITORIES: Final = ("crowded/first", "crowded/second")
TAGS: Final = ("latest", "v1", "v2", "edge")
BLOBS: Final = [random.Random(size).randbytes(size) for size in (0, 10, 3000, 65_536, 65_537, 90_000, 300_000)]
MANIFESTS: Final = [image_of(blob, [BLOBS[-1]], annotations={"size": str(len(blob))}) for blob in BLOBS]
CONTENT: Final = {digest_of(content): content for content in (*BLOBS, *MANIFESTS)}


class Participant:
    """Does one thing after the other, and knows which answers are right."""

    def __init__(self, host: str, chance: random.Random) -> None:
        self._client = WireClient(host)
        self._chance = chance
        self._steps: list[Callable[[str, str, bytes, bytes], None]] = [
            self._push_blob,
            self._push_in_a_session,
            self._mount,
            self._pull_blob,
            self._delete_blob,
            self._push_tag,
            self._push_tag,
            self._push_with_tags,
            self._pull_tag,
            self._delete_tag,
            self._delete_manifest,
            self._list,
            self._read_history,
        ]

    def run(self) -> int:
        """Returns how many steps it did."""
        count, end = 0, time.monotonic() + SECONDS
        with self._client:
            while time.monotonic() < end:
                chosen = [self._chance.choice(each) for each in (REPOSITORIES, TAGS, BLOBS, MANIFESTS)]
                self._chance.choice(self._steps)(*chosen)  # type: ignore[arg-type]
                count += 1
        return count

    def _ask(self, method: str, path: str, *allowed: int, body: bytes | None = None) -> Answer:
        answer = self._client.ask(method, path, [("Content-Type", OCI_IMAGE)], body)
        assert answer.status in allowed, f"{method} {path}: {answer}"
        return answer

    def _push_blob(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        self._ask("POST", f"/v2/{repository}/blobs/uploads/?digest={digest_of(blob)}", 201, body=blob)

    def _push_in_a_session(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        session = self._client.begin(repository)
        middle = self._chance.randint(0, len(blob))
        self._ask("PATCH", session, 202, body=blob[:middle])
        self._ask("PUT", f"{session}?digest={digest_of(blob)}", 201, body=blob[middle:])

    def _mount(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        source = self._chance.choice(REPOSITORIES)
        path = f"/v2/{repository}/blobs/uploads/?mount={digest_of(blob)}&from={source}"
        answer = self._ask("POST", path, 201, 202, body=b"")
        if answer.status == 202:
            self._ask("DELETE", answer.header("location"), 204)

    def _pull_blob(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        answer = self._ask("GET", f"/v2/{repository}/blobs/{digest_of(blob)}", 200, 404)
        assert answer.status == 404 or answer.body == blob

    def _delete_blob(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        self._ask("DELETE", f"/v2/{repository}/blobs/{digest_of(blob)}", 202, 404)

    def _push_tag(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        self._publish(f"/v2/{repository}/manifests/{tag}", manifest)

    def _push_with_tags(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        query = "&".join(f"tag={each}" for each in self._chance.sample(TAGS, 2))
        self._publish(f"/v2/{repository}/manifests/{digest_of(manifest)}?{query}", manifest)

    def _publish(self, path: str, manifest: bytes) -> None:
        """Somebody else may have deleted what it refers to."""
        answer = self._ask("PUT", path, 201, 400, body=manifest)
        assert answer.status == 201 or json.loads(answer.body)["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"

    def _pull_tag(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        answer = self._ask("GET", f"/v2/{repository}/manifests/{tag}", 200, 404)
        assert answer.status == 404 or answer.body == CONTENT[answer.header("docker-content-digest")]

    def _delete_tag(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        self._ask("DELETE", f"/v2/{repository}/manifests/{tag}", 202, 404)

    def _delete_manifest(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest_of(manifest)}", 202, 404)

    def _list(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        answer = self._ask("GET", f"/v2/{repository}/tags/list", 200, 404)
        tags = json.loads(answer.body)["tags"] if answer.status == 200 else []
        assert tags == sorted(set(tags) & set(TAGS))

    def _read_history(self, repository: str, tag: str, blob: bytes, manifest: bytes) -> None:
        answer = self._ask("GET", f"/api/v1/repositories/{repository}/tags/{tag}/history?n=20", 200, 404)
        if answer.status == 200:
            assert_no_gaps(json.loads(answer.body)["history"])


def assert_no_gaps(events: list[dict[str, object]]) -> None:
    """Newest first, numbered without a gap; each is another state than the one before."""
    for newer, older in itertools.pairwise(events):
        assert isinstance(older["sequence"], int)
        assert newer["sequence"] == older["sequence"] + 1
        assert newer["digest"] != older["digest"]


def test_a_crowd_on_the_same_tags_leaves_a_whole_store(tmp_path: Path) -> None:
    config = tmp_path / "trow.yaml"
    config.write_text("registry: {tag_history: 1000000}\n", "utf-8")
    with Trow.start(tmp_path, "--config", str(config)) as trow:
        participants = [Participant(trow.host, random.Random(number)) for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            steps = [run.result() for run in [pool.submit(each.run) for each in participants]]
        assert min(steps) > 0
        with WireClient(trow.host) as client:
            for repository in REPOSITORIES:
                for tag in TAGS:
                    check_history(client, repository, tag)
        assert staged(tmp_path / "data") == []
        assert_clean(tmp_path / "data")
    assert strangers(tmp_path / "data") == []
    assert_clean(tmp_path / "data")
    assert b"Traceback" not in trow.stderr.read_bytes()


def check_history(client: WireClient, repository: str, tag: str) -> None:
    """It goes back to number 1, and its newest line is what the tag is now."""
    events = whole_history(client, f"/api/v1/repositories/{repository}/tags/{tag}/history?n=1000")
    assert_no_gaps(events)
    assert events[-1]["sequence"] == 1
    now = client.ask("HEAD", f"/v2/{repository}/manifests/{tag}")
    assert (now.header("docker-content-digest") or None) == events[0]["digest"]


def whole_history(client: WireClient, path: str) -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    while path:
        answer = client.ask("GET", path)
        assert answer.status == 200, answer
        events += json.loads(answer.body)["history"]
        path = answer.header("link").partition(">")[0].removeprefix("<")
    return events
