"""Files that are whole or absent, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from fieldwright.errors import StorageError

PARTIAL = ".partial"
_BLOCK = 1 << 18  # what was just written is still in the cache when it is summed up


def write_atomically(path: Path, *data: bytes | memoryview, writer: str = "") -> str:
    """Write ``data``, one piece or several, under a temporary name, flush it to the disk, and rename it to ``path``.

    A reader sees the old file, or no file, or the whole of this one. The directory is flushed too, so that the name
    survives a power cut. Returns the SHA-256 of the bytes, in hexadecimal. Where several processes may write the same
    file at once, a word of each, its ``writer``, keeps their temporary names apart.

    Errors: `StorageError` when the disk is full, the place is not writable or is gone; nothing partial stays behind.
    """
    partial = path.with_name(f"{path.name}.{writer}{PARTIAL}" if writer else path.name + PARTIAL)
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            for view in map(memoryview, data):
                for start in range(0, len(view), _BLOCK):
                    file.write(view[start : start + _BLOCK])
                    digest.update(view[start : start + _BLOCK])
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return digest.hexdigest()


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write a file under; once that is done it is flushed to the disk and renamed.

    For files that are too large to be put together in memory. `write_atomically` is for all others.

    Errors: `StorageError` when it cannot be written; nothing partial stays behind then, nor after any other error.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _flush_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_directory(directory: Path) -> None:
    # Windows cannot open a directory; there the rename itself is all that can be asked for.
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
