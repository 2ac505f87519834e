"""What has to be found out about an image, where its name alone does not decide."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trow.oci.digest import Digest


class Need(Enum):
    """One thing to find out. Each is looked up only where a policy decides by it.

    Attributes:
        EXISTENCE: whether the image is in this registry.
        DIGEST: which digest its name stands for at the moment.
        TAG: whether the tag that is written beside a digest stands for it, or once did.
        CONFIG: what its configuration says.
    """

    EXISTENCE = "existence"
    DIGEST = "digest"
    TAG = "tag"
    CONFIG = "config"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the configuration of an image says: the word of whoever built it.

    Attributes:
        created: when it was made, in seconds of Unix time; None: it does not say.
        platforms: what it can run on, such as ``linux/amd64`` or ``linux/arm/v7``.
    """

    created: float | None = None
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What this registry knows of an image.

    Attributes:
        exists: whether it is here.
        digest: what the reference stands for at the moment.
        tag_verified: whether the tag beside the digest points at it, or once did; False where that was not looked up.
        config: None where it was not looked up.
    """

    exists: bool
    digest: Digest | None = None
    tag_verified: bool = False
    config: ImageConfig | None = None
