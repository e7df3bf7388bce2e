"""The methods there are: what each is called, takes and costs. A method is added by one entry of `TABLE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from fieldwright.solvers import costs
from fieldwright.solvers.direct import direct, supports_direct
from fieldwright.solvers.krylov import gcro_dr, gmres, supports_gmres
from fieldwright.solvers.lanes import LANES
from fieldwright.solvers.multigrid import multigrid, supports_multigrid
from fieldwright.solvers.reference import reference
from fieldwright.solvers.same_matrix import same_matrix, supports_same_matrix
from fieldwright.solvers.spectral import spectral, supports_spectral
from fieldwright.solvers.stencil import Solution, StencilSystem
from fieldwright.solvers.transform import supports_transform, transform


class Solve(Protocol):
    """What every method is: a function from a system and a tolerance to a `Solution`."""

    def __call__(
        self,
        system: StencilSystem,
        *,
        rtol: float,
        guess: Float[Tensor, "batch *space"] | None = None,
        max_iterations: int | None = None,
    ) -> Solution: ...


@dataclass(frozen=True)
class Method:
    """A method that `solve` can use.

    ``refuse``       why it cannot take a system, in a few words, or None; cheap beside solving one system
    ``cost``         what it is expected to cost for a system and tolerance
    ``together``     how many samples each thread solves at once
    ``shares``       whether the samples of a call share work, so that more of them in a call cost less each
    ``iterative``    whether a limit on its iterations cuts it off in good order
    ``accelerator``  whether it runs where the system is, rather than on the processor
    """

    solve: Solve
    refuse: Callable[[StencilSystem], str | None]
    cost: Callable[[StencilSystem, float], costs.Cost]
    description: str
    together: int = 1
    shares: bool = False
    iterative: bool = False
    accelerator: bool = False


def never(system: StencilSystem) -> None:
    """Nothing is refused."""


TABLE: dict[str, Method] = {
    "multigrid": Method(
        multigrid,
        supports_multigrid,
        costs.multigrid_cost,
        "conjugate gradients preconditioned by multigrid, compiled, samples in SIMD lanes (SPD, 2D and 3D)",
        together=LANES,
        iterative=True,
    ),
    "spectral": Method(
        spectral,
        supports_spectral,
        costs.spectral_cost,
        "conjugate gradients preconditioned by sine, cosine or Fourier transforms, on any device (SPD)",
        together=LANES,
        iterative=True,
        accelerator=True,
    ),
    "direct": Method(
        direct,
        supports_direct,
        costs.direct_cost,
        "LDL^T or LU on nested dissection, compiled, samples in SIMD lanes, refined (any kind)",
        together=LANES,
    ),
    "transform": Method(
        transform,
        supports_transform,
        costs.transform_cost,
        "one transform forth and back, on any device (one SPD matrix with constant coefficients for all samples)",
        together=LANES,
        accelerator=True,
    ),
    "same-matrix": Method(
        same_matrix,
        supports_same_matrix,
        costs.same_matrix_cost,
        "LDL^T or LU once, then substitution, right-hand sides in SIMD lanes (one matrix for all samples, any kind)",
        together=LANES,
        shares=True,
        accelerator=True,
    ),
    "gmres": Method(
        gmres,
        supports_gmres,
        costs.gmres_cost,
        "restarted GMRES(40), preconditioned by kind, one sample after the other (any kind)",
        shares=True,
        iterative=True,
    ),
    "gcro-dr": Method(
        gcro_dr,
        supports_gmres,
        costs.gcro_dr_cost,
        "GCRO-DR(40, 20) that recycles along the samples sorted by similarity (any kind)",
        together=LANES,
        shares=True,
        iterative=True,
    ),
    "scipy": Method(
        reference,
        never,
        costs.scipy_cost,
        "scipy.sparse.linalg.spsolve, one sample after the other (any kind)",
    ),
}
