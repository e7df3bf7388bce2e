"""Windows of trajectories: the frames of the problem in time, whatever they are called."""

import pytest
import torch

from fieldwright.errors import InputError, RecipeError
from fieldwright.problems import PROBLEMS, Heat, NavierStokes, TrajectoryWindow
from fieldwright.problems.named import named_problem

FLOW = {"kind": "navier_stokes", "resolution": 16, "duration": 0.6, "frames": 3, "viscosity": [0.01, 0.02], "peak": 3.0}


def window(known=3, predicted=4, **settings) -> TrajectoryWindow:
    return TrajectoryWindow({**FLOW, **settings}, known=known, predicted=predicted)


@pytest.mark.parametrize("form", ["vorticity", "velocity"])
@pytest.mark.parametrize("known", [1, 3])
def test_frames_are_those_of_the_trajectory_that_began_with_the_first(form, known):
    problem = window(known=known, form=form)
    inputs = problem.sample(range(2), seed=1)
    outputs, solution = problem.solve(inputs)
    assert bool(solution.converged.all())
    size = len(problem.later.state)
    whole = NavierStokes(
        resolution=16, duration=0.2 * (known + 3), frames=known + 3, viscosity=[0.01, 0.02], peak=3.0, form=form
    )
    states, _ = whole.trajectory(whole.sample(range(2), seed=1))
    found = torch.cat((inputs[:, : known * size], outputs), 1).unflatten(1, (-1, size))
    assert (found - states).norm() < 1e-4 * states.norm()
    assert torch.equal(inputs[:, known * size :], whole.sample(range(2), seed=1)[:, size:])


def test_a_sample_does_not_depend_on_the_batch_it_is_drawn_in():
    problem = window()
    assert torch.equal(problem.sample([5], seed=0), problem.sample([2, 5], seed=0)[1:])


def test_fields_are_named_by_frame_and_vectors_stay_together():
    assert [field.name for field in window().inputs] == ["vorticity_0", "vorticity_1", "vorticity_2", "viscosity"]
    fields = window(known=1, predicted=1, form="velocity").outputs
    assert [(field.name, field.vector) for field in fields] == [
        ("velocity_1_x", "velocity_1"), ("velocity_1_y", "velocity_1"),
    ]  # fmt: skip


def test_the_residual_of_the_solution_is_small_and_that_of_persistence_is_not():
    problem = window(duration=0.15)
    inputs = problem.sample(range(2), seed=0)
    outputs, _ = problem.solve(inputs, rtol=1e-9)
    exact, still = problem.residual(inputs, outputs), problem.residual(inputs, problem.guess(inputs))
    assert exact.shape == outputs.shape
    assert exact.norm() < 1e-3 * still.norm()
    for name, defect in problem.balance(inputs, outputs).items():
        assert bool((defect < 1e-5).all()), name


def test_the_guess_is_the_last_known_frame_in_every_predicted_one():
    problem = window()
    inputs = problem.sample(range(1), seed=0)
    assert torch.equal(problem.guess(inputs), inputs[:, 2:3].expand(-1, 4, -1, -1))


@pytest.mark.parametrize("form", ["vorticity", "velocity"])
@pytest.mark.parametrize(("known", "predicted", "viscosity"), [(2, 4, [0.01, 0.02]), (2, 2, 0.01)])
def test_solutions_of_mirrored_and_shifted_windows_are_mirrored_and_shifted(form, known, predicted, viscosity):
    problem = window(known=known, predicted=predicted, form=form, viscosity=viscosity)
    inputs = problem.sample(range(1), seed=0)
    outputs, _ = problem.solve(inputs)
    symmetries = problem.symmetries()
    assert len(symmetries) == len(problem.later.symmetries())
    for symmetry in symmetries[5::13]:
        moved, _ = problem.solve(symmetry(inputs))
        assert torch.allclose(moved, symmetry(outputs), atol=1e-4 * float(outputs.abs().max()))


def test_symmetries_that_cannot_tell_coefficients_from_states_are_left_out():
    assert len(window(known=2, predicted=3).symmetries()) == 1


def test_other_resolutions_and_shifts_are_windows_too():
    problem = window()
    finer = problem.at(32)
    assert finer.grid.shape == (32, 32)
    assert (finer.known, finer.predicted, finer.later.interval) == (3, 4, pytest.approx(0.2))
    assert all(isinstance(other, TrajectoryWindow) for other in window(viscosity=0.01).shifts().values())
    assert "viscosity halved" in window(viscosity=0.01).shifts()
    again = named_problem("trajectory_window", problem.settings())
    assert again == problem


def test_any_problem_in_time_has_windows():
    problem = TrajectoryWindow({"kind": "heat", "resolution": 16}, known=2, predicted=2)
    inputs = problem.sample(range(2), seed=0)
    outputs, _ = problem.solve(inputs)
    assert outputs.shape == (2, 2 * len(Heat().state), *problem.grid.shape)
    assert PROBLEMS["trajectory_window"] is TrajectoryWindow


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evolution": {"kind": "darcy"}}, "'darcy' is no problem in time"),
        ({"evolution": {"resolution": 16}}, "names no kind"),
        ({"evolution": {"kind": "navier_stokes", "resolutoin": 16}}, "resolution"),
        ({"known": 0}, "known = 0"),
        ({"predicted": 0}, "predicted = 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises((InputError, RecipeError), match=message):
        TrajectoryWindow(**settings)
