"""Every known way past a policy, tried on the whole path of a review: see tests/data/README.md."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.admission import Gatekeeper, pod
from trow.policy import configured
from trow.policy import resources as manifests
from trow.policy.rules import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.admission import Answer
    from trow.policy.rules import Policy

Json = dict[str, Any]
FILE: Final = yaml.load(
    (Path(__file__).parents[2] / "data" / "bypasses.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
)
CASES: Final[dict[str, Json]] = {case["id"]: case for case in FILE["cases"]}
NOW: Final = datetime.fromisoformat(FILE["now"]).timestamp()


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gatekeeper]]:
    """Admission with each set of policies."""
    made = {name: keeper_of(tmp_path_factory.mktemp(name), items) for name, items in FILE["policies"].items()}
    yield made
    for keeper in made.values():
        keeper.close()


def keeper_of(folder: Path, items: list[Json]) -> Gatekeeper:
    ours = [item for item in items if "image_validation" not in item]
    theirs = [configured_policy(item["image_validation"]) for item in items if "image_validation" in item]
    assert len(theirs) <= 1
    keeper = Gatekeeper(folder, *ours, configured=next(iter(theirs), None))
    keeper.clock.now = NOW
    return keeper


def configured_policy(given: Json) -> Policy:
    mode = Mode(given.get("mode", "enforce"))
    return configured.policy_of(Effect(given["default"]), given["allow"], given["deny"], mode)


async def judged(keeper: Gatekeeper, case: Json) -> Answer:
    item = pod(case["image"]) if "image" in case else case.get("object")
    return await keeper.validate(
        item,
        case.get("old"),
        operation=case.get("operation", "CREATE"),
        namespace=case.get("namespace", "default"),
        subResource=case.get("subresource"),
    )


def came_of(answer: Answer) -> str:
    if not answer.allowed:
        return "deny"
    return "warn" if answer.warnings else "allow"


@pytest.mark.parametrize("name", CASES)
async def test_no_way_past_the_policy(keepers: dict[str, Gatekeeper], name: str) -> None:
    case = CASES[name]
    answer = await judged(keepers[case["policy"]], case)
    assert came_of(answer) == case["expect"], answer.response
    words = [answer.message] if case["expect"] == "deny" else answer.warnings
    assert "because" not in case or any(case["because"] in word for word in words), answer.response


def test_exceptions_are_read_as_they_are_dated() -> None:
    dated = [each for items in FILE["policies"].values() for each in items if each.get("kind") == manifests.EXCEPTION]
    assert {manifests.exception_of(each).active(NOW) for each in dated} == {True, False}
