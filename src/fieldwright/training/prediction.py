"""The operator as physics sees it, and how well it does on validation samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.norms import relative_h1, relative_l2
from fieldwright.training.batches import Normalization
from fieldwright.training.data import TrainingData
from fieldwright.training.devices import total

VALIDATION_BATCH = 16


@dataclass(frozen=True)
class PhysicalPrediction:
    """û = decode(operator(encode(a))): physical units in and out.

    Only the operator runs in bfloat16, where ``bfloat16`` asks for it; what surrounds it is float32.
    """

    operator: Callable[[Tensor], Tensor]
    inputs: Normalization
    outputs: Normalization
    bfloat16: bool = False

    def __call__(self, fields: Float[Tensor, "batch channel_in *space"]) -> Float[Tensor, "batch channel_out *space"]:
        encoded = self.inputs.encode(fields)
        with torch.autocast(fields.device.type, torch.bfloat16, enabled=self.bfloat16):
            normalised = self.operator(encoded)
        return self.outputs.decode(normalised.float())


@dataclass(frozen=True)
class ValidationErrors:
    """Means over the validation samples of the relative errors in physical units."""

    relative_l2: float
    relative_h1: float


@torch.no_grad()
def validate(operator: nn.Module, data: TrainingData, fabric: Fabric) -> ValidationErrors:
    """Relative L2 and H1 errors of the operator, in float32 with norms in float64; processes share the samples."""
    predict = PhysicalPrediction(operator, data.inputs, data.outputs)
    sums = torch.zeros(2, dtype=torch.float64)
    mine = range(fabric.global_rank, data.validation_samples, fabric.world_size)
    was_training = operator.training
    operator.eval()
    try:
        for start in range(0, len(mine), VALIDATION_BATCH):
            fields, truth = data.valid_samples.batch(mine[start : start + VALIDATION_BATCH])
            prediction = predict(fields.to(fabric.device)).cpu().double()
            if prediction.shape != truth.shape:
                raise InputError(
                    f"validation: the operator returns fields of shape {tuple(prediction.shape)};"
                    f" the outputs have {tuple(truth.shape)}"
                )
            truth = truth.cpu().double()
            for i, relative in enumerate((relative_l2, relative_h1)):
                sums[i] += relative(prediction, truth, data.grid).sum()
    finally:
        operator.train(was_training)
    errors = total(fabric, sums.to(fabric.device)) / data.validation_samples
    return ValidationErrors(float(errors[0]), float(errors[1]))
