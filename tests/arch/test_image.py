"""The packages in the images are those that Trow is tested with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

from deploy.image.build import MACHINES, REQUIREMENTS
from deploy.image.debian import AGENT_PACKAGES, PACKAGES, locked

ROOT: Final = Path(__file__).parents[2]


def versions(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE))


def test_packages_of_python_are_those_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {re.split(r"[<>=]", each)[0] for each in project["dependencies"]}
    image = versions(REQUIREMENTS)
    assert wanted <= image.keys(), "run: make lock"
    assert image.items() <= versions(ROOT / "requirements.lock").items(), "run: make lock"


def test_each_architecture_has_the_same_packages_of_debian() -> None:
    wanted = (*PACKAGES, *AGENT_PACKAGES)
    found = {
        architecture: {(each.name, each.version) for each in packages}
        for architecture, packages in locked(wanted).items()
    }
    assert found.keys() == MACHINES.keys()
    assert len({frozenset(packages) for packages in found.values()}) == 1, "run: make image-lock"
    assert {name for name, _version in found["amd64"]} == set(wanted), "run: make image-lock"
