"""Upload sessions of a single process: in memory while it runs, in the database while it does not.

A session need not survive a crash, only a restart. Keeping it out of the write-ahead log saves the first request of
every upload from waiting for the flush that somebody else's commit is in the middle of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trow.oci.names import UploadId
    from trow.registry.ports import Upload


class UploadSessions:
    """The open sessions."""

    def __init__(self, uploads: Iterable[Upload]) -> None:
        self._open: dict[UploadId, Upload] = {upload.id: upload for upload in uploads}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, upload: Upload, most: int) -> bool:
        """See `Metadata.begin_upload`."""
        if len(self._open) >= most:
            return False
        self._open[upload.id] = upload
        return True

    def get(self, upload: UploadId) -> Upload | None:
        """See `Metadata.upload`."""
        return self._open.get(upload)

    def touch(self, upload: UploadId, at: float) -> None:
        """See `Metadata.touch_upload`."""
        session = self._open.get(upload)
        if session is not None:
            self._open[upload] = replace(session, used_at=at)

    def end(self, upload: UploadId) -> bool:
        """See `Metadata.end_upload`."""
        return self._open.pop(upload, None) is not None

    def expire(self, before: float) -> Sequence[Upload]:
        """See `Metadata.expire_uploads`."""
        expired = [upload for upload in self._open.values() if upload.used_at < before]
        for upload in expired:
            del self._open[upload.id]
        return expired

    def all(self) -> Sequence[Upload]:
        """All open sessions."""
        return list(self._open.values())
