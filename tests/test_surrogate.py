"""The surrogate: physical units in and out, what it knows of its own error, and the certified solve."""

import importlib
import json
import shutil
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fieldwright import surrogate as surrogate_module
from fieldwright.datasets import Normalizer
from fieldwright.errors import DataError, FieldwrightError, InputError, SolverError, StorageError
from fieldwright.grids import resample
from fieldwright.norms import relative_l2
from fieldwright.operators import MultigridOperator, build_operator
from fieldwright.problems import Darcy, Poisson
from fieldwright.surrogate import Surrogate

DARCY = Darcy(resolution=16)
UNIT = Normalizer(torch.zeros(1), torch.ones(1), ("field",))


class Exact(nn.Module):
    """The solution operator itself, plus a disturbance of relative size ``error``."""

    def __init__(self, problem, error=0.0):
        super().__init__()
        self.problem, self.error = problem, error

    def forward(self, inputs, lead_time=None):
        u, _ = self.problem.at(inputs.shape[-1]).solve(inputs.double(), rtol=1e-12, method="scipy")
        noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=u.dtype)
        noise *= u.flatten(1).norm(dim=1)[:, None, None, None] / noise.flatten(1).norm(dim=1)[:, None, None, None]
        return (u + self.error * noise).float()


def exact(error=0.0, problem=DARCY):
    return Surrogate(Exact(problem, error), UNIT, UNIT, problem)


def untrained(problem=DARCY, seed=0):
    torch.manual_seed(seed)
    operator = MultigridOperator(1, 1, width=4, layers=2, levels=2)
    return Surrogate(operator, Normalizer.fit(problem.sample(range(8), 0)), UNIT, problem)


def test_exact_operator_has_no_error_and_no_residual():
    inputs = DARCY.sample(range(3), 0)
    prediction = exact().predict(inputs)
    truth, _ = DARCY.solve(inputs, rtol=1e-12, method="scipy")
    assert torch.all(relative_l2(prediction.fields, truth, DARCY.grid) < 1e-6)
    # float32 rounding of u, amplified by the operator: |A| |u| 2^-24 / |f| is a few times 1e-5 on 16 x 16 cells
    assert torch.all(prediction.residual < 1e-3)
    assert torch.all(prediction.error_estimate < 1e-3)


def test_fields_are_denormalised_by_the_formula():
    inputs = DARCY.sample(range(2), 3)
    inward = Normalizer(torch.tensor([2.0]), torch.tensor([4.0]), ("permeability",))
    outward = Normalizer(torch.tensor([-1.0]), torch.tensor([0.5]), ("pressure",))
    fields = Surrogate(nn.Identity(), inward, outward, DARCY).fields(inputs)
    assert fields.dtype == torch.float64
    torch.testing.assert_close(fields, (inputs - 2) / 4 * 0.5 - 1, rtol=1e-6, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(1e-4, 10.0))
def test_bound_holds_in_the_energy_norm_and_estimate_tracks_the_error(seed, size):
    inputs = DARCY.sample([seed], 0)
    prediction = exact(size).predict(inputs)
    truth, _ = DARCY.solve(inputs, rtol=1e-12, method="scipy")
    system = DARCY.system(inputs)

    def energy(field):
        return (field * system.apply(field)).flatten(1).sum(1).sqrt()

    error = energy(prediction.fields[:, 0] - truth[:, 0]) / energy(truth[:, 0])
    assert torch.all(prediction.error_bound >= error * (1 - 1e-6))
    relative = relative_l2(prediction.fields, truth, DARCY.grid)
    assert torch.all(prediction.error_estimate > 0.3 * relative / (1 + relative))
    assert torch.all(prediction.error_estimate < 3 * relative)


def test_prediction_of_many_is_the_prediction_of_each(monkeypatch):
    inputs = DARCY.sample(range(7), 0).float()
    model = untrained()
    each = torch.cat([model.predict(a[None]).fields for a in inputs])
    monkeypatch.setattr(surrogate_module, "POINTS_PER_BATCH", 3 * 16 * 16)
    together = model.predict(inputs)
    torch.testing.assert_close(together.fields, each, rtol=1e-5, atol=1e-6)
    assert together.error_estimate.shape == together.error_bound.shape == together.residual.shape == (7,)


def test_no_samples_give_no_fields():
    assert untrained().fields(torch.zeros(0, 1, 16, 16)).shape == (0, 1, 16, 16)


def test_another_resolution_is_that_problem():
    finer = DARCY.at(32).sample(range(2), 0)
    prediction = exact().predict(finer)
    truth, _ = DARCY.at(32).solve(finer, rtol=1e-12, method="scipy")
    assert torch.all(relative_l2(prediction.fields, truth, DARCY.at(32).grid) < 1e-6)


class Smoothing(nn.Module):
    """The mean of the five points of the grid it is given: an operator that knows only grid units."""

    grid_bound = True

    def forward(self, inputs, lead_time=None):
        wide = nn.functional.pad(inputs, (1, 1, 1, 1), mode="replicate")
        across = wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
        return (inputs + across + wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1]) / 5


def test_operator_bound_to_its_grid_sees_other_resolutions_on_the_trained_one():
    surrogate = Surrogate(Smoothing(), UNIT, UNIT, DARCY)
    fine = DARCY.at(48)
    inputs = fine.sample(range(2), 0)
    means = inputs.unflatten(-1, (16, 3)).unflatten(-3, (16, 3)).mean((-3, -1))
    expected = resample(surrogate.fields(means), DARCY.grid, fine.grid)
    torch.testing.assert_close(surrogate.fields(inputs), expected, rtol=1e-5, atol=1e-5)
    assert surrogate.predict(inputs).error_estimate.shape == (2,)


def test_prediction_leaves_the_mode_of_the_operator_alone():
    model = untrained()
    model.operator.train()
    model.fields(DARCY.sample([0], 0))
    assert model.operator.training


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_certified_solution_meets_the_tolerance(error):
    inputs = DARCY.sample(range(4), 5)
    certified = exact(error).solve(inputs, rtol=1e-6)
    assert torch.all(DARCY.system(inputs).relative_residual(certified.fields[:, 0]) <= 1e-6)
    assert certified.iterations_without_guess is not None


def test_good_guess_saves_iterations_of_an_iterative_method():
    inputs = DARCY.sample(range(4), 5)
    certified = exact(1e-4).solve(inputs, rtol=1e-6, method="spectral")
    assert certified.iterations_without_guess is not None
    assert torch.all(certified.solution.iterations < certified.iterations_without_guess)


def test_comparison_is_left_out_when_not_asked_for():
    assert exact().solve(DARCY.sample([0], 0), compare=False).iterations_without_guess is None


def test_solve_that_does_not_converge_names_the_samples():
    class Stubborn(Darcy):
        def solve(self, inputs, *, rtol=1e-8, method="auto", guess=None):
            fields, solution = super().solve(inputs, rtol=rtol, method=method, guess=guess)
            solution.converged[1] = False
            return fields, solution

    problem = Stubborn(resolution=8)
    model = Surrogate(Exact(Darcy(resolution=8)), UNIT, UNIT, problem)
    with pytest.raises(SolverError, match="samples 1 did not reach"):
        model.solve(problem.sample(range(3), 0))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.ones(2, 2, 16, 16), "channels permeability"),
        (torch.ones(2, 16, 16), r"takes \(batch, 1, 16, 16\)"),
        (torch.ones(2, 1, 16, 12), r"takes \(batch, 1, 16, 16\)"),
        (torch.ones(1, 1, 2, 2), "resolution 2"),
        (torch.full((2, 1, 16, 16), torch.nan), "sample 0 holds a NaN"),
        (torch.full((2, 1, 16, 16), torch.inf), "sample 0 holds a NaN or infinite"),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(inputs, words):
    with pytest.raises(InputError, match=words):
        untrained().predict(inputs)


def test_operator_of_one_resolution_says_so_at_another():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(256, 256)

        def forward(self, inputs):
            return self.map(inputs.flatten(1)).reshape(inputs.shape)

    model = Surrogate(Flat(), UNIT, UNIT, DARCY)
    assert model.fields(DARCY.sample([0], 0)).shape == (1, 1, 16, 16)
    with pytest.raises(InputError, match=r"the operator cannot take it, it was trained on \(16, 16\)"):
        model.fields(DARCY.at(8).sample([0], 0))


def test_operator_with_the_wrong_number_of_outputs_is_refused():
    model = Surrogate(nn.Conv2d(1, 3, 1), UNIT, UNIT, DARCY)
    with pytest.raises(InputError, match=r"returned fields of shape \(3, 16, 16\)"):
        model.fields(DARCY.sample([0], 0))


def test_saved_surrogate_predicts_the_same_bits(tmp_path):
    problem = Poisson(resolution=16, walls="periodic")
    model = untrained(problem)
    inputs = problem.sample(range(3), 1)
    for _ in range(2):  # over an existing one too
        model.save(tmp_path / "surrogate")
    loaded = Surrogate.load(tmp_path / "surrogate")
    assert loaded.problem == problem
    assert torch.equal(loaded.fields(inputs), model.fields(inputs))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["surrogate"]


def test_surrogate_with_the_users_own_classes_is_found_again(in_tmp):
    (in_tmp / "own_classes.py").write_text(
        textwrap.dedent(
            """
            import torch
            from fieldwright.problems import Darcy

            class MyDarcy(Darcy):
                pass

            class MyNet(torch.nn.Module):
                def __init__(self, in_channels, out_channels, width=4):
                    super().__init__()
                    self.net = torch.nn.Conv2d(in_channels, out_channels, width + 1, padding=width // 2)

                def forward(self, inputs):
                    return self.net(inputs)
            """
        )
    )
    sys.path.insert(0, str(in_tmp))
    own_classes = importlib.import_module("own_classes")
    problem = own_classes.MyDarcy(resolution=16)
    net = build_operator("own_classes:MyNet", {"width": 6}, 1, 1, 2, problem.boundary)
    model = Surrogate(net, UNIT, UNIT, problem)
    model.save("mine")
    loaded = Surrogate.load("mine")
    inputs = DARCY.sample([0], 0)
    assert type(loaded.problem) is own_classes.MyDarcy
    assert torch.equal(loaded.fields(inputs), model.fields(inputs))
    description = json.loads((in_tmp / "mine" / "surrogate.json").read_text())
    assert description["problem"]["kind"] == "own_classes:MyDarcy"


def test_the_package_hands_out_the_surrogate_and_nothing_else_by_chance():
    import fieldwright

    assert fieldwright.Surrogate is Surrogate
    with pytest.raises(AttributeError, match="no attribute 'Surogate'"):
        fieldwright.Surogate  # noqa: B018


def test_run_directory_is_a_surrogate(tiny_run):
    model = Surrogate.load(tiny_run)
    assert model.problem.settings()["resolution"] == 16
    truth = model.problem.solve(model.problem.sample(range(4), 9))[0]
    fields = model.fields(model.problem.sample(range(4), 9))
    assert torch.all(relative_l2(fields, truth, model.problem.grid) < 1)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_surrogate_is_refused_in_one_sentence(tiny_run, tmp_path_factory, data):
    copy = tmp_path_factory.mktemp("damaged") / "surrogate"
    shutil.copytree(tiny_run / "surrogate", copy)
    name = data.draw(st.sampled_from(["surrogate.json", "model.safetensors", "config.json"]))
    whole = (copy / name).read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 2))
    (copy / name).write_bytes(whole[:cut])
    with pytest.raises(FieldwrightError) as caught:
        Surrogate.load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_missing_surrogate_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no surrogate"):
        Surrogate.load(tmp_path)


def test_failed_save_leaves_the_old_one(tmp_path, monkeypatch):
    model = untrained()
    model.save(tmp_path / "surrogate")
    before = {p.name: p.read_bytes() for p in (tmp_path / "surrogate").iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(surrogate_module, "save_operator", full)
    with pytest.raises(StorageError, match="No space left"):
        untrained(seed=1).save(tmp_path / "surrogate")
    assert {p.name: p.read_bytes() for p in (tmp_path / "surrogate").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["surrogate"]
