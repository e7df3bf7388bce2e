"""The V-cycle: linear, equal to its recursion, and exact under the symmetries of its walls."""

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators.vcycle import VCycle
from fieldwright.operators.walls import Walls

ZERO = Walls((("zero", "zero"),) * 2)
SMOOTHING = [(1, 0), (2, 1), (2, 0)]


def recursion(cycle: VCycle, f: torch.Tensor, u: torch.Tensor | None = None, level: int = 0) -> torch.Tensor:
    """The textbook form: smooth, descend, correct, smooth."""
    for step in cycle.pre[level]:
        u = step.smoother(f) if u is None else u + step.smoother(f - step.operator(u))
    if level + 1 < len(cycle.pre):
        source = f - cycle.residual[level](u) if len(cycle.residual) else f
        coarse = recursion(cycle, cycle.restrict_source[level](source), cycle.restrict_guess[level](u), level + 1)
        u = u + cycle.prolong[level](coarse, tuple(u.shape[2:]))
        for step in cycle.post[level]:
            u = u + step.smoother(f - step.operator(u))
    assert u is not None
    return u


@pytest.mark.parametrize("restrict_residual", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (13, 22)])
def test_cycle_matches_the_textbook_recursion(restrict_residual, shape):
    cycle = VCycle(2, 3, ZERO, SMOOTHING, restrict_residual=restrict_residual).double()
    f = torch.randn(2, 2, *shape, dtype=torch.float64)
    assert torch.allclose(cycle(f), recursion(cycle, f), atol=1e-13)


@pytest.mark.parametrize("rule", ["zero", "odd", "even", "wrap"])
def test_cycle_is_linear(rule):
    cycle = VCycle(2, 3, Walls(((rule, rule),) * 2), SMOOTHING, restrict_residual=True).double()
    f, g = torch.randn(2, 1, 2, 12, 10, dtype=torch.float64)
    assert torch.allclose(cycle(2 * f - 3 * g), 2 * cycle(f) - 3 * cycle(g), atol=1e-12)
    assert not cycle(0 * f).any()


def symmetrise(cycle: VCycle) -> VCycle:
    """Even kernels: what an isotropic stencil is, and what images in a wall need."""
    with torch.no_grad():
        for weight in cycle.parameters():
            for axis in range(2, weight.ndim):
                weight.copy_((weight + weight.flip(axis)) / 2)
    return cycle


@pytest.mark.parametrize(("rule", "sign"), [("even", 1), ("odd", -1)])
@pytest.mark.parametrize("dimension", [1, 2])
def test_walls_act_as_mirrors_on_every_level(rule, sign, dimension):
    # Method of images: with even kernels, a Neumann (Dirichlet) cell-centred box is half of a periodic box that holds
    # the even (odd) continuation of the field.
    walls = symmetrise(VCycle(2, 3, Walls(((rule, rule),) * dimension), SMOOTHING, restriction_size=4).double())
    torus = VCycle(2, 3, Walls((("wrap", "wrap"),) * dimension), SMOOTHING, restriction_size=4).double()
    torus.load_state_dict(walls.state_dict())
    f = torch.randn(1, 2, *(16, 8)[:dimension], dtype=torch.float64)
    doubled = f
    for axis in range(2, 2 + dimension):
        doubled = torch.cat((doubled, sign * doubled.flip(axis)), axis)
    half = torus(doubled)
    for axis, n in enumerate(f.shape[2:]):
        half = half.narrow(axis + 2, 0, n)
    assert torch.allclose(walls(f), half, atol=1e-12)


@pytest.mark.parametrize(
    ("smoothing", "message"),
    [([], "no level"), ([(0, 0)], "at least 1 step"), ([(1, 0), (1, 1)], "coarsest"), ([(1, -1), (1, 0)], "0 after")],
)
def test_impossible_smoothing_is_refused(smoothing, message):
    with pytest.raises(InputError, match=message):
        VCycle(1, 1, ZERO, smoothing)


def test_unknown_restriction_size_is_refused():
    with pytest.raises(InputError, match="allowed are 3 and 4"):
        VCycle(1, 1, ZERO, [(1, 0)], restriction_size=5)


def test_one_cycle_learns_part_of_an_elliptic_inverse():
    # -u'' = f on (0, 1), u = 0 at both walls, smooth right-hand sides: the card's check in one dimension.
    torch.manual_seed(0)
    n = 32
    x = (torch.arange(n) + 0.5) / n
    k = torch.arange(1, 9)
    modes = torch.sin(torch.pi * k[:, None] * x)
    amplitude = torch.randn(64, 8) / k
    f, u = (amplitude @ modes)[:, None], (amplitude / (torch.pi * k) ** 2 @ modes)[:, None] * 10
    cycle = VCycle(1, 1, Walls((("odd", "odd"),)), [(1, 0)] * 4 + [(2, 0)])
    optimizer = torch.optim.Adam(cycle.parameters(), lr=1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        loss = (cycle(f) - u).square().mean() / u.square().mean()
        loss.backward()
        optimizer.step()
    assert loss.sqrt() < 0.15
