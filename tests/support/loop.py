"""Tests that are coroutines run on the event loop that the product uses, each on one of its own."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")
SECONDS: Final = 60


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end, within bounds."""

    async def bounded() -> Result:
        async with asyncio.timeout(SECONDS):
            return await work

    return uvloop.run(bounded())


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
