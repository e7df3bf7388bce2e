"""A watch on numbers that must stay finite."""

from __future__ import annotations

import torch
from torch import Tensor

_NEVER = 2**62
DEFERRED = 20


class FiniteGuard:
    """Remembers the first step at which a watched number was NaN or infinite.

    Looking at a number makes the host wait for a GPU, so there ``every`` is `DEFERRED` steps and what is remembered
    stays on the device in between; on a CPU each step is looked at before its update is made.
    """

    def __init__(self, device: torch.device) -> None:
        self.every = 1 if device.type == "cpu" else DEFERRED
        self._first = torch.full((), _NEVER, dtype=torch.int64, device=device)

    def watch(self, step: int, *numbers: Tensor) -> None:
        """Take note of the numbers of a step."""
        finite = torch.stack([n.detach().isfinite().all() for n in numbers]).all()
        self._first = torch.where(finite, self._first, self._first.clamp_max(step))

    def first_bad_step(self) -> int | None:
        """The first step with a number that is not finite, if there was one."""
        step = int(self._first)
        return None if step == _NEVER else step
