from __future__ import annotations

import tracemalloc

import pytest

from support.requests import Headers
from trow.http.framing import require_unambiguous
from trow.oci.errors import RequestInvalid


def test_no_host_that_is_none_is_remembered_at_its_length() -> None:
    """A thousand of them, as long as a header may be, took 60 MB of clients that had shown nobody who they are."""
    tracemalloc.start()
    try:
        for number in range(1500):
            with pytest.raises(RequestInvalid):
                require_unambiguous(Headers([("host", f"{number}.{'a' * 20_000}")]), None, "1.1")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2**21
