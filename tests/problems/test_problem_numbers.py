import math
import pickle

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems import NavierStokes, periodic_symmetries
from fieldwright.problems.numbers import check_number, drawn_numbers


def test_positive_ranges_are_drawn_with_a_uniform_logarithm_and_others_uniformly() -> None:
    values = drawn_numbers(range(4000), 0, [[1e-4, 1.0], [-1.0, 3.0]])
    share = values[:, 0].log10() / 4 + 1
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float(values[:, 1].mean()) == pytest.approx(1.0, abs=0.05)
    assert (float(values[:, 1].min()) > -1.0, float(values[:, 1].max()) < 3.0) == (True, True)


def test_fixing_one_number_leaves_the_others_as_they_were() -> None:
    both = drawn_numbers([7, 3], 5, [[0.1, 1.0], [2.0, 4.0]])
    assert torch.equal(drawn_numbers([7, 3], 5, [0.5, [2.0, 4.0]])[:, 0], both[:, 1])
    assert drawn_numbers([7, 3], 5, [0.5, 3.0]).shape == (2, 0)
    assert drawn_numbers([], 5, [[0.1, 1.0]]).shape == (0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0], [2.0, 1.0], [1.0, math.inf], [0.0, 1.0], -2.0])
def test_numbers_that_make_no_sense_are_refused(value) -> None:
    with pytest.raises(InputError, match="a positive number is needed, or"):
        check_number("viscosity", value, positive=True)


def test_symmetries_of_vectors_form_a_group() -> None:
    symmetries = periodic_symmetries(Grid((6, 6), "periodic"), "vector")
    field = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = {symmetry(field).numpy().tobytes() for symmetry in symmetries}
    assert len(images) == len(symmetries) == 32
    again = {first(second(field)).numpy().tobytes() for first in symmetries for second in symmetries}
    assert again == images


def test_symmetries_of_other_grids_and_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="a cell grid; a periodic one"):
        periodic_symmetries(Grid((6, 6), "cell"))
    with pytest.raises(InputError, match="kind 'tensor'"):
        periodic_symmetries(Grid((6, 6), "periodic"), "tensor")  # type: ignore[arg-type]


def test_a_problem_that_has_been_solved_goes_to_another_process() -> None:
    problem = NavierStokes(resolution=32, duration=0.1, frames=1)
    states, _ = problem.trajectory(problem.sample([0], 0), method="4 steps")
    there = pickle.loads(pickle.dumps(problem))
    assert torch.equal(there.trajectory(there.sample([0], 0), method="4 steps")[0], states)
