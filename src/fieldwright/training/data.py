"""What a training is given: two sets of samples, the normalisation of their fields, and the grid they live on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training.batches import MaskedSamples, Normalization, Samples, TensorSamples
from fieldwright.training.channel_layout import ChannelLayout
from fieldwright.training.masks import spread
from fieldwright.training.trajectories import TensorTrajectories, Trajectories

VALIDATION_SAMPLES = 128
SCALE_SAMPLES = 1024


@dataclass(frozen=True)
class TrainingData:
    """Training and validation samples in physical units; the loop normalises.

    ``train`` and ``valid`` are pairs of tensors (inputs, outputs), each ``sample channel *space``, or `Samples`.
    ``inputs`` and ``outputs`` are the normalisations of the fields, made from the training samples alone. Pairs of
    states need samples that are `Trajectories`, such as a stored dataset.
    Errors: `InputError` when samples do not fit ``grid`` or each other, or a validation output is zero throughout, so
    that errors relative to it have no meaning.
    """

    train: Samples | tuple[Tensor, Tensor]
    valid: Samples | tuple[Tensor, Tensor]
    inputs: Normalization
    outputs: Normalization
    grid: Grid
    layout: ChannelLayout = field(default_factory=ChannelLayout)

    def __post_init__(self) -> None:
        for name, samples in (("train", self.train_samples), ("valid", self.valid_samples)):
            for what, fields in zip(("inputs", "outputs"), samples.batch([0]), strict=True):
                if tuple(fields.shape[2:]) != self.grid.shape:
                    raise InputError(
                        f"training data: {name} {what} on {tuple(fields.shape[2:])}; grid: {self.grid.shape}"
                    )
        zero = ~self.valid_samples.batch(range(self.validation_samples))[1].flatten(1).any(1)
        if bool(zero.any()):
            raise InputError(f"training data: the outputs of validation sample {int(zero.nonzero()[0])} are zero")

    @property
    def train_samples(self) -> Samples:
        return TensorSamples(*self.train) if isinstance(self.train, tuple) else self.train

    @property
    def valid_samples(self) -> Samples:
        return TensorSamples(*self.valid) if isinstance(self.valid, tuple) else self.valid

    @property
    def validation_samples(self) -> int:
        """How many samples a validation looks at: the first `VALIDATION_SAMPLES`, or all."""
        return min(len(self.valid_samples), VALIDATION_SAMPLES)

    def output_scale(self) -> Float[Tensor, " channel"]:
        """Root mean square of each output channel over `SCALE_SAMPLES` training samples; 1 where that is 0."""
        chosen = range(min(len(self.train_samples), SCALE_SAMPLES))
        outputs = self.train_samples.batch(chosen)[1].double()
        missing = self.train_samples.missing_of(chosen) if isinstance(self.train_samples, MaskedSamples) else None
        kept = torch.ones_like(outputs)
        if missing is not None:
            gone = spread(missing, outputs)
            outputs, kept = outputs.masked_fill(gone, 0), kept.masked_fill(gone, 0)
        sums, counts = (values.transpose(0, 1).flatten(1).sum(1) for values in (outputs.square(), kept))
        mean = (sums / counts.clamp_min(1)).sqrt()
        return torch.where(mean > 0, mean, torch.ones_like(mean)).float().cpu()

    def on(self, device: torch.device, *, as_trajectories: bool = False) -> TrainingData:
        """The same data held on a GPU, each set that takes at most a quarter of its free memory; with
        ``as_trajectories`` sets of trajectories stay such.
        """
        if device.type != "cuda":
            return self
        room = torch.cuda.mem_get_info(device)[0] / 4
        moved = {}
        for name, samples in (("train", self.train_samples), ("valid", self.valid_samples)):
            if len(samples) * sum(fields.nbytes for fields in samples.batch([0])) < room:
                samples = _moved(samples, device, as_trajectories=as_trajectories)
            moved[name] = samples
        return replace(self, **moved)


def _moved(samples: Samples, device: torch.device, *, as_trajectories: bool) -> Samples:
    if as_trajectories and isinstance(samples, Trajectories):
        return TensorTrajectories.of(samples, device)
    everything = range(len(samples))
    missing = samples.missing_of(everything) if isinstance(samples, MaskedSamples) else None
    inputs, outputs = (fields.to(device) for fields in samples.batch(everything))
    return TensorSamples(inputs, outputs, None if missing is None else missing.to(device))
