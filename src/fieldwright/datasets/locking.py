"""One process at a time in a directory."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from fieldwright.errors import StorageError


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold a directory's lock, which the system releases however this process ends; the directory is made if need be.

    Errors: `StorageError` when another process holds it, or the directory cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise StorageError(f"cannot write {root}: {error.strerror}") from error
    try:
        _lock(handle, root)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, root: Path) -> None:
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(f"{root}: another process is at work in this directory") from error
    except OSError as error:
        # Some file systems of clusters are mounted without locks.
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise StorageError(f"cannot lock {root}: {error.strerror}") from error
