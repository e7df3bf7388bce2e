"""The table of operators: what stands in it is so."""

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators import OPERATORS, POINT_OPERATORS, build_operator, parameter_count
from fieldwright.operators.survey import MOST_POINTS, survey, usual_shape

PLANE = {one.name: one for one in survey((16, 24), in_channels=2, out_channels=3)}


def test_every_operator_is_in_it_with_a_paper():
    assert list(PLANE) == [*OPERATORS, *POINT_OPERATORS]
    assert all(one.paper.count('"') == 2 for one in PLANE.values())
    assert len({PLANE[name].paper for name in ("deeponet", "multionet", "unet", "resnet")}) == 4


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_the_stated_dimensions_and_weights(name):
    for dimension in (1, 2, 3):
        walls = Boundary.parse("dirichlet", dimension)
        if dimension not in PLANE[name].dimensions:
            with pytest.raises(InputError):
                build_operator(name, {}, 2, 3, dimension, walls)
        elif dimension == 2 and PLANE[name].parameters is None:
            with pytest.raises(InputError, match=PLANE[name].note[:40]):
                build_operator(name, {}, 2, 3, dimension, walls)
        elif dimension == 2:
            operator = build_operator(name, {}, 2, 3, dimension, walls)
            assert PLANE[name].parameters == parameter_count(operator)
            assert operator(torch.zeros(1, 2, 16, 24)).shape == (1, 3, 16, 24)


def test_what_is_too_small_or_flat_for_an_operator_has_a_reason_and_no_figure():
    line = {one.name: one for one in survey((8,))}
    assert (line["transformer"].flops, line["latent_spectral"].flops) == (None, None)
    assert "dimension: 1" in line["transformer"].note
    assert "8 points" in line["latent_spectral"].note
    assert line["fourier"].flops


def test_points_are_counted_up_to_a_limit():
    assert "on 384 points" in PLANE["latent_spectral_points"].note
    assert MOST_POINTS < 64 * 64


def test_surveying_leaves_the_random_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    survey((16,))
    assert torch.equal(before, torch.get_rng_state())


def test_usual_shapes():
    assert usual_shape(None, None) == (64, 64)
    assert usual_shape(None, 1) == (256,)
    assert usual_shape([12], 3) == (12, 12, 12)
    assert usual_shape([12, 8], None) == (12, 8)
    with pytest.raises(InputError, match="in dimension 3"):
        usual_shape([12, 8], 3)


@pytest.mark.parametrize("shape", [(), (0, 4), (2, 2, 2, 2)])
def test_shapes_that_no_operator_takes_are_refused(shape):
    with pytest.raises(InputError, match="grid"):
        survey(shape)
    with pytest.raises(InputError, match="channels"):
        survey((8,), in_channels=0)
