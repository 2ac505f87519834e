"""What operators ask costs little, however many ask."""

from __future__ import annotations

import asyncio
import json

import pytest

from trow.http.handlers.ops import Operations
from trow.http.metrics import Metrics
from trow.oci.errors import Unavailable


async def test_storage_is_tried_once_for_all_who_ask_whether_it_is_ready() -> None:
    tried, go_on = list[int](), asyncio.Event()

    async def check() -> None:
        tried.append(1)
        await go_on.wait()
        if len(tried) > 1:
            raise Unavailable("no more")

    operations = Operations({"storage": check}, Metrics())
    asking = [asyncio.create_task(operations.readyz(None)) for _ in range(100)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asking[0].cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    assert {(await each).status for each in asking[1:]} == {200}
    assert tried == [1]
    later = await operations.readyz(None)  # type: ignore[arg-type]
    assert (later.status, json.loads(later.body)["checks"]) == (503, {"storage": "no more"})
