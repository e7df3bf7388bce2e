"""Gradients made as noisy as those of a smaller batch, at the learning rate of that batch.

Every sample's loss is weighted by z_n ~ N(1, s²) before the mean. With s² = k - 1 the steps of a batch of k times the
samples have the covariance of the small batch's. Measured, that destroys training where k is large, and s of about 0.5
changes little: scaling the learning rate does the same by less noise, see `fieldwright.training.large_batch`.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", NeurIPS 2017 (section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.batches import Batch
from fieldwright.training.objectives import Objective, PhysicalOperator


def equal_noise(factor: float) -> float:
    """s = √(k - 1): the deviation of loss weights that gives k times the batch the steps' covariance of the small one.

    Errors: `InputError` for a factor below one.
    """
    if not factor >= 1:
        raise InputError(f"gradient noise: {factor:g} times the batch; noise can only be added to larger ones")
    return math.sqrt(factor - 1)


@dataclass(frozen=True)
class NoisyGradients:
    """An objective whose gradient weighs sample n by z_n ~ N(1, s²), while the losses stay what they are:

        g = (1/M) Σ_n z_n ∇ℓ_n.

    The weights act where the gradient leaves a sample's outputs, so any objective of outputs takes part. They come from
    a generator that torch's default one seeds.

    Errors: `InputError` for an objective that differentiates the operator itself.
    """

    objective: Objective
    deviation: float

    @property
    def names(self) -> tuple[str, ...]:
        return self.objective.names

    def __call__(self, operator: PhysicalOperator, batch: Batch) -> dict[str, Tensor]:
        device = batch.inputs.device
        generator = torch.Generator(device).manual_seed(int(torch.randint(1 << 62, ())))
        weights = 1 + self.deviation * torch.randn(len(batch.inputs), generator=generator, device=device)

        def noisy(fields: Tensor, lead_time: Tensor | None = None) -> Tensor:
            outputs = operator(fields, **({} if lead_time is None else {"lead_time": lead_time}))
            return _Weighted.apply(outputs, weights)  # type: ignore[return-value]

        return self.objective(noisy, batch)


class _Weighted(torch.autograd.Function):
    """The identity, whose gradient is multiplied by one weight a sample."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise InputError(
                "gradient_noise: the objective differentiates the operator itself; noise is for objectives of outputs"
            )
        (weights,), (gradient,) = ctx.saved_tensors, gradients
        return gradient * weights.reshape(-1, *[1] * (gradient.ndim - 1)).to(gradient.dtype), None
