"""Steps of damped oscillations: orders, limits of stability, what is kept exactly, and the compiled form."""

import itertools
import math

import pytest
import torch

from fieldwright.solvers.oscillation import LIMITS, Oscillation
from fieldwright.solvers.summation_by_parts import SecondDifference

ORDERS = sorted(LIMITS)


def oscillation(time_order: int, shape: tuple[int, ...], wraps: bool = False, order: int = 4) -> Oscillation:
    axes = [SecondDifference(order, n, 1 / (n if wraps else n - 1), wraps) for n in shape]
    return Oscillation(tuple(axes), time_order)


def medium(shape: tuple[int, ...], batch: int, damped: bool) -> tuple[torch.Tensor, ...]:
    """(u, v, s, σ) of random smoothness, with damping at both ends of the first axis and one of the second."""
    generator = torch.Generator().manual_seed(1)
    u, v, s = torch.rand(3, batch, *shape, dtype=torch.float64, generator=generator)
    damping = torch.zeros_like(s)
    if damped:
        damping[:, 0] += 30.0
        damping[:, -1] += 20.0
        if len(shape) == 2:
            damping[:, :, -1] += 25.0
    return u, 10 * v, s + 0.5, damping


def dense(problem: Oscillation, stiffness: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    """The matrix of (u, v)' for one sample."""
    n = stiffness[0].numel()
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *stiffness.shape[1:])
    difference = problem.laplacian(basis).flatten(1).T * stiffness[0].flatten()[:, None]
    zero, one = torch.zeros(n, n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    return torch.cat([torch.cat([zero, one], 1), torch.cat([difference, -torch.diag(damping[0].flatten())], 1)])


@pytest.mark.parametrize("damped", [True, False])
@pytest.mark.parametrize("time_order", [2, 4])
def test_steps_converge_to_the_flow_of_the_linear_system_with_their_order(time_order: int, damped: bool) -> None:
    problem = oscillation(time_order, (12,))
    fields = medium((12,), 1, damped)
    flow = torch.linalg.matrix_exp(0.1 * dense(problem, fields[2], fields[3]))
    exact = flow @ torch.cat([fields[0], fields[1]], 1)[0]
    errors, steps = [], {2: (32, 64, 128), 4: (16, 32, 64)}[time_order]
    for count in steps:
        found = problem.march(*fields, interval=0.1, frames=1, steps=count)[0, 0].flatten()
        errors.append(float((found - exact).norm() / exact.norm()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders[-1] == pytest.approx(time_order, abs=0.1)


@pytest.mark.parametrize("damped", [True, False])
@pytest.mark.parametrize("time_order", [4, 8])
def test_a_step_of_the_series_is_taylors_polynomial_of_the_system(time_order: int, damped: bool) -> None:
    """What is left out is the next term: the error of order 8 is below rounding long before it shows its order."""
    problem = oscillation(time_order, (5, 5), order=2)
    fields = medium((5, 5), 1, damped)
    matrix = 0.1 * dense(problem, fields[2], fields[3])
    term = total = torch.cat([fields[0].flatten(), fields[1].flatten()])
    for k in range(1, time_order + 1):
        term = matrix @ term / k
        total = total + term
    found = problem.march(*fields, interval=0.1, frames=1, steps=1)[0, 0].flatten()
    torch.testing.assert_close(found, total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space_order", [2, 4])
@pytest.mark.parametrize("time_order", ORDERS)
def test_least_steps_are_stable_and_hardly_more_than_needed(time_order: int, space_order: int) -> None:
    """The matrix of a step has no eigenvalue beyond the unit circle, whatever part of a box' walls absorbs."""
    shape = (8, 9)
    problem = oscillation(time_order, shape, order=space_order)
    stiffness = torch.ones(1, *shape, dtype=torch.float64)
    for sides in ((), (0,), (0, 1), (0, 1, 2, 3)):
        damping = torch.zeros(1, *shape, dtype=torch.float64)
        for side in sides:
            axis, end = divmod(side, 2)
            damping.select(1 + axis, -end).add_(1 / float(problem.axes[axis].weights[0]))
        least = problem.least_steps(stiffness, 1.0)
        n = stiffness[0].numel()
        basis = torch.eye(2 * n, dtype=torch.float64).reshape(2 * n, 2, *shape)

        def largest(steps: int, damping: torch.Tensor = damping, basis: torch.Tensor = basis) -> float:
            one = torch.ones(len(basis), 1, 1, dtype=torch.float64)
            step = problem.march(
                basis[:, 0], basis[:, 1], stiffness * one, damping * one, interval=1 / steps, frames=1, steps=1
            )
            return float(torch.linalg.eigvals(step.flatten(1)).abs().max())

        # The constant is a double eigenvalue 1, which rounding splits by its square root.
        assert largest(least) < 1 + 1e-6
        if not sides:
            assert (
                largest(max(1, round(0.85 * least * LIMITS[time_order] / {2: 2.0, 4: 2.83, 8: 3.4}[time_order]))) > 1.01
            )


def test_leapfrog_keeps_its_own_energy_to_rounding_for_a_thousand_steps() -> None:
    """With K = -s D the form (v, v) + (u, K u) - τ²/4 (K u, K u), weighted by H/s, is an invariant of the step."""
    problem = oscillation(2, (10, 12))
    u, v, s, damping = medium((10, 12), 1, damped=False)
    interval = 1.0
    steps = problem.least_steps(s, interval) + 5
    weight = problem.weights() / s

    def energy(state: torch.Tensor) -> float:
        pushed = -s * problem.laplacian(state[:, 0])
        form = state[:, 1] ** 2 + state[:, 0] * pushed - 0.25 * (interval / steps) ** 2 * pushed**2
        return float((weight * form).sum())

    states = problem.march(u, v, s, damping, interval=interval, frames=40, steps=steps)[0]
    assert steps * 40 > 1000
    energies = [energy(torch.stack([u, v], 1)), *(energy(state[None]) for state in states)]
    assert max(energies) - min(energies) < 1e-11 * energies[0]


@pytest.mark.parametrize("shape", [(9,), (33,), (5, 6), (8, 8), (9, 26), (20, 17)])
@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("space_order", [2, 4])
def test_compiled_steps_are_the_tensor_steps(space_order: int, wraps: bool, shape: tuple[int, ...]) -> None:
    shape = tuple(max(n, 2 * space_order) for n in shape)
    for time_order in ORDERS:
        problem = oscillation(time_order, shape, wraps, space_order)
        fields = medium(shape, 2, damped=not wraps)
        steps = problem.least_steps(fields[2], 0.5) + 1
        expected = problem.march_tensors(*fields, 0.5 / steps, 2, steps)
        found = problem.march_compiled(*fields, 0.5 / steps, 2, steps)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        alone = problem.march_compiled(*(field[1:] for field in fields), 0.5 / steps, 2, steps)
        assert torch.equal(alone[0], found[1])


def test_nothing_to_move_needs_one_step() -> None:
    problem = oscillation(2, (9,))
    still = torch.zeros(1, 9, dtype=torch.float64)
    assert problem.least_steps(still, 1.0) == 1
    assert problem.least_steps(still + math.nan, 1.0) == 1
