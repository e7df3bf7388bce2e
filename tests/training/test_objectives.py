import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.norms import h1_norm, l2_norm, relative_h1, relative_l2
from fieldwright.training.batches import Batch
from fieldwright.training.objectives import SMALL, Objective, RelativeError, build_objective, squared_h1, squared_l2

GRIDS = [
    Grid(shape, centring, upper=tuple(1.5 for _ in shape))
    for centring in ("node", "cell", "periodic")
    for shape in ((9,), (6, 8), (4, 5, 6))
]


def a_batch(grid: Grid, channels: int = 2, samples: int = 3, scale: float = 1.0) -> Batch:
    draws = torch.Generator().manual_seed(1)
    fields = scale * (1 + torch.randn(samples, channels, *grid.shape, generator=draws, dtype=torch.float64))
    return Batch(fields, fields, grid, torch.full((channels,), scale, dtype=torch.float64))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_squared_norms_are_those_of_the_package(grid):
    fields = a_batch(grid).inputs
    torch.testing.assert_close(squared_l2(fields, grid), l2_norm(fields, grid) ** 2)
    torch.testing.assert_close(squared_h1(fields, grid), h1_norm(fields, grid) ** 2)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("name", "relative"), [("l2", relative_l2), ("h1", relative_h1)])
def test_loss_is_the_mean_relative_error(grid, name, relative):
    batch = a_batch(grid)
    prediction = batch.outputs + 0.1 * torch.sin(7 * batch.outputs)
    loss = build_objective(name)(lambda _: prediction, batch)[name]
    assert float(loss) == pytest.approx(float(relative(prediction, batch.outputs, grid).mean()), rel=1e-9)


@pytest.mark.parametrize("grid", [GRIDS[1], GRIDS[4], GRIDS[7]], ids=str)
def test_gradient_agrees_with_differences(grid):
    batch = a_batch(grid, channels=1, samples=2)
    objective = build_objective({"l2": 1.0, "h1": 0.5})

    def total(prediction):
        return sum(objective(lambda _: prediction, batch).values())

    prediction = (batch.outputs + 0.3 * torch.cos(3 * batch.outputs)).requires_grad_()
    assert torch.autograd.gradcheck(total, prediction)


def test_h1_respects_walls_where_a_fourier_norm_sees_a_jump():
    # A ramp has the slope 1 everywhere; its periodic continuation jumps, and only a periodic grid may see that.
    for centring, slope_energy in (("cell", 31 / 32), ("periodic", 31 / 32 + 31**2 / 32)):
        grid = Grid((32,), centring)
        ramp = grid.axis(0)[None, None]
        assert float(squared_h1(ramp, grid) - squared_l2(ramp, grid)) == pytest.approx(slope_energy)


@settings(deadline=None, max_examples=20)
@given(exponent=st.integers(-12, 12))
def test_losses_do_not_depend_on_units(exponent):
    grid = Grid((6, 6))
    reference, scaled = a_batch(grid), a_batch(grid, scale=10.0**exponent)
    objective = build_objective("l2+h1")
    for batch in (reference, scaled):
        single = Batch(batch.inputs.float(), batch.outputs.float(), grid, batch.scale.float())
        losses = objective(lambda x: 1.1 * x, single)
        assert float(losses["l2"]) == pytest.approx(0.1, rel=1e-4)
        assert float(losses["h1"]) == pytest.approx(0.1, rel=1e-4)


def test_channels_of_different_units_count_alike():
    grid = Grid((8,))
    batch = a_batch(grid)
    units = torch.tensor([1.0, 1e6], dtype=torch.float64)[:, None]
    mixed = Batch(batch.inputs * units, batch.outputs * units, grid, batch.scale * units.flatten())
    losses = [build_objective("l2")(lambda x: x * torch.tensor([[1.2], [0.9]]), b)["l2"] for b in (batch, mixed)]
    torch.testing.assert_close(*losses)


def test_an_exact_prediction_has_a_finite_gradient():
    batch = a_batch(Grid((6, 6)))
    prediction = batch.outputs.clone().requires_grad_()
    sum(build_objective("l2+h1")(lambda _: prediction, batch).values()).backward()
    assert bool(prediction.grad.isfinite().all())


def test_a_zero_target_is_measured_against_the_training_sets_size():
    grid = Grid((6,))
    batch = Batch(torch.zeros(1, 1, 6), torch.zeros(1, 1, 6), grid, torch.ones(1))
    loss = build_objective("l2")(lambda x: x + SMALL, batch)["l2"]
    assert float(loss) == pytest.approx(1.0)


def test_weights_multiply_their_terms():
    batch = a_batch(Grid((6, 6)))
    alone = build_objective("l2+h1")(lambda x: 1.3 * x, batch)
    weighted = build_objective({"l2": 2.0, "h1": 0.25})(lambda x: 1.3 * x, batch)
    torch.testing.assert_close(weighted["l2"], 2 * alone["l2"])
    torch.testing.assert_close(weighted["h1"], alone["h1"] / 4)


def test_a_prediction_of_another_shape_is_refused():
    batch = a_batch(Grid((6, 6)), channels=1)
    with pytest.raises(InputError, match=r"shape \(3, 2, 6, 6\)"):
        build_objective("l2")(lambda x: x.repeat(1, 2, 1, 1), batch)


@pytest.mark.parametrize("choice", ["l3", "l2+", {"l2": 0.0}, {"l2": float("nan")}, {}])
def test_unknown_terms_and_weights_are_refused(choice):
    with pytest.raises(InputError, match="objective"):
        build_objective(choice)


def test_an_objective_of_ones_own_is_taken_as_it_is():
    class Energy:
        names = ("energy",)

        def __call__(self, operator, batch):
            return {"energy": operator(batch.inputs).square().mean()}

    energy = Energy()
    assert isinstance(energy, Objective)
    assert isinstance(RelativeError({"l2": 1.0}), Objective)
    assert build_objective(energy) is energy
