"""Vorticity that plane flows on a periodic square begin with, by the names of the data sets that use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.grids import Grid
from fieldwright.problems.random_bumps import random_bumps
from fieldwright.problems.random_fields import brownian_bridge, gaussian_field
from fieldwright.problems.random_states import piecewise_constant
from fieldwright.problems.random_vorticity import mcwilliams_vorticity, shear_layer_vorticity, vortex_sheet_vorticity
from fieldwright.problems.random_waves import random_sines
from fieldwright.solvers.solenoidal_flux import SolenoidalCurl
from fieldwright.solvers.spectral_grid import SpectralGrid

FlowState = Literal["mcwilliams", "gaussian", "sines", "bumps", "piecewise", "bridge", "vortex-sheet", "shear-layer"]


def flow_vorticity(
    name: FlowState,
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    *,
    alpha: float,
    tau: float,
    peak: float,
    energy: float,
) -> Float[Tensor, "batch x y"]:
    """Draw vorticity.

    ``name``  "mcwilliams": decaying turbulence of ``energy`` ½ mean |u|² and spectral ``peak``; "gaussian": covariance
              τ^(2α - 2) (-Δ + τ²)^(-α); "sines", "bumps", "piecewise", "bridge", "vortex-sheet", "shear-layer": what
              Poseidon's NS-Sines, NS-Gauss, NS-PwC, NS-BB, NS-SVS and NS-SL begin with

    Sines and bridges are drawn as two velocity components, whose part without divergence has this vorticity. The mean,
    which no periodic flow can have, is taken away.
    """
    field = _drawn(name, grid, indices, seed, alpha, tau, peak, energy)
    return field - field.mean((1, 2), keepdim=True)


def _drawn(
    name: FlowState,
    grid: Grid,
    indices: Sequence[int],
    seed: int,
    alpha: float,
    tau: float,
    peak: float,
    energy: float,
) -> Float[Tensor, "batch x y"]:
    if name == "mcwilliams":
        # The published set filters amplitudes, not their squares.
        return mcwilliams_vorticity(grid, indices, seed, peak=peak, energy=energy, spectrum="amplitude")
    if name == "gaussian":
        return gaussian_field(grid, indices, seed, alpha=alpha, tau=tau, walls="periodic")
    if name == "bumps":
        widths = (0.01 * grid.lengths[0], 0.1 * grid.lengths[0])
        return random_bumps(grid, indices, seed, count=100, widths=widths, amplitudes=(-1.0, 1.0), width_power=1.0)
    if name == "piecewise":
        return piecewise_constant(grid, indices, seed, pieces=10, low=-1.0, high=1.0)
    if name == "vortex-sheet":
        return vortex_sheet_vorticity(grid, indices, seed)
    if name == "shear-layer":
        return shear_layer_vorticity(grid, indices, seed)
    draw = random_sines if name == "sines" else _bridge
    waves = SpectralGrid(grid.shape, grid.lengths)
    fields = []
    for velocity in torch.stack([draw(grid, indices, seed, stream=0), draw(grid, indices, seed, stream=1)], 1):
        fields.append(waves.backward(SolenoidalCurl(waves).curl(waves.forward(velocity[None])))[0])
    return torch.stack(fields) if fields else torch.empty(0, *grid.shape, dtype=torch.float64)


def _bridge(grid: Grid, indices: Sequence[int], seed: int, *, stream: int) -> Float[Tensor, "batch x y"]:
    return brownian_bridge(grid, indices, seed, walls="periodic", stream=stream)
