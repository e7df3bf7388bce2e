"""Batches whose samples share one matrix: how that is seen, and the matrix as a key under which work on it is kept."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from fieldwright.solvers.stencil import StencilSystem

# Numbers compared at a time, few enough for a cache.
_COMPARED = 2**18
# Coefficients that make up a matrix's hash.
_HASHED = 256


class Matrix:
    """The matrix of a batch's first sample: equal to another when every coefficient is. It keeps a copy of its own."""

    def __init__(self, system: StencilSystem) -> None:
        first = system.select(slice(0, 1))
        self.system = replace(first, coefficients=first.coefficients.clone(), rhs=torch.zeros_like(first.rhs))
        self._kind = (system.shape, system.offsets, system.boundary, system.kind, system.centring, system.nullspace)
        coefficients = self.system.coefficients.flatten()
        some = coefficients[:: max(1, len(coefficients) // _HASHED)]
        self._hash = hash((self._kind, str(coefficients.device), some.cpu().numpy().tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Matrix)
            and self._kind == other._kind
            and self.system.coefficients.device == other.system.coefficients.device
            and torch.equal(self.system.coefficients, other.system.coefficients)
        )


def of_one_matrix(system: StencilSystem) -> Bool[Tensor, " batch"]:
    """Which samples have the coefficients of the first."""
    coefficients = system.coefficients
    if system.batch == 0 or coefficients.stride(0) == 0:
        return torch.ones(system.batch, dtype=torch.bool)
    many = max(1, _COMPARED // coefficients[0].numel())
    return torch.cat([(part == coefficients[0]).flatten(1).all(1) for part in coefficients.split(many)]).cpu()


def matrices_differ(system: StencilSystem) -> str | None:
    """What is said where the second or the last sample's matrix is not that of the first, else None."""
    coefficients = system.coefficients
    if system.batch == 0 or coefficients.stride(0) == 0:
        return None
    same = all(torch.equal(coefficients[i], coefficients[0]) for i in (min(1, system.batch - 1), -1))
    return None if same else "the samples' matrices differ"
