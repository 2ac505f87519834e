"""What is on record: read over HTTP as an auditor, as soon as it is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlencode

from support.waiting import until
from trow.audit.keys import SigningKey
from trow.audit.queries import Query, opened, search
from trow.audit.verify import verify_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.registry import Client
    from support.team import TeamClient
    from trow.audit.checks import VerificationReport

AUDIT: Final = "/api/v1/audit"

Record: TypeAlias = "dict[str, Any]"
Found = TypeVar("Found")


class Records:
    """The records that an auditor can read."""

    def __init__(self, auditor: Client) -> None:
        self._auditor = auditor

    def search(self, **given: str) -> list[Record]:
        """All records that fit, oldest first, through as many pages as that takes."""
        return list(self._newest_first(given))[::-1]

    def _newest_first(self, given: dict[str, str]) -> Iterator[Record]:
        for page in self._auditor.pages(f"{AUDIT}?{urlencode({'n': '1000'} | given)}"):
            yield from page.json["records"]

    def wait(self, count: int = 1, **given: str) -> list[Record]:
        """The records that fit, once there are so many; more are a failure."""
        found = until(lambda: found if len(found := self.search(**given)) >= count else [])
        assert len(found) == count, found
        return found

    def one(self, **given: str) -> Record:
        """The only record that fits, once it is there."""
        (record,) = self.wait(1, **given)
        return record

    def of(self, client: TeamClient, count: int = 1, **given: str) -> list[Record]:
        """The records of one client that fit, once there are so many; more are a failure."""
        found = until(lambda: found if len(found := self.now(client, **given)) >= count else [])
        assert len(found) == count, found
        return found

    def now(self, client: TeamClient, **given: str) -> list[Record]:
        """The records of one client that fit and are there by now."""
        found = self.search(since=client.born, **given)
        return [record for record in found if record.get("client", {}).get("address") == client.address]


# ---- without a server


def verified(data: Path) -> VerificationReport:
    """The trail of a data directory is as it was written, and signed; a server may be using it."""
    key = SigningKey.load(data / "keys" / "audit.pem").public
    report = verify_database(data / "audit.db", {key.id: key})
    assert (report.problem, report.unchecked) == (None, []), report
    return report


def stored(data: Path, **given: str) -> list[Record]:
    """The records of a data directory that fit, newest first."""
    with opened(data / "audit.db") as connection:
        return [json.loads(text) for text in search(connection, Query.parse({"n": "1000"} | given, 0)).records]
