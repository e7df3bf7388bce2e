"""Trajectories as a training reads them: any stored state of any of them, with what the operator needs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError

Side = Literal["inputs", "outputs"]


@runtime_checkable
class Trajectories(Protocol):
    """States at the same ``times`` of a number of ``trajectories``, in physical units; a stored dataset fits here."""

    @property
    def trajectories(self) -> int: ...

    @property
    def times(self) -> Float[Tensor, " time"]: ...

    def frames(self, side: Side, trajectories: Sequence[int], frames: Sequence[int]) -> Tensor:
        """The "inputs" (state, then what stays) or "outputs" (state) at ``frames[i]`` of ``trajectories[i]``."""
        ...


@dataclass(frozen=True)
class TensorTrajectories:
    """Trajectories held in memory; as `Samples` they are their windows of one frame to the next.

    ``inputs``   the state and what the operator needs beside it, at every stored time
    ``outputs``  the state
    ``missing``  true where a trajectory does not have an output field, or does not have it at a point

    Errors: `InputError` when the three disagree in number, or there are fewer than two times.
    """

    inputs: Float[Tensor, "trajectory time channel *space"]
    outputs: Float[Tensor, "trajectory time channel_out *space"]
    times: Float[Tensor, " time"]
    missing: Bool[Tensor, "trajectory channel_out *points"] | None = None

    def __post_init__(self) -> None:
        counts = {tuple(fields.shape[:2]) for fields in (self.inputs, self.outputs)}
        if counts != {(len(self.inputs), len(self.times))} or len(self.times) < 2 or len(self.inputs) == 0:
            raise InputError(
                f"training data: inputs of {tuple(self.inputs.shape[:2])}, outputs of {tuple(self.outputs.shape[:2])}"
                f" (trajectories, times) and {len(self.times)} times; two times or more are needed"
            )
        if self.missing is not None and self.missing.shape[:2] != (len(self.outputs), self.outputs.shape[2]):
            raise InputError(
                f"training data: missing of shape {tuple(self.missing.shape)}; (trajectory, output channel) is needed"
            )

    @classmethod
    def of(cls, source: Trajectories, device: torch.device) -> TensorTrajectories:
        """All of a set of trajectories, in the memory of a device."""
        count, steps = source.trajectories, len(source.times)
        which = [i for i in range(count) for _ in range(steps)]
        when = [frame for _ in range(count) for frame in range(steps)]
        inputs, outputs = (source.frames(side, which, when).unflatten(0, (count, steps)) for side in SIDES)
        missing = source.missing_of(range(count)) if isinstance(source, MaskedTrajectories) else None
        return cls(inputs.to(device), outputs.to(device), source.times, None if missing is None else missing.to(device))

    @property
    def trajectories(self) -> int:
        return len(self.inputs)

    def frames(self, side: Side, trajectories: Sequence[int], frames: Sequence[int]) -> Tensor:
        """The "inputs" or "outputs" at ``frames[i]`` of ``trajectories[i]``, on the device of the tensors."""
        fields = self.inputs if side == "inputs" else self.outputs
        which, when = (torch.as_tensor(n, dtype=torch.long, device=fields.device) for n in (trajectories, frames))
        return fields[which, when]

    def missing_of(self, trajectories: Sequence[int]) -> Tensor | None:
        """Which output fields some trajectories do not have."""
        return None if self.missing is None else self.missing[torch.as_tensor(trajectories, dtype=torch.long)]

    def __len__(self) -> int:
        return self.trajectories * (len(self.times) - 1)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Windows: the inputs at a stored time, and the outputs at the next one."""
        which, when = zip(*(divmod(int(index), len(self.times) - 1) for index in indices), strict=True)
        return self.frames("inputs", which, when), self.frames("outputs", which, [frame + 1 for frame in when])


@runtime_checkable
class MaskedTrajectories(Protocol):
    """Trajectories of which some lack output fields."""

    def missing_of(self, trajectories: Sequence[int]) -> Tensor | None: ...


SIDES: tuple[Side, Side] = ("inputs", "outputs")
