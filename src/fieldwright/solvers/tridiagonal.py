"""Batches of tridiagonal systems, a_i x_{i-1} + b_i x_i + c_i x_{i+1} = d_i, one sample after the other or all at once.

On a CPU each sample is eliminated by Thomas' algorithm in compiled code, eight samples interleaved so that their
divisions overlap. Elsewhere, and wherever a gradient is asked for, odd-even (cyclic) reduction in plain torch does
every sample at once in 2 log₂ n sweeps. Neither pivots: both are stable for diagonally dominant and for symmetric
positive definite matrices. A periodic system, whose corners couple the two ends, is two open ones by the
Sherman-Morrison formula.

Source: R. W. Hockney, "A fast direct solution of Poisson's equation using Fourier analysis", J. ACM 12 (1965), for the
reduction; G. H. Golub, C. F. Van Loan, Matrix Computations, sections 2.1.4 and 4.3, for the rest.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import SolverError
from fieldwright.solvers.tridiagonal_kernel import eliminate

Diagonal = Float[Tensor, "batch point"]


def tridiagonal(
    lower: Float[Tensor, "..."],
    diagonal: Float[Tensor, "..."],
    upper: Float[Tensor, "..."],
    rhs: Diagonal,
    *,
    periodic: bool = False,
) -> Diagonal:
    """The solutions x of a_i x_{i-1} + b_i x_i + c_i x_{i+1} = d_i, differentiable in all four arguments.

    ``lower`` a, ``diagonal`` b, ``upper`` c, ``rhs`` d, all of the shape (batch, point). With ``periodic`` a_0 and
    c_{n-1} couple the ends to each other, without they have no effect. A sample whose elimination breaks down holds NaN
    or infinity.

    Errors: `SolverError` for shapes that differ, or a periodic system of fewer than three points.
    """
    shapes = {tuple(part.shape) for part in (lower, diagonal, upper, rhs)}
    if len(shapes) > 1:
        raise SolverError(f"tridiagonal: the diagonals and the right-hand side have the shapes {sorted(shapes)}")
    n = rhs.shape[1]
    if not periodic:
        return _open(lower, diagonal, upper, rhs)
    if n < 3:
        raise SolverError(f"tridiagonal: {n} points around a periodic axis; at least 3 are needed")
    # A = T + p qᵀ with p = (γ, 0, ..., c_{n-1}), q = (1, 0, ..., a_0 / γ) and γ = -b_0, which keeps T well conditioned.
    gamma = -diagonal[:, :1]
    corner = lower[:, :1] / gamma
    inner = diagonal[:, 1:-1]
    tamed = torch.cat([2 * diagonal[:, :1], inner, diagonal[:, -1:] - upper[:, -1:] * corner], 1)
    p = torch.cat([gamma, torch.zeros_like(inner), upper[:, -1:]], 1)
    twice = [torch.cat([part, part]) for part in (lower, tamed, upper)]
    x, y = _open(twice[0], twice[1], twice[2], torch.cat([rhs, p])).chunk(2)
    share = (x[:, :1] + corner * x[:, -1:]) / (1 + y[:, :1] + corner * y[:, -1:])
    return x - share * y


def _open(lower: Diagonal, diagonal: Diagonal, upper: Diagonal, rhs: Diagonal) -> Diagonal:
    traced = torch.is_grad_enabled() and any(part.requires_grad for part in (lower, diagonal, upper, rhs))
    if rhs.device.type != "cpu" or rhs.dtype != torch.float64 or traced:
        return reduce(lower, diagonal, upper, rhs)
    x = torch.empty_like(rhs, memory_format=torch.contiguous_format)
    eliminate(*(part.detach().contiguous().numpy() for part in (lower, diagonal, upper, rhs)), x.numpy())
    return x


def reduce(lower: Diagonal, diagonal: Diagonal, upper: Diagonal, rhs: Diagonal) -> Diagonal:
    """Odd-even reduction of open systems: the odd unknowns solve a system of half the size, the even ones follow."""
    n = rhs.shape[1]
    if n == 1:
        return rhs / diagonal
    if n % 2 == 0:
        # One more point, coupled to nothing, gives every odd point a neighbour on each side.
        zero = torch.zeros_like(rhs[:, :1])
        rows = [torch.cat([part, zero], 1) for part in (lower, upper, rhs)]
        rows[1][:, n - 1] = 0.0
        return reduce(rows[0], torch.cat([diagonal, zero + 1], 1), rows[1], rows[2])[:, :n]
    even, odd = slice(0, None, 2), slice(1, None, 2)
    below, above = slice(0, -1, 2), slice(2, None, 2)
    left = lower[:, odd] / diagonal[:, below]
    right = upper[:, odd] / diagonal[:, above]
    x_odd = reduce(
        -left * lower[:, below],
        diagonal[:, odd] - left * upper[:, below] - right * lower[:, above],
        -right * upper[:, above],
        rhs[:, odd] - left * rhs[:, below] - right * rhs[:, above],
    )
    zero = torch.zeros_like(rhs[:, :1])
    before, after = torch.cat([zero, x_odd], 1), torch.cat([x_odd, zero], 1)
    x_even = (rhs[:, even] - lower[:, even] * before - upper[:, even] * after) / diagonal[:, even]
    woven = torch.stack([x_even, torch.cat([x_odd, zero], 1)], 2).flatten(1)
    return woven[:, :n]
