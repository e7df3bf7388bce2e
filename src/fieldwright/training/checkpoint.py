"""Checkpoints: the whole state of a training in one file, whole or absent, verified when read.

A file is called ``phase-01-step-00000200-<first 16 digits of its SHA-256>.pt``. It is written under another name,
flushed and renamed; the checksum in its name tells a damaged file. It is read with ``weights_only=True``: tensors and
plain values, never code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fieldwright.atomic import PARTIAL, write_atomically
from fieldwright.errors import StorageError
from fieldwright.progress import Reporter

_NAME = re.compile(r"phase-(\d+)-step-(\d+)-([0-9a-f]{16})\.pt")
DAMAGED = ".damaged"


@dataclass
class CheckpointStore:
    """The checkpoints of one training in ``directory``; the newest ``keep`` stay.

    ``seconds`` is the least time between two `due` ones. It grows where writing is slow, so that writing takes at most
    `SHARE` of the time. With 0 seconds one is due after every step, whatever it costs.
    """

    directory: Path
    seconds: float = 30.0
    keep: int = 2
    spent: float = 0.0
    _last: float = field(default_factory=lambda: time.perf_counter())
    _cost: float = 0.0

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self.seconds == 0 or time.perf_counter() - self._last >= max(self.seconds, self._cost / SHARE)

    def write(self, state: dict[str, Any], *, phase: int, step: int) -> Path:
        """Store a state of tensors, numbers, text, lists and dictionaries, and drop the oldest beyond ``keep``.

        Errors: `StorageError` when the disk is full or the directory not writable; older checkpoints stay.
        """
        start = time.perf_counter()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        digest = hashlib.sha256(payload).hexdigest()[:16]
        path = self.directory / f"phase-{phase:02d}-step-{step:08d}-{digest}.pt"
        write_atomically(path, payload)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        self._last = time.perf_counter()
        self._cost = self._last - start
        self.spent += self._cost
        return path

    def newest(self, reporter: Reporter) -> tuple[dict[str, Any], Path] | None:
        """The newest state that is whole, with its path; damaged ones are set aside with a notice."""
        for partial in self.directory.glob(f"phase-*{PARTIAL}"):
            partial.unlink(missing_ok=True)
        for path in reversed(self.paths()):
            state = self._read(path)
            if state is not None:
                return state, path
            path.replace(path.with_name(path.name + DAMAGED))
            reporter.notice(f"checkpoint {path.name} is damaged; falling back to the one before")
        return None

    def paths(self) -> list[Path]:
        """Checkpoints from the oldest to the newest."""
        return sorted(p for p in self.directory.glob("phase-*.pt") if _NAME.fullmatch(p.name))

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
        if hashlib.sha256(payload).hexdigest()[:16] != _NAME.fullmatch(path.name)[3]:  # type: ignore[index]
            return None
        try:
            return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return None


SHARE = 0.005
