"""TLS handshakes that have not ended yet: they have their own bound, and each source has a share.

A client that connects and says nothing must not take the place of one that has shown a certificate, nor keep others
from showing theirs. So where there are too many, the oldest unfinished handshake ends: an honest client needs less than
a second for it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import OrderedDict
from typing import Final

MOST_HANDSHAKES: Final = 256
MOST_HANDSHAKES_OF_ONE: Final = 64
_RESET: Final = struct.pack("ii", 1, 0)


class Handshakes:
    """Those that are unfinished, by source, the oldest first."""

    def __init__(self, most: int = MOST_HANDSHAKES, each: int = MOST_HANDSHAKES_OF_ONE) -> None:
        self._most = most
        self._each = each
        self._count = 0
        self._unfinished: dict[str, OrderedDict[socket.socket, None]] = {}

    def __len__(self) -> int:
        return self._count

    def begin(self, accepted: socket.socket, source: str) -> None:
        """One more; the oldest of the same source ends if that has its share, else of the one that has most."""
        own = self._unfinished.get(source, ())
        if len(own) >= self._each:
            self._end_oldest(source)
        elif self._count >= self._most:
            self._end_oldest(max(self._unfinished, key=lambda each: len(self._unfinished[each])))
        self._unfinished.setdefault(source, OrderedDict())[accepted] = None
        self._count += 1

    def finish(self, accepted: socket.socket, source: str) -> bool:
        """It has succeeded, or failed; False where it was ended to make room."""
        own = self._unfinished.get(source)
        if own is None or accepted not in own:
            return False
        self._forget(accepted, source)
        return True

    def _end_oldest(self, source: str) -> None:
        oldest = next(iter(self._unfinished[source]))
        self._forget(oldest, source)
        with contextlib.suppress(OSError):  # it has ended already
            oldest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            oldest.shutdown(socket.SHUT_RDWR)

    def _forget(self, accepted: socket.socket, source: str) -> None:
        own = self._unfinished[source]
        del own[accepted]
        if not own:
            del self._unfinished[source]
        self._count -= 1
