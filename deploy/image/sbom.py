"""What is in the image, as a bill of materials: CycloneDX 1.6 (ECMA-424)."""

from __future__ import annotations

import uuid
from email import message_from_string
from typing import TYPE_CHECKING, Final

import msgspec
from deploy.image.debian import SUITE

import trow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from deploy.image.debian import Package

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"


def cyclonedx(name: str, architecture: str, packages: Sequence[Package], wheels: Path, created: str) -> bytes:
    """The bill of one architecture's image.

    Args:
        name: of the image.
        architecture: as Debian names it.
        packages: those of Debian.
        wheels: the folder that the packages of Python were installed into.
        created: RFC 3339.
    """
    components = [*_of_debian(packages, architecture), *_of_python(wheels)]
    content = msgspec.json.encode(components, order="deterministic")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content.decode())}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "component": {"type": "container", "name": name, "version": trow.__version__},
        },
        "components": components,
    }
    return msgspec.json.format(msgspec.json.encode(bill), indent=1)


def _of_debian(packages: Sequence[Package], architecture: str) -> Iterator[dict[str, object]]:
    for each in packages:
        purl = f"pkg:deb/debian/{each.name}@{each.version}?arch={architecture}&distro={SUITE}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": each.name,
            "version": each.version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
        }


def _of_python(wheels: Path) -> Iterator[dict[str, object]]:
    for metadata in sorted(wheels.glob("*.dist-info/METADATA")):
        about = message_from_string(metadata.read_text("utf-8"))
        name, version = about["Name"], about["Version"]
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        licence = about["License-Expression"] or about["License"]
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            **({"licenses": [{"license": {"name": licence.splitlines()[0]}}]} if licence else {}),
        }
