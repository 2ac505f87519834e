"""All checks at the same time, each with an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from trow.doctor.checks import CHECKS
from trow.doctor.findings import NotCheckedError, lacking, unchecked
from trow.doctor.place import SECONDS, Place
from trow.kube.errors import Forbidden, KubeRefused
from trow.lib.http_client import HttpError
from trow.oci.errors import OciError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.doctor.checks import Check
    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Options


async def examine(options: Options, checks: Sequence[Check] = CHECKS) -> Sequence[Diagnosis]:
    """Run the checks; their findings are in the order of the table."""
    place = Place(options)
    try:
        found = await asyncio.gather(*(_run(check, place) for check in checks))
    finally:
        await place.close()
    return [finding for findings in found for finding in findings]


async def _run(check: Check, place: Place) -> Sequence[Diagnosis]:
    try:
        async with asyncio.timeout(SECONDS):
            found = [each async for each in check.run(place)]
    except TimeoutError:
        found = [unchecked(f"it was not found out within {SECONDS:g} s")]
    except NotCheckedError as error:
        found = [unchecked(str(error))]
    except Forbidden as error:
        found = [unchecked(lacking(error))]
    except (KubeRefused, OciError) as error:
        found = [unchecked(error.message)]
    except (HttpError, OSError, ValueError) as error:
        found = [unchecked(f"it cannot be found out: {error}")]
    return [msgspec.structs.replace(each, check=check.name) for each in found]
