import math
from dataclasses import replace

import pytest
import torch

from decay_problem import Decay, Forced, exact_decay
from fieldwright.errors import InputError, SolverError
from fieldwright.problems import Law


def test_states_at_every_time_are_within_the_tolerance_of_the_exact_ones() -> None:
    problem = Decay()
    inputs = problem.sample(range(5), 0)
    states, solution = problem.trajectory(inputs, rtol=1e-6)
    assert bool(solution.converged.all())
    assert float(solution.residual.max()) <= 1e-6
    for frame, time in enumerate(problem.times.tolist()):
        exact = exact_decay(problem, inputs, time)
        assert float((states[:, frame] - exact).norm() / exact.norm()) < 1e-6


def test_fast_instances_get_more_steps_than_slow_ones_whoever_shares_their_batch() -> None:
    problem = Decay()
    inputs = problem.sample(range(5), 0)
    states, solution = problem.trajectory(inputs, rtol=1e-6)
    assert solution.iterations[0] < solution.iterations[4]  # k = 1 and k = 5
    for i in range(5):
        alone, single = problem.trajectory(inputs[i : i + 1], rtol=1e-6)
        assert torch.equal(alone[0], states[i])
        assert single.iterations[0] == solution.iterations[i]


def test_change_by_halving_falls_with_the_order_of_the_integrator() -> None:
    problem = Decay()
    inputs = problem.sample([4], 0)
    changes = []
    for steps in (32, 64):
        _, solution = problem.trajectory(inputs, rtol=1.0, method=f"{steps} steps, checked")
        assert int(solution.iterations[0]) == steps
        changes.append(float(solution.residual[0]))
    assert math.log2(changes[0] / changes[1]) == pytest.approx(2.0, abs=0.1)


def test_solve_is_the_first_frame_of_the_trajectory_and_frames_compose() -> None:
    problem = Decay()
    inputs = problem.sample([0, 1], 0)
    states, _ = problem.trajectory(inputs, method="64 steps")
    state = inputs
    for frame in range(1, problem.frames + 1):
        outputs, _ = problem.solve(state, method="64 steps")
        torch.testing.assert_close(outputs, states[:, frame], rtol=1e-14, atol=0)
        state = problem.later(state, outputs, problem.interval)


def test_clock_moves_with_the_frames() -> None:
    problem = Forced()
    inputs = problem.sample([3], 0)
    states, solution = problem.trajectory(inputs, rtol=1e-8)
    assert bool(solution.converged.all())
    torch.testing.assert_close(states[0, :, 0, 0], 3 + problem.times.sin(), rtol=1e-8, atol=0)
    state = inputs
    for frame in range(1, problem.frames + 1):
        outputs, _ = problem.solve(state, rtol=1e-8)
        state = problem.later(state, outputs, problem.interval)
        assert float(state[0, 1, 0]) == pytest.approx(frame * problem.interval)
        torch.testing.assert_close(outputs, states[:, frame], rtol=1e-7, atol=0)


@pytest.mark.parametrize("kind", [Decay, Forced])
def test_residual_of_the_exact_solution_falls_with_the_fourth_power_of_the_interval(kind) -> None:
    defects = []
    for frames in (4, 8):
        problem = kind(frames=4 * frames)
        inputs = problem.sample([2], 0)
        if kind is Decay:
            outputs = exact_decay(problem, inputs, problem.interval)
        else:
            outputs = inputs[:, :1] + math.sin(problem.interval)
        defects.append(float(problem.residual(inputs, outputs).abs().max()))
    assert math.log2(defects[0] / defects[1]) == pytest.approx(4.0, abs=0.1)


def test_residual_sees_a_prediction_that_obeys_no_equation() -> None:
    problem = Decay()
    inputs = problem.sample([0], 0)
    exact = exact_decay(problem, inputs, problem.interval)
    small = problem.residual(inputs, exact).norm()
    noise = torch.rand(exact.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert float(problem.residual(inputs, exact * (1 + 0.1 * noise)).norm() / small) > 100


def test_residual_is_differentiable_in_inputs_and_outputs() -> None:
    problem = Decay(resolution=2)
    inputs = problem.sample([0], 0).requires_grad_()
    outputs = (inputs[:, :2] * 0.8).detach().requires_grad_()
    assert torch.autograd.gradcheck(problem.residual, (inputs, outputs))


def test_what_blows_up_or_breaks_a_law_is_not_converged_and_leaves_its_neighbours_alone() -> None:
    problem = replace(Decay(blows_up=1), duration=1.0)
    inputs = problem.sample([0, 1, 2], 0)
    states, solution = problem.trajectory(inputs, method="16 steps")
    assert solution.failed == [1]  # its energy rises, by a factor that overflows
    healthy, _ = Decay().trajectory(Decay().sample([0, 2], 0), method="16 steps")
    assert torch.equal(states[[0, 2]], healthy)


def test_falling_laws_forgive_a_fall_and_constant_ones_do_not() -> None:
    values = torch.tensor([[2.0, 1.0, 3.0]], dtype=torch.float64)
    assert Law(values, "falling").defect().tolist() == [[0.0, 0.0, 0.5]]
    assert Law(values, "constant").defect().tolist() == [[0.0, 0.5, 0.5]]
    supply = torch.tensor([[0.0, -1.0, 1.0]], dtype=torch.float64)
    assert Law(values, "constant", supply=supply).defect().tolist() == [[0.0, 0.0, 0.0]]
    with pytest.raises(InputError, match="constant and falling"):
        Law(values, "rising")  # type: ignore[arg-type]


def test_balance_of_one_frame_is_the_defect_of_its_laws() -> None:
    problem = Forced()
    inputs = problem.sample([1], 0)
    outputs, _ = problem.solve(inputs, rtol=1e-8)
    assert float(problem.balance(inputs, outputs)["level"]) < 1e-8
    assert float(problem.balance(inputs, outputs + 0.25)["level"]) == pytest.approx(0.25, abs=1e-7)


def test_pilot_settles_the_steps_that_most_samples_need() -> None:
    problem = Decay()
    inputs = problem.sample(range(5), 0)
    settled = problem.settle(inputs, rtol=1e-5)
    _, solution = problem.trajectory(inputs, rtol=1e-5)
    needed = sorted(solution.iterations.tolist())[3]
    assert settled.method == f"{needed} steps, checked"
    # Begun where most samples need it, every sample still ends within the tolerance.
    _, again = problem.trajectory(inputs, rtol=1e-5, method=settled.method)
    assert bool(again.converged.all())
    assert Decay(steps=7).settle(inputs, rtol=1e-5).method == "7 steps"


def test_a_tolerance_out_of_reach_is_said_in_one_sentence() -> None:
    problem = Decay(resolution=2, frames=1)
    with pytest.raises(SolverError, match=r"none of 2 samples reached rtol 1e-15"):
        problem.settle(problem.sample([0, 1], 0), rtol=1e-15)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"duration": 0.0}, "duration = 0.0"), ({"frames": 0}, "frames = 0"), ({"steps": 0}, "steps = 0")],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Decay(**settings)


def test_methods_of_steady_problems_are_refused_by_name() -> None:
    problem = Decay()
    with pytest.raises(InputError, match="'multigrid' is for steady problems"):
        problem.solve(problem.sample([0], 0), method="multigrid")


def test_unstable_steps_are_refused_with_the_number_that_is_stable() -> None:
    class Stiff(Decay):
        def least_steps(self, inputs):
            return 9

    problem = Stiff(steps=4)
    with pytest.raises(InputError, match=r"4 steps of 0.0625 per frame are unstable.*9 or more"):
        problem.solve(problem.sample([0], 0))
