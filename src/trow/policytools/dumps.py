"""Dumps of clusters, as ``kubectl get -A -o json`` writes them: one list of any length, read object by object.

A file is mapped into memory, so only one object at a time is decoded; a pipe is copied to a temporary file first.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import mmap
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from trow.policytools.documents import LARGEST, STDIN, Document, Location, UnreadableFile, objects, parsed, with_kind
from trow.policytools.namespaces import KIND, is_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CHUNK: Final = 2**20
# Objects between two messages about progress.
_STEP: Final = 20_000


class _List(Struct, rename="camel"):
    """A list of objects, whose items are not decoded."""

    items: list[msgspec.Raw]
    api_version: str = ""
    kind: str = ""


def dumped(files: Sequence[str], largest: int, progress: Callable[[str], None]) -> Iterator[Document]:
    """The objects of dumps, Namespaces first.

    Args:
        files: paths, or `STDIN`.
        largest: bytes of one file. For other formats than one JSON list the limit is `documents.LARGEST`.
        progress: called from time to time with a message.

    Raises:
        UnreadableFile: a file is neither YAML nor JSON, or too large.
    """
    with contextlib.ExitStack() as stack:
        dumps = [_dump(file, stack.enter_context(_mapped(file, largest))) for file in files]
        documents = itertools.chain.from_iterable(read(wanted) for wanted in (True, False) for read in dumps)
        for count, document in enumerate(documents, 1):
            yield document
            if count % _STEP == 0:
                progress(f"{count} objects read")


def _dump(file: str, content: bytes | mmap.mmap) -> Callable[[bool], Iterator[Document]]:
    """A function that reads the Namespaces of a dump, or everything else."""
    if len(content) <= LARGEST:
        documents = tuple(objects(parsed(bytes(content), file)))
        return lambda namespaces: (each for each in documents if is_namespace(each.value) is namespaces)
    try:
        listed = msgspec.json.decode(content, type=_List)
    except msgspec.DecodeError as error:
        raise UnreadableFile(
            f"{Location(file)}: is larger than {LARGEST // 2**20} MiB and not a list in JSON ({error}); write it with"
            " -o json"
        ) from None
    items = {"apiVersion": listed.api_version, "kind": listed.kind}

    def read(namespaces: bool) -> Iterator[Document]:  # noqa: FBT001 - as above
        for number, raw in enumerate(listed.items):
            location = Location(file, 1, number)
            try:
                if (msgspec.json.decode(raw, type=_Head).kind == KIND) is not namespaces:
                    continue
                item = msgspec.json.decode(raw)
            except (msgspec.DecodeError, RecursionError) as error:
                raise UnreadableFile(f"{location}: {error}") from None
            yield from objects([Document(location, with_kind(item, items))])

    return read


class _Head(Struct):
    kind: str = ""


@contextlib.contextmanager
def _mapped(file: str, largest: int) -> Iterator[bytes | mmap.mmap]:
    with contextlib.ExitStack() as stack:
        try:
            opened = sys.stdin.buffer if file == STDIN else stack.enter_context(Path(file).open("rb"))
            is_file = False
            with contextlib.suppress(io.UnsupportedOperation):
                is_file = stat.S_ISREG(os.fstat(opened.fileno()).st_mode)
            if not is_file:
                opened = stack.enter_context(_copied(opened, largest))
            size = opened.seek(0, 2)
        except OSError as error:
            raise UnreadableFile(
                f"{Location(file)}: cannot be read ({error.strerror}); give the path of a readable file"
            ) from None
        if size > largest:
            raise UnreadableFile(f"{Location(file)}: is larger than {largest} bytes; allow more with --max-size")
        # Not closed: `msgspec.Raw` values refer to it.
        yield mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""


def _copied(source: IO[bytes], largest: int) -> IO[bytes]:
    """A temporary file with the content, up to one byte more than is allowed."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asks for it closes it
    left = largest + 1
    while left and (chunk := source.read(min(_CHUNK, left))):
        copy.write(chunk)
        left -= len(chunk)
    copy.flush()
    return copy
