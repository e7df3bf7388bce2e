"""The linear multigrid V-cycle with learned convolutions: the building block of MgNO, usable on its own.

    u₁ = S¹ f₁,                                 u₁ <- u₁ + Sⁱ (f₁ - Aⁱ u₁)     pre-smoothing on the finest grid
    u_j = Π u_{j-1},  f_j = R f_{j-1},          u_j <- u_j + Sⁱ (f_j - Aⁱ u_j)  down to the coarsest
    u_j <- u_j + P u_{j+1},                     u_j <- u_j + Sⁱ (f_j - Aⁱ u_j)  and up again
    W f = u₁

Source: He, Liu, Xu, "MgNO: Efficient Parameterization of Linear Operators via Multigrid", ICLR 2024, algorithm 1 in the
form of its released models, which restrict f itself; ``restrict_residual`` gives the paper's R (f_{j-1} - A u_{j-1}).
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.convolution import Convolution, Prolongation
from fieldwright.operators.walls import Walls, channels_innermost


class VCycle(nn.Module):
    """The operator W: ``in_channels`` fields -> ``out_channels`` fields, linear, without bias, on any grid size.

    ``smoothing``          (pre, post) smoothing steps per level, finest first, one pair a level. Every level needs
                           a step on the way down (the first one makes u), the coarsest has none on the way up
    ``restriction_size``   points per axis of Π and R: 3 as published, or 4, the twin of the prolongation, which keeps
                           reflections of a cell-centred grid
    ``restrict_residual``  hand down the residual rather than f; costs one more convolution A per level

    An axis of n points has ⌈n/2⌉ on the next level. A periodic axis commutes with shifts by 2^(levels-1) points where n
    is a multiple of that; on any other size the coarse grids have a seam.

    Errors: `InputError` for smoothing counts that leave a level without u, or another restriction size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        walls: Walls,
        smoothing: Sequence[tuple[int, int]],
        *,
        restriction_size: int = 3,
        restrict_residual: bool = False,
    ) -> None:
        super().__init__()
        _check(smoothing, restriction_size)

        def convolution(inner: int, outer: int, *, stride: int = 1, size: int = 3) -> Convolution:
            return Convolution(inner, outer, walls, stride=stride, size=size)

        def smoother(count: int, *, starts: bool) -> nn.ModuleList:
            return nn.ModuleList(
                SmoothingStep(
                    convolution(in_channels, out_channels),
                    None if starts and step == 0 else convolution(out_channels, in_channels),
                )
                for step in range(count)
            )

        self.pre = nn.ModuleList(smoother(pre, starts=level == 0) for level, (pre, _) in enumerate(smoothing))
        self.post = nn.ModuleList(smoother(post, starts=False) for _, post in smoothing[:-1])
        steps = range(len(smoothing) - 1)
        self.residual = nn.ModuleList(convolution(out_channels, in_channels) for _ in steps if restrict_residual)
        self.restrict_guess = nn.ModuleList(
            convolution(out_channels, out_channels, stride=2, size=restriction_size) for _ in steps
        )
        self.restrict_source = nn.ModuleList(
            convolution(in_channels, in_channels, stride=2, size=restriction_size) for _ in steps
        )
        self.prolong = nn.ModuleList(Prolongation(out_channels, walls) for _ in steps)

    def forward(self, f: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *space"]:
        f, u = channels_innermost(f), None
        descent = []
        for level, steps in enumerate(self.pre):
            if u is not None:
                descent.append((u, f))
                source = f - self.residual[level - 1](u) if len(self.residual) else f
                u, f = self.restrict_guess[level - 1](u), self.restrict_source[level - 1](source)
            for step in steps:  # type: ignore[attr-defined]
                u = step(f, u)
        for level in reversed(range(len(descent))):
            finer, f = descent[level]
            u = self.prolong[level](u, tuple(finer.shape[2:])).add_(finer)
            for step in self.post[level]:  # type: ignore[attr-defined]
                u = step(f, u)
        assert u is not None
        return u


class SmoothingStep(nn.Module):
    """u <- u + S (f - A u), or u = S f where there is no ``operator`` A yet."""

    def __init__(self, smoother: Convolution, operator: Convolution | None) -> None:
        super().__init__()
        self.smoother, self.operator = smoother, operator

    def forward(
        self, f: Float[Tensor, "batch inner *space"], u: Float[Tensor, "batch outer *space"] | None
    ) -> Float[Tensor, "batch outer *space"]:
        if self.operator is None or u is None:
            return self.smoother(f)
        return u + self.smoother(f - self.operator(u))


def _check(smoothing: Sequence[tuple[int, int]], restriction_size: int) -> None:
    if not smoothing:
        raise InputError("smoothing: no level given; a V-cycle has at least one")
    for level, (pre, post) in enumerate(smoothing):
        if pre < 1 or post < 0:
            raise InputError(f"smoothing: ({pre}, {post}) on level {level + 1}; at least 1 step before and 0 after")
    if smoothing[-1][1]:
        raise InputError(f"smoothing: {smoothing[-1][1]} steps after the coarsest level {len(smoothing)}; it has none")
    if restriction_size not in (3, 4):
        raise InputError(f"restriction_size: {restriction_size}; allowed are 3 and 4")
