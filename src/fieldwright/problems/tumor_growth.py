"""Fisher-Kolmogorov growth of a tumour in the brain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems.base import Field, Problem, Symmetry
from fieldwright.problems.brain_tissue import brain_tissue, tissue_places
from fieldwright.problems.draws import check_range, generator, uniform_numbers
from fieldwright.problems.evolution import EvolutionProblem
from fieldwright.problems.laws import Law
from fieldwright.problems.symmetries import box_symmetries
from fieldwright.solvers.exponential import diffusion_flow
from fieldwright.solvers.two_point_flux import TwoPointFlux

TISSUE = 0.1
"""The least p_white + p_grey of a cell that a tumour can be in."""
_NUMBERS_STREAM, _FOCUS_STREAM = 3, 4
# Frames so far apart that a cell grows e-fold between them are too few for a quadrature of the growth.
_RESOLVED_GROWTH = 1.0


@dataclass(frozen=True)
class TumorGrowth(EvolutionProblem):
    """Fisher-Kolmogorov growth, u_t = ∇·(D ∇u) + ρ u (1 - u), D = D_w (p_white + p_grey / r): tumour -> tumour later.

    ``length``         side of the box in mm
    ``diffusivities``  (low, high) of D_w in mm²/day, ``growth_rates`` of ρ in 1/day, ``ratios`` of r; each uniform
    ``correlation``    length in mm over which tissue forgets itself (`brain_tissue`)
    ``foci``           tumours at the start, the others within a twentieth of the box of the first
    ``focus``          their radius a in mm: u = tanh(1.6 Σ exp(-|x - x_i|² / a²)), zero outside the tissue

    No flux leaves the tissue, the cells with p_white + p_grey >= 0.1. For voxels of any shape `tissue_operator` takes
    the spacing per axis.

    Conservative finite volumes on cells with arithmetic means at faces, second order where D is smooth. In time Strang
    splitting, second order: growth by its exact (logistic) flow, diffusion by its exact flow exp(t ∇·D∇), a Chebyshev
    series that keeps the mass and 0 <= u <= 1 for steps of any size. The tissue cells that hold no tumour yet are all
    that is ever lost: growth cannot shrink, fluid stays empty.

    Errors: `InputError` for a setting out of range, or a grid too coarse for the tissue.

    Source: Balcerak et al., "Individualizing glioma radiotherapy planning by optimization of data and physics-informed
    discrete loss", Nature Communications 2025; R. A. Fisher, Annals of Eugenics 7 (1937).
    """

    resolution: int = 64
    dimension: int = 2
    length: float = 64.0
    diffusivities: tuple[float, float] = (0.1, 0.5)
    growth_rates: tuple[float, float] = (0.03, 0.1)
    ratios: tuple[float, float] = (10.0, 30.0)
    correlation: float = 4.25
    foci: int = 1
    focus: float = 6.0
    duration: float = 100.0
    frames: int = 10
    steps: int | None = None

    kernels: ClassVar[tuple[str, ...]] = ("exponential_kernel",)
    state: ClassVar[tuple[Field, ...]] = (Field("tumor", "1", "u, share of a cell"),)
    coefficients: ClassVar[tuple[Field, ...]] = (
        Field("white_matter", "1", "p_white, share of a cell"),
        Field("grey_matter", "1", "p_grey, share of a cell"),
        Field("diffusivity", "mm^2/day", "D_w, in white matter", number=True),
        Field("growth_rate", "1/day", "ρ", number=True),
        Field("ratio", "1", "r, by how much less tumour spreads in grey matter", number=True),
    )

    def __post_init__(self) -> None:
        if self.dimension not in (2, 3):
            raise InputError(f"tumor_growth: dimension {self.dimension}; allowed are 2 and 3")
        if not (isinstance(self.resolution, int) and self.resolution >= 8):
            raise InputError(f"tumor_growth: resolution {self.resolution}; an integer of at least 8 is needed")
        for name in ("length", "correlation", "focus"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"tumor_growth: {name} = {getattr(self, name)}; a positive number is needed")
        if not (isinstance(self.foci, int) and 1 <= self.foci <= 10):
            raise InputError(f"tumor_growth: foci = {self.foci}; a whole number from 1 to 10 is needed")
        check_range("tumor_growth: ratios", self.ratios, positive=True)
        for name in ("diffusivities", "growth_rates"):
            check_range(f"tumor_growth: {name}", getattr(self, name))
            if getattr(self, name)[0] < 0:
                raise InputError(f"tumor_growth: {name} = {tuple(getattr(self, name))}; none can be negative")
        self.check_settings("tumor_growth")

    @property
    def grid(self) -> Grid:
        d = self.dimension
        return Grid((self.resolution,) * d, "cell", (0.0,) * d, (self.length,) * d)

    @cached_property
    def boundary(self) -> Boundary:
        return Boundary.parse("neumann", self.dimension)

    def sample(self, indices: Sequence[int], seed: int) -> Float[Tensor, "batch channel *space"]:
        white, grey = brain_tissue(self.grid, indices, seed, correlation=self.correlation)
        ranges = (self.diffusivities, self.growth_rates, self.ratios)
        numbers = uniform_numbers(indices, seed, ranges, stream=_NUMBERS_STREAM)
        states = [self._focus(index, seed) for index in indices]
        state = torch.stack(states) if states else torch.zeros_like(white)
        state = torch.where(in_tissue(white, grey), state, 0.0)
        constant = [numbers[:, c].reshape(-1, *[1] * self.dimension).expand_as(white) for c in range(3)]
        return torch.stack([state, white, grey, *constant], 1)

    def _focus(self, index: int, seed: int) -> Float[Tensor, " *space"]:
        random = generator(seed, index, _FOCUS_STREAM)
        places = tissue_places(self.dimension, index, seed, count=self.foci, spread=0.05, random=random)
        centres = torch.from_numpy(places * self.length).reshape(-1, self.dimension, *[1] * self.dimension)
        squares = (self.grid.coordinates() - centres).square().sum(1)
        return torch.tanh(1.6 * torch.exp(-squares / self.focus**2).sum(0))

    def operator(self, inputs: Float[Tensor, "batch channel *space"]) -> TwoPointFlux:
        """-∇·(D ∇·) of each instance, differentiable in the coefficients."""
        white, grey, diffusivity, _, ratio = inputs[:, 1:].unbind(1)
        return tissue_operator(white, grey, diffusivity, ratio, self.grid.spacing, self.boundary)

    def rate(self, inputs: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel_out *space"]:
        u, growth = inputs[:, 0], inputs[:, 4]
        return (growth * u * (1 - u) - self.operator(inputs).apply(u))[:, None]

    def integrate(
        self, inputs: Float[Tensor, "batch channel *space"], *, frames: int, steps: int
    ) -> Float[Tensor, "batch time channel_out *space"]:
        step = self.interval / steps
        diffuse = diffusion_flow(self.operator(inputs), step)
        growth = inputs[:, 4].reshape(len(inputs), -1)[:, 0].reshape(-1, *[1] * self.dimension)
        # Never zero, so that an empty cell is not 0 / 0.
        half, whole = (torch.exp(-growth * t).clamp_min(torch.finfo(growth.dtype).tiny) for t in (step / 2, step))
        u, states = inputs[:, 0], []
        for _ in range(frames):
            u = _logistic(u, half)
            for number in range(steps):
                u = diffuse(u).clamp(0.0, 1.0)
                u = _logistic(u, half if number == steps - 1 else whole)
            states.append(u)
        return torch.stack(states, 1)[:, :, None]

    def laws(
        self,
        inputs: Float[Tensor, "batch channel *space"],
        states: Float[Tensor, "batch time channel_out *space"],
        times: Float[Tensor, " time"],
    ) -> Mapping[str, Law]:
        """ "mass": the tumour's volume, up to what has grown, by a quadrature over the frames (demanded to 5 % where
        they resolve the growth, else only reported); "healthy": the tissue without tumour never grows; "bounds": what
        lies outside 0 and 1; "fluid": tumour outside the tissue. The last two as shares of the largest volume."""
        cell = math.prod(self.grid.spacing)
        u = states[:, :, 0]
        tissue = in_tissue(inputs[:, 1], inputs[:, 2])[:, None].to(u)

        def total(field: Tensor) -> Float[Tensor, "batch time"]:
            return cell * field.flatten(2).sum(2)

        size = total(u.abs()).amax(1)
        resolved = self.interval * self.growth_rates[1] <= _RESOLVED_GROWTH
        return {
            "mass": Law(
                total(u), supply=self._grown(inputs, states, times), scale=size,
                tolerance=0.05 if resolved else math.inf,
            ),
            "healthy": Law(total(tissue * (1 - u)), "falling", scale=size, tolerance=1e-9),
            "bounds": Law(total(-u.clamp_max(0.0) + (u - 1).clamp_min(0.0)), "falling", scale=size, tolerance=1e-9),
            "fluid": Law(total((1 - tissue) * u.abs()), "falling", scale=size, tolerance=1e-9),
        }  # fmt: skip

    def _grown(self, inputs: Tensor, states: Tensor, times: Tensor) -> Float[Tensor, "batch time"]:
        """∫∫ ρ u (1 - u) dx dt by the trapezoidal rule with its end correction, Δ/2 (g₀ + g₁) + Δ²/12 (g₀' - g₁')."""
        cell, growth = math.prod(self.grid.spacing), inputs[:, 4].to(states)
        values, slopes = [], []
        for frame in range(states.shape[1]):
            u = states[:, frame, 0]
            rate = self.rate(torch.cat([states[:, frame], inputs[:, 1:].to(states)], 1))[:, 0]
            values.append(cell * (growth * u * (1 - u)).flatten(1).sum(1))
            slopes.append(cell * (growth * (1 - 2 * u) * rate).flatten(1).sum(1))
        g, slope = torch.stack(values, 1), torch.stack(slopes, 1)
        interval = times.diff().to(g)
        parts = interval / 2 * (g[:, 1:] + g[:, :-1]) + interval**2 / 12 * (slope[:, :-1] - slope[:, 1:])
        return torch.cat([torch.zeros_like(g[:, :1]), parts.cumsum(1)], 1)

    def check_inputs(self, inputs: Tensor) -> None:
        """Errors: `InputError` as of any problem, for a negative coefficient, and for tissue outside 0 to 1."""
        super().check_inputs(inputs)
        for channel, field in enumerate(self.coefficients, start=1):
            values = inputs[:, channel].flatten(1)
            low, high = values.amin(1), values.amax(1)
            if field.name == "ratio":
                wrong, allowed = low <= 0, "positive numbers"
            elif field.number:
                wrong, allowed = low < 0, "numbers from 0"
            else:
                # float32 data may miss 0 and 1 by a rounding.
                wrong, allowed = (low < -1e-6) | (high > 1 + 1e-6), "shares from 0 to 1"
            if bool(wrong.any()):
                sample = int(wrong.nonzero()[0])
                raise InputError(
                    f"tumor_growth: {field.name} of sample {sample} is {float(low[sample]):g} to"
                    f" {float(high[sample]):g}; {allowed} are needed"
                )

    def symmetries(self) -> tuple[Symmetry, ...]:
        return box_symmetries(self.grid, self.boundary)

    def shifts(self) -> dict[str, Problem]:
        low, high = self.growth_rates
        return {
            f"growth rate in {high:g} to {1.5 * high:g} instead of {low:g} to {high:g}": replace(
                self, growth_rates=(high, 1.5 * high)
            ),
            "three foci instead of one" if self.foci == 1 else "one focus": replace(
                self, foci=3 if self.foci == 1 else 1
            ),
            "tissue twice as coarse": replace(self, correlation=2 * self.correlation),
        }


def in_tissue(white: Float[Tensor, "..."], grey: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """Where a tumour can be: p_white + p_grey >= 0.1."""
    return white + grey >= TISSUE


def tissue_operator(
    white: Float[Tensor, "batch *space"],
    grey: Float[Tensor, "batch *space"],
    diffusivity: Float[Tensor, "batch *space"],
    ratio: Float[Tensor, "batch *space"],
    spacing: Sequence[float],
    boundary: Boundary,
) -> TwoPointFlux:
    """-∇·(D ∇·) with D = D_w (p_white + p_grey / r), the arithmetic mean at each face between two cells of tissue.

    A face of any other kind carries nothing. ``spacing`` is the distance between cell centres along each axis, in the
    unit of length of D_w.
    """
    d = diffusivity * (white + grey / ratio)
    tissue = in_tissue(white, grey)
    faces = []
    for axis, h in enumerate(spacing):
        place, n = axis + 1, white.shape[axis + 1]
        inside = (torch.arange(n, device=d.device) < n - 1).reshape(-1, *[1] * (len(spacing) - axis - 1))
        carries = tissue & tissue.roll(-1, place) & inside
        faces.append(torch.where(carries, (d + d.roll(-1, place)) / (2 * h**2), 0.0))
    return TwoPointFlux(tuple(faces), None, boundary)


def _logistic(u: Tensor, decay: Tensor) -> Tensor:
    """The exact flow of u_t = ρ u (1 - u): u / (u + (1 - u) e^(-ρ t)), given e^(-ρ t)."""
    return u / (u + (1 - u) * decay)
