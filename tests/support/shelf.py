"""An API server of a few lines: it keeps objects, lists and watches them, and refuses what a test wants refused."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web

from support.apiserver import Answer, Asked, Loopback

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

Item: TypeAlias = "dict[str, Any]"
_LOOK_SECONDS: Final = 0.005


class Shelf(Loopback):
    """Objects by their path.

    Attributes:
        objects: what is there.
        asked: what was asked, but for lists and watches.
        lists: how many were answered.
        refuse: what is answered instead; None where it is done.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.objects: dict[str, Item] = {}
        self.asked: list[Asked] = []
        self.refuse: Callable[[Asked], Answer | None] = lambda asked: None
        self.lists = 0
        self._versions = itertools.count(1)
        self._events: list[tuple[int, str, str, Item]] = []

    # ---- what a test does

    def put(self, path: str, item: Item) -> Item:
        """Have an object, or another one in its place; a change of the specification is a new generation."""
        before = self.objects.get(path)
        changed = before is not None and before.get("spec") != item.get("spec")
        generation = before["metadata"]["generation"] + changed if before else 1
        kept = copy.deepcopy(item)
        kept.setdefault("metadata", {})["generation"] = generation
        if before and "status" in before:
            kept.setdefault("status", before["status"])
        return self._keep(path, kept, "MODIFIED" if before else "ADDED")

    def drop(self, path: str) -> None:
        self._keep(path, self.objects[path], "DELETED")
        del self.objects[path]

    def written(self, method: str = "PATCH") -> list[str]:
        """The paths of what was written."""
        return [asked.path for asked in self.asked if asked.method == method]

    def _keep(self, path: str, item: Item, change: str) -> Item:
        version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(version)
        self.objects[path] = item
        self._events.append((version, path, change, copy.deepcopy(item)))
        return item

    # ---- what is answered

    async def respond(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            request.headers.get("Content-Type", ""),
            json.loads(raw) if raw else None,
        )
        if (refused := self.refuse(asked)) is not None:
            return refused.response()
        if asked.watch:
            return await self._watch(request, asked)
        return self._answer(asked).response()

    def _answer(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            self.lists += 1
            metadata = {"resourceVersion": str(next(self._versions))}
            found = sorted(self.objects.copy().items())
            items = [item for path, item in found if _collection(path) == _everywhere(asked.path)]
            return Answer({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})
        self.asked.append(asked)
        if asked.method == "DELETE":
            if asked.path not in self.objects:
                return refusal(404, "not found")
            self.drop(asked.path)
            return Answer({})
        path = asked.path.removesuffix("/status")
        if path == asked.path:
            return Answer(self.put(path, asked.body))
        if path not in self.objects:
            return refusal(404, "not found")
        return Answer(self._keep(path, {**self.objects[path], "status": asked.body["status"]}, "MODIFIED"))

    async def _watch(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        seen = int(asked.query["resourceVersion"])
        while not self._release.is_set():
            for version, path, change, item in list(self._events):
                if version > seen and _collection(path) == _everywhere(asked.path):
                    seen = version
                    await response.write(json.dumps({"type": change, "object": item}).encode() + b"\n")
            await asyncio.sleep(_LOOK_SECONDS)
        return response


def refusal(code: int, message: str, reason: str = "") -> Answer:
    return Answer({"kind": "Status", "message": message, "reason": reason, "code": code}, code)


def _collection(path: str) -> str:
    """Where an object is listed with those of all namespaces."""
    return _everywhere(path.rpartition("/")[0])


def _everywhere(path: str) -> str:
    before, found, after = path.partition("/namespaces/")
    return f"{before}/{after.partition('/')[2]}" if found else path
