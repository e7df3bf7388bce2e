"""Files at an address, such as ``hf://datasets/...``, ``s3://...`` or ``https://...``, read block by block.

The ways there are those of fsspec. ``hf`` and ``http`` come with Fieldwright; others need a package of their own, such
as s3fs, and read their keys and settings from where that package looks for them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from fieldwright.errors import DataError

_BLOCK_BYTES = 1 << 20
_BLOCKS_KEPT = 64


def is_address(path: object) -> bool:
    """Whether a path is an address: ``protocol://``."""
    return isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address, of ``size`` bytes. Each process opens it for itself."""

    address: str
    size: int
    _opened: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        return self.address

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "size": self.size, "_opened": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def name(self) -> str:
        return PurePosixPath(self.address.partition("?")[0]).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def open(self) -> Any:
        """A file object whose blocks, once read, are kept; the same for every caller of this process.

        Errors: `DataError` when it cannot be reached, or only from its beginning to its end.
        """
        if os.getpid() not in self._opened:
            self._opened.clear()
            self._opened[os.getpid()] = self._open()
        return self._opened[os.getpid()]

    def _open(self) -> Any:
        system, path = _located(self.address)
        try:
            file = system.open(
                path,
                "rb",
                block_size=_BLOCK_BYTES,
                cache_type="blockcache",
                cache_options={"maxblocks": _BLOCKS_KEPT},
            )
        except Exception as error:
            raise DataError(f"{self.address}: cannot be read ({_reason(error)})") from error
        try:
            file.seek(self.size)
            file.seek(0)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.address}: its server sends whole files only, not parts; download it first"
            ) from error
        return file


def remote_file(address: str) -> RemoteFile:
    """The file at an address.

    Errors: `DataError` when it is not there, cannot be reached or is a directory.
    """
    system, path = _located(address)
    try:
        facts = system.info(path)
    except FileNotFoundError as error:
        raise DataError(f"{address}: is not there") from error
    except Exception as error:
        raise DataError(f"{address}: cannot be reached ({_reason(error)})") from error
    if facts.get("type") == "directory" or facts.get("size") is None:
        raise DataError(f"{address}: is not a file, or its server does not tell its size")
    return RemoteFile(address, int(facts["size"]))


def remote_files(address: str, endings: Sequence[str]) -> list[RemoteFile]:
    """The files of some endings in the directory at an address, sorted by name; none where there is no directory.

    Errors: `DataError` when the place cannot be reached.
    """
    system, path = _located(address)
    try:
        entries = system.ls(path, detail=True) if system.isdir(path) else []
    except Exception as error:
        raise DataError(f"{address}: cannot be reached ({_reason(error)})") from error
    found = []
    for entry in sorted(entries, key=lambda entry: entry["name"]):
        name = PurePosixPath(entry["name"].partition("?")[0]).name
        if entry.get("type") != "directory" and name.endswith(tuple(endings)):
            # A listing over HTTP has no sizes.
            inside = f"{address.rstrip('/')}/{name}"
            size = entry.get("size")
            found.append(RemoteFile(inside, int(size)) if size is not None else remote_file(inside))
    return found


def remote_exists(address: str) -> bool:
    """Whether there is anything at an address.

    Errors: `DataError` when the place cannot be reached.
    """
    system, path = _located(address)
    try:
        return bool(system.exists(path))
    except Exception as error:
        raise DataError(f"{address}: cannot be reached ({_reason(error)})") from error


def look_from_afar(file: RemoteFile, command: Sequence[str]) -> tuple[dict[str, Any] | None, int]:
    """What the program `describe` prints of a file whose bytes this process reads for it, and its exit status.

    Errors: `DataError` when the bytes cannot be had.
    """
    source = file.open()
    with subprocess.Popen(
        [*command, f"pipe:{file.size}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        facts = None
        try:
            for line in child.stdout:
                if line.startswith(b"{"):
                    facts = json.loads(line)
                    break
                offset, count = map(int, line.split())
                child.stdin.write(_bytes(file, source, offset, count))
                child.stdin.flush()
        except BrokenPipeError:
            pass  # the child is gone; its status says how
        except DataError:
            child.kill()
            raise
        child.stdin.close()
    return facts, child.returncode


def _bytes(file: RemoteFile, source: Any, offset: int, count: int) -> bytes:
    try:
        source.seek(offset)
        found = source.read(count)
    except Exception as error:
        raise DataError(f"{file}: cannot be read ({_reason(error)})") from error
    if len(found) != count:
        raise DataError(f"{file}: is cut short; {count} bytes from byte {offset} are not there")
    return found


def _located(address: str) -> tuple[Any, str]:
    """The file system that an address names, and the path in it."""
    import fsspec

    protocol = address.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
        needed = package.get(protocol, "")
        how = f"pip install {needed}" if needed else _reason(error)
        raise DataError(f"{address}: reading from {protocol}:// needs another package: {how}") from error
    except Exception as error:
        raise DataError(f"{address}: no way to {protocol}:// is known ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
