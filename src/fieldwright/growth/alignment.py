"""Networks trained in different units, brought to the same ones by their first and last layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.growth.members import LAYERS, layouts, widened
from fieldwright.growth.templates import template_layers

PROBE_POINTS = 32
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Units:
    """x -> ``factor`` x + ``shift``, per channel."""

    factor: Float[Tensor, " channel"]
    shift: Float[Tensor, " channel"]

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return bool((self.factor == 1).all() and (self.shift == 0).all())

    def __call__(self, fields: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        shape = (-1, *(1,) * (fields.ndim - 2))
        return fields * self.factor.reshape(shape).to(fields) + self.shift.reshape(shape).to(fields)


def in_units(module: nn.Module, inputs: Units, outputs: Units) -> nn.Module:
    """A copy g of an operator f with g(x) = outputs(f(inputs(x))), by weights and biases of its first and last layer.

    Errors: `InputError` for an operator whose first or last layer cannot take that up exactly: a convolution with walls
    knows no shift, and neither does a layer without bias.
    """
    made = copy.deepcopy(module)
    if inputs.same and outputs.same:
        return made
    found = layouts(made, widened(made, 2), 2)
    for name, layer in template_layers(made).items():
        layout = found[f"{name}.weight"]
        weight: Tensor = layer.weight  # type: ignore[assignment]
        bias: Tensor | None = getattr(layer, "bias", None)
        outer, inner = (axis % weight.ndim for axis in next(v for k, v in LAYERS.items() if isinstance(layer, k)))
        with torch.no_grad():
            if layout.grid and layout.inner is None and weight.shape[inner] >= len(inputs.factor):
                first = weight.narrow(inner, 0, len(inputs.factor))
                if bias is not None and weight.ndim == 2:
                    bias.add_(first @ inputs.shift.to(weight))
                first.mul_(_along(inputs.factor.to(weight), inner, weight.ndim))
            elif layout.sums and weight.shape[outer] == len(outputs.factor):
                weight.mul_(_along(outputs.factor.to(weight), outer, weight.ndim))
                if bias is not None:
                    bias.mul_(outputs.factor.to(bias)).add_(outputs.shift.to(bias))
    _verify(module, made, inputs, outputs)
    return made


def _along(values: Float[Tensor, " channel"], axis: int, rank: int) -> Tensor:
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])


def _verify(module: nn.Module, made: nn.Module, inputs: Units, outputs: Units) -> None:
    channels, dimension = (getattr(module, name, None) for name in ("in_channels", "dimension"))
    difference = torch.inf
    if isinstance(channels, int) and isinstance(dimension, int):
        draws = torch.Generator().manual_seed(0)
        x = torch.randn(2, channels, *(PROBE_POINTS,) * dimension, generator=draws, dtype=torch.float64)
        with torch.no_grad():
            f, g = (copy.deepcopy(one).cpu().double().eval() for one in (module, made))
            expected = outputs(f(inputs(x)))
            difference = float((g(x) - expected).norm() / expected.norm())
    # The copy's weights are rounded to their own precision.
    if not difference <= max(TOLERANCE, 100 * torch.finfo(next(module.parameters()).dtype).eps):
        raise InputError(
            f"merge: the members' normalisations differ, and the first and last layer of {type(module).__name__} cannot"
            " take up the difference; train the members on the same data (one data.seed)"
        )
