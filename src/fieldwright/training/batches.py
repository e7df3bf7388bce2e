"""Where batches come from: data in memory or on disk behind one call, and the order in which samples are visited.

The order is an endless stream of permutations, one per epoch, cut into batches of equal size: every sample is seen once
an epoch, no batch is short, and the batch of step i is a pure function of (seed, phase, i).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training.channel_layout import ChannelLayout
from fieldwright.training.masks import spread
from fieldwright.training.seeding import derived_generator

Symmetry = Callable[[Tensor], Tensor]


@runtime_checkable
class Samples(Protocol):
    """A set of (inputs, outputs) pairs in physical units. A memory-mapped dataset larger than the memory fits here."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The named samples as float32 tensors ``batch channel *space``."""
        ...


@runtime_checkable
class MaskedSamples(Protocol):
    """Samples of which some lack output fields, or lack them at some points."""

    def missing_of(self, indices: Sequence[int]) -> Tensor | None:
        """True where an output is missing, ``batch channel_out`` or ``batch channel_out *space``; None: nowhere."""
        ...


@runtime_checkable
class Normalization(Protocol):
    """An invertible map between physical units and what the operator works on."""

    def encode(self, fields: Tensor) -> Tensor: ...

    def decode(self, fields: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TensorSamples:
    """Samples held in memory as two tensors.

    ``missing`` is true where a sample does not have an output field, or does not have it at a point.
    Errors: `InputError` when there are no samples or the tensors disagree in number.
    """

    inputs: Float[Tensor, "sample channel_in ..."]
    outputs: Float[Tensor, "sample_out channel_out ..."]

    missing: Bool[Tensor, "sample_out channel_out *points"] | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs) or len(self.inputs) == 0:
            raise InputError(f"training data: {len(self.inputs)} inputs and {len(self.outputs)} outputs")
        if self.missing is not None and self.missing.shape[:2] != self.outputs.shape[:2]:
            raise InputError(
                f"training data: missing of shape {tuple(self.missing.shape)}; (sample, output channel) is needed"
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The named samples, on the device of the tensors."""
        chosen = torch.as_tensor(indices, dtype=torch.long, device=self.inputs.device)
        return self.inputs[chosen], self.outputs[chosen]

    def missing_of(self, indices: Sequence[int]) -> Tensor | None:
        """Which outputs of the named samples are missing."""
        if self.missing is None:
            return None
        return self.missing[torch.as_tensor(indices, dtype=torch.long, device=self.missing.device)]


@dataclass(frozen=True)
class Batch:
    """What an objective sees: fields in physical units on ``grid``.

    ``scale`` is the root mean square of each output channel over the training set. Objectives divide by it, so that
    channels of different units count alike and squares stay within float32's range.

    ``lead_time``  the time from inputs to outputs, where an operator is trained for any
    ``missing``    true where an output is not known; it counts in no loss
    ``layout``     what the channels are to each other
    """

    inputs: Float[Tensor, "batch channel_in *space"]
    outputs: Float[Tensor, "batch channel_out *space"]
    grid: Grid
    scale: Float[Tensor, " channel_out"]
    lead_time: Float[Tensor, " batch"] | None = None
    missing: Bool[Tensor, "batch channel_out *points"] | None = None
    layout: ChannelLayout = field(default_factory=ChannelLayout)

    def compared(
        self, operator: Callable[..., Tensor]
    ) -> tuple[Float[Tensor, "batch channel_out *space"], Float[Tensor, "batch channel_out *space"]]:
        """The operator's outputs and the true ones, in units of ``scale``, both zero where outputs are missing.

        Errors: `InputError` for a prediction of another shape than the outputs.
        """
        prediction = operator(self.inputs, **({} if self.lead_time is None else {"lead_time": self.lead_time}))
        if prediction.shape != self.outputs.shape:
            raise InputError(
                f"objective: the operator returns fields of shape {tuple(prediction.shape)};"
                f" the outputs have {tuple(self.outputs.shape)}"
            )
        scale = self.scale.reshape(-1, *[1] * self.grid.dimension)
        prediction, target = prediction / scale, self.outputs / scale
        if self.missing is None:
            return prediction, target
        gone = spread(self.missing, target)
        return prediction.masked_fill(gone, 0), target.masked_fill(gone, 0)


@dataclass(frozen=True)
class SampleStream:
    """The order of visits: permutation after permutation of ``samples`` indices, cut into batches."""

    samples: int
    batch_size: int
    seed: int
    phase: int

    def indices(self, step: int) -> Int[Tensor, " batch"]:
        """The samples of the batch of ``step``, counted from 0. It may straddle two epochs."""
        first = step * self.batch_size
        parts = []
        position = first
        while position < first + self.batch_size:
            epoch, offset = divmod(position, self.samples)
            order = _permutation(self.samples, self.seed, self.phase, epoch)
            part = order[offset : offset + first + self.batch_size - position]
            parts.append(part)
            position += len(part)
        return torch.cat(parts)

    def epochs(self, step: int) -> float:
        """Passes over the data after ``step`` steps."""
        return step * self.batch_size / self.samples


@lru_cache(maxsize=2)
def _permutation(samples: int, seed: int, phase: int, epoch: int) -> Int[Tensor, " sample"]:
    return torch.randperm(samples, generator=derived_generator(seed, "epoch", phase, epoch))


def augment(
    inputs: Float[Tensor, "batch channel_in *space"],
    outputs: Float[Tensor, "batch channel_out *space"],
    symmetries: Sequence[Symmetry],
    choice: Int[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch channel_in *space"], Float[Tensor, "batch channel_out *space"]]:
    """Map sample i by ``symmetries[choice[i]]``, its inputs and its outputs alike."""
    inputs, outputs = inputs.clone(), outputs.clone()
    for index in choice.unique().tolist():
        rows = (choice == index).nonzero().flatten().to(inputs.device)
        inputs[rows] = symmetries[index](inputs[rows])
        outputs[rows] = symmetries[index](outputs[rows])
    return inputs, outputs


def augment_mask(
    missing: Bool[Tensor, "batch channel *points"],
    outputs: Float[Tensor, "batch channel *space"],
    symmetries: Sequence[Symmetry],
    choice: Int[Tensor, " batch"],
) -> Bool[Tensor, "batch channel *points"]:
    """Map a mask as `augment` maps the outputs it is of; one that says nothing about points stays."""
    if missing.ndim < outputs.ndim:
        return missing
    marks = missing.to(outputs)
    # A symmetry may change the sign of a field.
    return augment(marks, marks, symmetries, choice)[1].abs() > 0.5
