"""Systems to solve, assembled pair by pair of neighbours, independently of `fieldwright.problems`."""

import itertools
import math

import torch

from fieldwright.grids import Boundary
from fieldwright.solvers import StencilSystem


def unit_offsets(dimension):
    units = [tuple(int(a == axis) for a in range(dimension)) for axis in range(dimension)]
    return ((0,) * dimension, *itertools.chain(*((u, tuple(-i for i in u)) for u in units)))


def fields(shape, batch, seed, contrast):
    """Positive random fields, the logarithm uniform, from 1 to ``contrast``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.exp(torch.rand(batch, *shape, generator=generator, dtype=torch.float64) * math.log(contrast))


def two_phase(shape, batch, seed, contrast):
    """Random blobs of ``contrast`` in a matrix of 1."""
    generator = torch.Generator().manual_seed(seed)
    dimension = len(shape)
    waves = torch.randn(batch, 6, dimension + 1, generator=generator, dtype=torch.float64)
    axes = torch.meshgrid(*(torch.linspace(0, 1, n, dtype=torch.float64) for n in shape), indexing="ij")
    phase = sum(waves[:, :, a].reshape(batch, 6, *[1] * dimension) * 6 * x for a, x in enumerate(axes))
    g = torch.cos(phase + 6 * waves[:, :, -1].reshape(batch, 6, *[1] * dimension)).sum(1)
    return torch.where(g > 0, contrast, 1.0)


def diffusion(a, f=None, walls="dirichlet", *, centring="cell", spacing=None, reaction=0.0):
    """-div(a grad u) + reaction u = f: harmonic means between cells, wall values half a cell (or one node) away."""
    batch, *shape = a.shape
    dimension = len(shape)
    boundary = Boundary.parse(walls, dimension)
    spacing = spacing or tuple(1 / n for n in shape)
    weights = torch.ones(shape, dtype=torch.float64)
    if centring == "node":
        for axis, pair in enumerate(boundary.sides):
            for condition, end in zip(pair, (0, -1), strict=True):
                if condition == "neumann":
                    weights.select(axis, end).mul_(0.5)
    offsets = unit_offsets(dimension)
    coefficients = torch.zeros(batch, len(offsets), *shape, dtype=torch.float64)
    coefficients[:, 0] = reaction * weights
    for axis, pair in enumerate(boundary.sides):
        n, place = shape[axis], axis + 1
        line = weights.select(axis, 0).unsqueeze(axis) * 0 + 1
        if centring == "node":
            line = weights.select(axis, n // 2).unsqueeze(axis)
            line = line / (0.5 if n // 2 in (0, n - 1) and "neumann" in pair else 1)
        upper = a.roll(-1, place)
        face = 2 * a * upper / (a + upper) / spacing[axis] ** 2 * line
        if "periodic" not in pair:
            face = face.clone()
            face.select(place, n - 1).zero_()
        coefficients[:, 1 + 2 * axis] = -face
        coefficients[:, 2 + 2 * axis] = -face.roll(1, place)
        coefficients[:, 0] += face + face.roll(1, place)
        share = 2.0 if centring == "cell" else 1.0
        for condition, end in zip(pair, (0, n - 1), strict=True):
            if condition == "dirichlet":
                wall = share * a.select(place, end) / spacing[axis] ** 2 * line.select(axis, 0)
                coefficients[:, 0].select(place, end).add_(wall)
    nullspace = reaction == 0 and not any("dirichlet" in pair for pair in boundary.sides)
    f = torch.ones_like(a) * weights if f is None else f
    if nullspace:
        f = f - f.flatten(1).mean(1).reshape(-1, *[1] * dimension)
    return StencilSystem(coefficients, f, offsets, boundary, kind="spd", centring=centring, nullspace=nullspace)


def convection(n, batch, *, diffusivity=1e-2, seed=0):
    """-eps Lap u + b·grad u = 1 with upwind differences: not symmetric, diagonally dominant."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    speed = torch.randn(batch, 2, 1, 1, generator=generator, dtype=torch.float64)
    flow = (speed[:, 0] * torch.sin(math.pi * x)[:, None], speed[:, 1] * torch.cos(math.pi * x)[None])
    system = diffusion(torch.full((batch, n, n), diffusivity, dtype=torch.float64))
    coefficients = system.coefficients.clone()
    for axis, b in enumerate(flow):
        coefficients[:, 0] += b.abs() * n
        coefficients[:, 1 + 2 * axis] += b.clamp(max=0) * n
        coefficients[:, 2 + 2 * axis] -= b.clamp(min=0) * n
    return StencilSystem(coefficients, system.rhs, system.offsets, system.boundary, kind="general")


def helmholtz(shape, batch, *, wavenumber=20.0, seed=0):
    """-Lap u - k² u = 1 with a varying wavenumber: symmetric, not definite."""
    k = wavenumber * fields(shape, batch, seed, 1.2)
    system = diffusion(torch.ones_like(k))
    coefficients = system.coefficients.clone()
    coefficients[:, 0] -= k**2
    return StencilSystem(coefficients, system.rhs, system.offsets, system.boundary, kind="symmetric")


def dense(system, sample=0):
    return torch.from_numpy(system.to_csr(sample).toarray())


def exact(system):
    """Solutions by dense least squares of minimal norm, so of mean 0 where constants are in the kernel."""
    columns = [
        torch.linalg.lstsq(dense(system, i), system.rhs[i].reshape(-1, 1), driver="gelsd").solution[:, 0]
        for i in range(system.batch)
    ]
    return torch.stack(columns).reshape(system.rhs.shape)
