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
from fieldwright.training.data import VALIDATION_SAMPLES, TrainingData
from fieldwright.training.devices import total
from fieldwright.training.masks import spread
from fieldwright.training.seeding import derived_generator, random_numbers
from fieldwright.training.sources import Source, StoredSamples

VALIDATION_BATCH = 16


@dataclass(frozen=True)
class PhysicalPrediction:
    """û = decode(operator(encode(a))), or decode(operator(encode(a), t / unit)): physical units in and out.

    ``unit`` is the time that an operator counts lead times in; None for one without lead times. Only the operator runs
    in bfloat16, where ``bfloat16`` asks for it; what surrounds it is float32.
    """

    operator: Callable[..., Tensor]
    inputs: Normalization
    outputs: Normalization
    bfloat16: bool = False
    unit: float | None = None

    def __call__(
        self, fields: Float[Tensor, "batch channel_in *space"], lead_time: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channel_out *space"]:
        if (lead_time is None) != (self.unit is None):
            raise InputError(
                "lead_time: the operator is trained for one step only; call it with the fields alone"
                if self.unit is None
                else "lead_time: the operator is trained for any; call it with the fields and the batch's lead_time"
            )
        encoded = self.inputs.encode(fields)
        times = {} if lead_time is None or self.unit is None else {"lead_time": lead_time / self.unit}
        with torch.autocast(fields.device.type, torch.bfloat16, enabled=self.bfloat16):
            normalised = self.operator(encoded, **times)
        return self.outputs.decode(normalised.float())


@dataclass(frozen=True)
class ValidationErrors:
    """Means over the validation samples of the relative errors in physical units."""

    relative_l2: float
    relative_h1: float


@torch.no_grad()
def validate(
    operator: nn.Module, data: TrainingData, fabric: Fabric, *, source: Source | None = None, unit: float | None = None
) -> ValidationErrors:
    """Relative L2 and H1 errors of the operator, in float32 with norms in float64; processes share the samples.

    ``source``  where the validation samples are drawn from, always the same ones; None: as they are stored
    ``unit``    of the operator's lead times, see `PhysicalPrediction`
    """
    predict = PhysicalPrediction(operator, data.inputs, data.outputs, unit=unit)
    source = source or StoredSamples(data.valid_samples)
    count = min(len(source), VALIDATION_SAMPLES)
    numbers = random_numbers(count, derived_generator(0, "validation"))
    sums = torch.zeros(2, dtype=torch.float64)
    mine = torch.arange(fabric.global_rank, count, fabric.world_size)
    was_training = operator.training
    operator.eval()
    try:
        for start in range(0, len(mine), VALIDATION_BATCH):
            chosen = mine[start : start + VALIDATION_BATCH]
            drawn = source.draw(chosen, numbers[chosen])
            truth, times = drawn.outputs, () if unit is None else (drawn.lead_time.to(fabric.device),)  # type: ignore
            prediction = predict(drawn.inputs.to(fabric.device), *times).cpu().double()
            if prediction.shape != truth.shape:
                raise InputError(
                    f"validation: the operator returns fields of shape {tuple(prediction.shape)};"
                    f" the outputs have {tuple(truth.shape)}"
                )
            truth = truth.cpu().double()
            if drawn.missing is not None:
                prediction, truth = (
                    fields.masked_fill(spread(drawn.missing.cpu(), truth), 0) for fields in (prediction, truth)
                )
            for i, relative in enumerate((relative_l2, relative_h1)):
                sums[i] += relative(prediction, truth, data.grid).sum()
    finally:
        operator.train(was_training)
    errors = total(fabric, sums.to(fabric.device)) / count
    return ValidationErrors(float(errors[0]), float(errors[1]))
