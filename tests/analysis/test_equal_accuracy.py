"""Solvers are compared at the surrogate's accuracy, neither better nor worse than need be."""

from dataclasses import replace

import pytest
import torch

from decay_problem import Decay, exact_decay
from fieldwright.analysis import SolverSpeed, SpeedComparison, Timing, compare_speed, loosest_tolerance
from fieldwright.analysis.equal_accuracy import TOLERANCES
from fieldwright.errors import InputError, SolverError
from fieldwright.grids import Boundary, Grid
from fieldwright.problems import Darcy
from fieldwright.solvers import METHODS, Solution

TIMING = Timing(1.0, 0.9, 1.2, 5, 8)


class Obedient(Darcy):
    """A problem whose solver errs by exactly the tolerance asked for, and refuses one method."""

    def solve(self, inputs, *, rtol=1e-8, method="auto", guess=None):
        if method == "spectral":
            raise SolverError("spectral: not for this problem\nand more")
        truth = self.truth(inputs)
        ok = torch.ones(len(inputs), dtype=torch.bool)
        values = truth * (1 + rtol)
        return values, Solution(values[:, 0], ok, ok.long(), ok.double(), 1e-3 * len(inputs), method)

    def truth(self, inputs):
        return torch.ones_like(inputs)


class Instant:
    device = torch.device("cpu")

    def fields(self, inputs):
        return torch.ones_like(inputs)


@pytest.fixture
def obedient():
    return Obedient(resolution=4)


def test_tolerances_fall_from_a_half_to_one_in_a_hundred_million():
    assert list(TOLERANCES) == sorted(TOLERANCES, reverse=True)
    assert TOLERANCES[0] == 0.5
    assert TOLERANCES[-1] == pytest.approx(1e-8)


@pytest.mark.parametrize(("target", "expected"), [(0.6, 0.5), (0.02, 0.02), (0.019, 0.01), (1.5e-5, 1e-5)])
def test_the_loosest_sufficient_tolerance_is_found(obedient, target, expected):
    inputs = obedient.sample(range(3), seed=0)
    found = loosest_tolerance(obedient, inputs, obedient.truth(inputs), method="auto", target=target * (1 + 1e-9))
    assert found == pytest.approx((expected, expected))


def test_no_tolerance_reaches_what_is_below_the_tightest(obedient):
    inputs = obedient.sample(range(3), seed=0)
    assert loosest_tolerance(obedient, inputs, obedient.truth(inputs), method="auto", target=1e-12) is None


def test_an_iterative_solver_stops_early_and_within_the_target():
    problem = Darcy(resolution=16)
    inputs = problem.sample(range(8), seed=1)
    truth, _ = problem.solve(inputs, rtol=1e-10)
    found = loosest_tolerance(problem, inputs, truth, method="spectral", target=0.02)
    assert found is not None
    rtol, error = found
    assert error <= 0.02
    assert rtol > 1e-3


def test_solver_seconds_are_those_of_the_solve_alone(obedient):
    inputs = obedient.sample(range(20), seed=0).float()
    speed = compare_speed(Instant(), obedient, inputs, obedient.truth(inputs), target=0.011, baseline_seconds=0.25)
    ours = [s for s in speed.solvers if s.kind == "ours"]
    assert {s.name for s in ours} == set(METHODS) - {"auto", "scipy", "spectral"}
    for solver in ours:
        assert solver.seconds == pytest.approx(1e-3)
        assert solver.rtol == pytest.approx(0.01)
    assert speed.left_out == {"spectral": "spectral: not for this problem"}
    assert [s.seconds for s in speed.solvers if s.kind == "user"] == [0.25]
    assert speed.target == 0.011
    assert speed.batched.samples == 20


def test_elimination_does_not_race_in_three_dimensions():
    problem = Obedient(resolution=4, dimension=3)
    inputs = problem.sample(range(4), seed=0).float()
    speed = compare_speed(Instant(), problem, inputs, problem.truth(inputs), target=0.011)
    assert "fills in" in speed.left_out["direct"]
    assert "direct" not in {s.name for s in speed.solvers}


def test_a_problem_in_time_races_with_its_fewest_time_steps_on_its_grid_and_on_coarser_ones():
    problem = Decay(resolution=8)
    inputs = problem.sample(range(16), seed=0)
    inputs[:, :2] = inputs[:, :2].mean((2, 3), keepdim=True)  # what a coarser grid holds too
    truth = exact_decay(problem, inputs, problem.interval)
    speed = compare_speed(Instant(), problem, inputs, truth, target=1e-3)
    # n steps of Heun's method err by n (k Δ / n)³ / 6; k is 2 and 3 about the median and Δ = 1/4, so n = 8.
    assert [s.name for s in speed.solvers] == ["8-step 8 × 8", "8-step 6 × 6", "8-step 4 × 4"]
    for solver in speed.solvers:
        assert solver.kind == "ours"
        assert solver.rtol is None
        assert solver.error is not None
        assert solver.error <= 1e-3


def test_grids_that_are_too_coarse_for_the_target_are_left_out():
    problem = Decay(resolution=8)
    inputs = problem.sample(range(16), seed=0)
    speed = compare_speed(Instant(), problem, inputs, exact_decay(problem, inputs, problem.interval), target=1e-3)
    assert [s.name for s in speed.solvers] == ["8-step 8 × 8"]
    assert speed.left_out == {"6 × 6": "does not reach an error of 1.0e-03"}


def test_resolutions_that_a_problem_cannot_have_are_passed_over():
    class OfPowersOfTwo(Decay):
        def at(self, resolution):
            if resolution & (resolution - 1):
                raise InputError("decay: a power of two is needed")
            return super().at(resolution)

    problem = OfPowersOfTwo(resolution=8)
    inputs = problem.sample(range(16), seed=0)
    inputs[:, :2] = inputs[:, :2].mean((2, 3), keepdim=True)
    speed = compare_speed(Instant(), problem, inputs, exact_decay(problem, inputs, problem.interval), target=1e-3)
    assert [s.name for s in speed.solvers] == ["8-step 8 × 8", "8-step 4 × 4"]
    assert speed.left_out == {}


def comparison(*solvers):
    return SpeedComparison(0.01, TIMING, TIMING, solvers, {}, 1, "cpu")


def test_rivals_are_our_fastest_then_scipy_then_the_users():
    slow, quick = SolverSpeed("direct", "ours", 2.0), SolverSpeed("multigrid", "ours", 1.0)
    scipy, user = SolverSpeed("spsolve", "scipy", 3.0), SolverSpeed("your own solver", "user", 0.1)
    speed = comparison(slow, quick, scipy, user)
    assert speed.fastest == quick
    assert speed.rivals == (quick, scipy, user)


def test_without_a_solver_of_ours_there_is_no_fastest():
    scipy = SolverSpeed("spsolve", "scipy", 3.0)
    assert comparison(scipy).fastest is None
    assert comparison(scipy).rivals == (scipy,)
    assert replace(comparison(scipy), solvers=()).rivals == ()


def test_boundary_and_grid_of_the_stand_in_are_darcys(obedient):
    assert obedient.grid == Grid((4, 4))
    assert obedient.boundary == Boundary.parse("dirichlet", 2)
