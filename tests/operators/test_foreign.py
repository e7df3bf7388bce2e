"""Modules of other libraries as operators: arguments by their usual names, needs of the grid, bits on disk."""

import importlib.util
from pathlib import Path

import pytest
import torch

from fieldwright.errors import InputError, RecipeError
from fieldwright.grids import Boundary
from fieldwright.operators import ForeignOperator, GridNeeds, build_operator, load_operator, save_operator
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.foreign import grid_taken_instead
from fieldwright.pipeline import run
from fieldwright.pipeline.stages import check_operator, seeded_operator
from fieldwright.recipe import check_recipe, load_recipe
from fieldwright.settings import constructor_parameters

# The conventions of neuraloperator: required names, Number, str = None, *args and **kwargs, notes in the state.
LIBRARY = """
from numbers import Number
from typing import List, Tuple, Union
import torch
from torch import nn
class Spectral(nn.Module):
    def __init__(self, n_modes: Tuple[int], in_channels: int, out_channels: int, hidden_channels: int,
                 ratio: Number = 2, padding: Union[Number, List[Number]] = None, factorization: str = None,
                 conv_module: nn.Module = nn.Identity):
        super().__init__()
        self.n_modes, self.hidden_channels, self.factorization = n_modes, hidden_channels, factorization
        self.lift = nn.Linear(in_channels, hidden_channels)
        kept = (*n_modes[:-1], n_modes[-1] // 2 + 1)
        self.weight = nn.Parameter(torch.randn(hidden_channels, *kept, dtype=torch.cfloat))
        self.project = nn.Linear(hidden_channels, out_channels)
    def state_dict(self, destination=None, prefix="", keep_vars=False):
        state = super().state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        state["_metadata"] = {"version": "0.1.0"}
        return state
    def forward(self, x, output_shape=None, **kwargs):
        axes = tuple(range(2, x.ndim))
        v = torch.fft.rfftn(self.lift(x.movedim(1, -1)).movedim(-1, 1), dim=axes)
        kept = (..., *(slice(0, m) for m in self.weight.shape[1:]))
        w = torch.zeros_like(v)
        w[kept] = v[kept] * self.weight
        return self.project(torch.fft.irfftn(w, s=x.shape[2:], dim=axes).movedim(1, -1)).movedim(-1, 1)
class Factorised(Spectral):
    def __init__(self, *args, **kwargs):
        kwargs.setdefault("factorization", "Tucker")
        super().__init__(*args, **kwargs)
class Placed(nn.Module):
    def __init__(self, in_channels, out_channels, default_in_shape, boundary, centring):
        super().__init__()
        self.shape, self.boundary, self.centring = default_in_shape, boundary, centring
        self.bias = nn.Parameter(torch.zeros(default_in_shape))
    def forward(self, x):
        return x + self.bias
class Halving(nn.Module):
    points_multiple, least_points, grid_bound = 4, 8, True
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.down = nn.Conv2d(in_channels, 4, 4, stride=4)
        self.up = nn.ConvTranspose2d(4, out_channels, 4, stride=4)
    def forward(self, x):
        return self.up(self.down(x))
class Silent(Halving):
    points_multiple, least_points = 1, 1
    def forward(self, x):
        assert x.shape[-1] % 4 == 0
        return super().forward(x)
class Located(nn.Module):
    wants_coordinates = True
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(in_channels))
    def forward(self, x):
        return torch.einsum("bc...,c->b...", x, self.weight)[:, None]
class OfPoints(nn.Module):
    def forward(self, geometry, queries, x=None):
        return x
class Restless(nn.Module):
    def __init__(self, scales=None):
        super().__init__()
        assert scales is not None, "scales can not be None"
"""
WALLS = Boundary.parse("dirichlet", 2)


@pytest.fixture
def library(in_tmp) -> Path:
    (in_tmp / "their_models.py").write_text(LIBRARY)
    return in_tmp


def built(name: str, shape: tuple[int, ...] = (12, 20), **settings) -> ForeignOperator:
    operator = build_operator(f"their_models:{name}", settings, 2, 1, len(shape), WALLS, centring="node", shape=shape)
    assert isinstance(operator, ForeignOperator)
    return operator


def test_usual_arguments_are_filled_in_where_they_are_missing(library):
    spectral = built("Spectral")
    assert (spectral.module.n_modes, spectral.module.hidden_channels) == ((6, 10), 32)
    assert built("Spectral", n_modes=[4, 4], hidden_channels=5).module.weight.shape == (5, 4, 3)
    placed = built("Placed")
    assert (placed.module.shape, placed.module.centring) == ((12, 20), "node")
    assert placed.module.boundary == WALLS.to_list()


def test_keywords_handed_on_to_a_base_class_count(library):
    operator = built("Factorised")
    assert (operator.module.n_modes, operator.module.factorization) == ((6, 10), "Tucker")
    names = constructor_parameters(type(operator.module))
    assert {"n_modes", "hidden_channels", "factorization", "kwargs"} <= names.keys()


def test_a_stored_one_comes_back_with_what_was_filled_in_and_without_notes(library, tmp_path):
    operator = built("Spectral").eval()
    assert all(isinstance(value, torch.Tensor) for value in operator.state_dict().values())
    save_operator(operator, tmp_path / "model")
    loaded, x = load_operator(tmp_path / "model"), torch.randn(3, 2, 12, 20)
    assert torch.equal(operator(x), loaded(x))


def test_needs_of_a_class_are_stated_and_held(library):
    operator = built("Halving")
    assert operator.needs == GridNeeds(least_points=8, points_multiple=4, grid_bound=True)
    assert operator.grid_bound
    assert operator(torch.zeros(1, 2, 8, 12)).shape == (1, 1, 8, 12)
    for shape in ((4, 8), (10, 12)):
        with pytest.raises(InputError, match="at least 8 points per axis and a multiple of 4 points per axis"):
            operator(torch.zeros(1, 2, *shape))


def test_coordinates_are_appended_where_they_are_wanted(library):
    operator, x = built("Located"), torch.randn(2, 2, 5, 6)
    assert torch.equal(operator(x), with_coordinates(x, "node").sum(1, keepdim=True))


def test_a_grid_that_works_instead_is_found_by_trying(library):
    assert grid_taken_instead(built("Silent"), 2, (10, 11)) == (12, 12)
    assert grid_taken_instead(built("Placed"), 2, (5, 5)) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("OfPoints", "its forward takes geometry, queries; an operator of a recipe is called with fields"),
        ("Restless", "AssertionError: scales can not be None"),
    ],
)
def test_what_cannot_be_an_operator_is_refused_in_one_sentence(library, name, message):
    with pytest.raises(InputError, match=message) as raised:
        built(name)
    assert "\n" not in str(raised.value)


def recipe(name: str, *overrides: str):
    return load_recipe("darcy", [f"operator.kind=their_models:{name}", "problem.resolution=16", *overrides])


def test_a_recipe_needs_no_settings_and_takes_annotations_as_libraries_write_them(library):
    assert recipe("Spectral").operator.settings == {"ratio": 2, "padding": None, "factorization": None}
    assert "factorization" not in recipe("Factorised").operator.settings
    asked = ["operator.n_modes=[4,6]", "operator.padding=[0.1,0.2]", "operator.ratio=1.5", "operator.factorization=CP"]
    chosen = recipe("Spectral", *asked)
    assert chosen.operator.settings["n_modes"] == [4, 6]
    assert check_recipe(chosen.model_dump(mode="json")) == chosen
    assert seeded_operator(chosen).module.factorization == "CP"
    with pytest.raises(RecipeError, match="did you mean 'n_modes'"):
        recipe("Spectral", "operator.nmodes=[4,4]")
    with pytest.raises(RecipeError, match=r"operator.ratio: 'much'"):
        recipe("Spectral", "operator.ratio=much")


def test_a_grid_that_a_recipe_cannot_have_is_one_sentence_with_another(library):
    chosen = recipe("Silent", "problem.resolution=18")
    with pytest.raises(
        RecipeError, match=r"cannot take fields of shape \(18, 18\).*takes a grid of 20 x 20 points"
    ) as raised:
        check_operator(seeded_operator(chosen), chosen.build_problem(), "Silent")
    assert "\n" not in str(raised.value)


TINY = ["problem.resolution=16", "data.train=8", "data.valid=2", "data.test=2", "training.steps=4",
        "training.seconds=null", "evaluation.resolutions=[]", "evaluation.shifts=false",
        "evaluation.samples=2"]  # fmt: skip


def test_complex_weights_go_through_a_whole_run(library):
    summary = run(recipe("Spectral", *TINY), "run", device="cpu")
    assert summary is not None
    assert summary.evaluation is not None
    assert summary.evaluation.test.l2 is not None


@pytest.mark.skipif(importlib.util.find_spec("neuralop") is None, reason="neuraloperator is not installed")
@pytest.mark.parametrize("name", ["FNO", "TFNO"])
def test_neuraloperators_need_no_settings(in_tmp, name):
    chosen = load_recipe("darcy", [f"operator.kind=neuralop.models:{name}", *TINY])
    summary = run(chosen, "run", device="cpu")
    assert summary is not None
    assert summary.evaluation is not None
