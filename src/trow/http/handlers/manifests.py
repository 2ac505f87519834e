"""Manifests as they arrive: each is in memory as a whole until it is stored."""

from __future__ import annotations

from typing import Final

from trow.http.bodies import FREE, Bodies, Tier
from trow.lib.shares import Bounds, Shares
from trow.oci.errors import ManifestTooLarge
from trow.oci.manifest import LARGE

# Of those up to 64 KiB: 32 MiB for all, and an honest client has sent one in a moment.
_SMALL: Final = Bounds(total=512, each=128, waiting=1024, waiting_each=256, patience=30)
# Of those over 64 KiB, which hardly any image has.
_BOUNDS: Final = Bounds(total=8, each=2, waiting=256, waiting_each=32, patience=30)


class ManifestBodies(Bodies):
    """Receives manifests.

    Args:
        most_bytes: how large one may be.
    """

    def __init__(self, most_bytes: int) -> None:
        self.small: Final = Shares(_SMALL, "manifests")
        self.large: Final = Shares(_BOUNDS, "large manifests")
        super().__init__(
            most_bytes,
            lambda: ManifestTooLarge(
                f"the manifest is larger than {most_bytes} bytes; make it smaller, or raise registry.max_manifest_size"
            ),
            [Tier(FREE, self.small), Tier(LARGE, self.large)],
        )
