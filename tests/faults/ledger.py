"""Clients that push at random and write down, before and after each request, what they know."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from factories import digest_of, image_of
from support.client import WireClient
from support.wire import ConnectionEnded

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# Both sides of the size up to which blobs live in the database, and files of a few MB.
_SMALL: Final = (0, 1, 500, 30_000, 65_535, 65_536)
_LARGE: Final = (65_537, 100_000, 400_000, 1_000_000, 3_000_000)
_TAGS: Final = ("latest", "v1", "v2", "edge")


@dataclass
class Push:
    """One effect that a client asked for; ``acknowledged`` once it was told of success."""

    repository: str
    digest: str
    content: bytes
    acknowledged: bool = False


@dataclass
class Publication(Push):
    """A manifest with the tags that come along with it."""

    tags: tuple[str, ...] = ()


@dataclass
class ReviewRecorder:
    """What one client has done. It alone writes to its repository, so nobody else moves its tags."""

    repository: str
    blobs: list[Push] = field(default_factory=list)
    manifests: list[Publication] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    acknowledge: Callable[[], None] = lambda: None

    def note(self, push: Push) -> None:
        push.acknowledged = True
        self.acknowledge()

    @property
    def unanswered(self) -> list[Push]:
        return [push for push in (*self.blobs, *self.manifests) if not push.acknowledged]


class Pusher:
    """Pushes images until the server is gone."""

    def __init__(self, host: str, ledger: ReviewRecorder, chance: random.Random, shared: list[bytes]) -> None:
        self._client = WireClient(host)
        self._ledger = ledger
        self._chance = chance
        self._shared = shared

    def run(self) -> None:
        try:
            while True:
                self._push_image()
        except ConnectionEnded:
            self._client.close()

    def _push_image(self) -> None:
        layers = [self._content() for _ in range(self._chance.randint(1, 3))]
        config = self._chance.randbytes(200)
        for content in (*layers, config):
            self._push_blob(content)
        self._publish(image_of(config, layers))

    def _content(self) -> bytes:
        if self._chance.random() < 0.15:
            return self._chance.choice(self._shared)
        return self._chance.randbytes(self._chance.choice(_SMALL if self._chance.random() < 0.7 else _LARGE))

    def _push_blob(self, content: bytes) -> None:
        push = Push(self._ledger.repository, digest_of(content), content)
        self._ledger.blobs.append(push)
        self._chance.choice((self._whole, self._put, self._streamed, self._chunked))(push)
        self._ledger.note(push)

    def _whole(self, push: Push) -> None:
        assert self._client.push_whole(push.repository, push.content).status == 201

    def _put(self, push: Push) -> None:
        assert self._client.finish(self._begin(push), push.digest, push.content).status == 201

    def _streamed(self, push: Push) -> None:
        session = self._begin(push)
        middle = self._chance.randint(0, len(push.content))
        pieces = [piece for piece in (push.content[:middle], push.content[middle:]) if piece]
        assert self._client.stream(session, pieces).status == 202
        assert self._client.finish(session, push.digest).status == 201

    def _chunked(self, push: Push) -> None:
        session = self._begin(push)
        size = max(1, len(push.content) // 3)
        chunks = [push.content[start : start + size] for start in range(0, len(push.content), size)]
        *most, last = chunks or [b""]
        for number, chunk in enumerate(most):
            assert self._client.append(session, chunk, number * size).status == 202
        assert self._client.finish(session, push.digest, last).status == 201

    def _begin(self, push: Push) -> str:
        session = self._client.begin(push.repository)
        self._ledger.sessions.append(session)
        return session

    def _publish(self, manifest: bytes) -> None:
        tags = tuple(self._chance.sample(_TAGS, self._chance.randint(0, 3)))
        push = Publication(self._ledger.repository, digest_of(manifest), manifest, tags=tags)
        self._ledger.manifests.append(push)
        if len(tags) == 1:
            answer = self._client.put_manifest(push.repository, tags[0], manifest)
        else:
            query = "&".join(f"tag={tag}" for tag in tags)
            answer = self._client.put_manifest(push.repository, f"{push.digest}?{query}", manifest)
        assert answer.status == 201, answer
        self._ledger.note(push)


class Auditor:
    """Compares a registry with what clients wrote down."""

    def __init__(self, host: str) -> None:
        self._client = WireClient(host)

    def check(self, ledger: ReviewRecorder) -> None:
        for push in ledger.blobs:
            self._check(push, "blobs")
        for push in ledger.manifests:
            self._check(push, "manifests")
        for session in ledger.sessions:
            assert self._client.ask("GET", session).status == 404
        self._check_tags(ledger)

    def _check(self, push: Push, kind: str) -> None:
        answer = self._client.ask("GET", f"/v2/{push.repository}/{kind}/{push.digest}")
        if answer.status == 200:
            assert answer.body == push.content, f"{push.digest} has {len(answer.body)} of {len(push.content)} bytes"
        else:
            assert answer.status == 404
            assert not push.acknowledged, f"{push.repository}@{push.digest} was acknowledged and is lost"

    def _check_tags(self, ledger: ReviewRecorder) -> None:
        """Each tag points where its last acknowledged push put it, or where the unanswered one after that did."""
        possible: dict[str, list[str]] = {}
        for push in ledger.manifests:
            for tag in push.tags:
                possible[tag] = [push.digest] if push.acknowledged else [*possible.get(tag, [""]), push.digest]
        for tag in _TAGS:
            answer = self._client.ask("HEAD", f"/v2/{ledger.repository}/manifests/{tag}")
            assert answer.header("docker-content-digest") in possible.get(tag, [""])
        for push in ledger.manifests:
            if not push.acknowledged:
                self._check_all_or_nothing(push)
        self._check_list(ledger)

    def _check_all_or_nothing(self, push: Publication) -> None:
        """The manifest and all its tags, or none of them (it was the client's last push, so no tag has moved on)."""
        there = self._client.ask("HEAD", f"/v2/{push.repository}/manifests/{push.digest}").status == 200
        for tag in push.tags:
            answer = self._client.ask("HEAD", f"/v2/{push.repository}/manifests/{tag}")
            assert (answer.header("docker-content-digest") == push.digest) == there

    def _check_list(self, ledger: ReviewRecorder) -> None:
        """Lists name what can be read, no more and no less."""
        listed = self._client.ask("GET", f"/v2/{ledger.repository}/tags/list")
        tags = [tag for tag in sorted(_TAGS) if self._client.get_manifest(ledger.repository, tag).status == 200]
        assert (json.loads(listed.body)["tags"] if listed.status == 200 else []) == tags
        catalogue = json.loads(self._client.ask("GET", "/v2/_catalog?n=10000").body)["repositories"]
        readable = [self._client.get_manifest(push.repository, push.digest).status for push in ledger.manifests]
        assert (ledger.repository in catalogue) == (200 in readable)

    def close(self) -> None:
        self._client.close()
