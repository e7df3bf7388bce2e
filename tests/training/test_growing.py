"""Growth between phases: by name as in a recipe, handed on, resumed in all bits, and shared budgets."""

import csv

import pytest
import torch
from tiny_training import tiny_data

from fieldwright.errors import InputError, RecipeError
from fieldwright.growth import GrowthPlan
from fieldwright.operators import FourierOperator, load_operator
from fieldwright.training import Phase, train
from fieldwright.training.callbacks import Callback
from fieldwright.training.growing import GROWTHS, with_shares
from fieldwright.training.preparations import build_preparation


class PowerCut(Exception):
    pass


class CutsPower(Callback):
    """Stops the training in its tracks before an update, once ``at`` is set."""

    at: int | None = None

    def after_backward(self, step):
        if step.index == CutsPower.at:
            raise PowerCut


def phases(*growths, **settings):
    common = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "schedule": "constant", **settings}
    later = [
        Phase(name=f"deep {i}", prepare=growth, callbacks=(CutsPower(),), **common) for i, growth in enumerate(growths)
    ]
    return [Phase(name="shallow", **common), *later]


def operator():
    torch.manual_seed(0)
    return FourierOperator(1, 1, modes=4, width=4, layers=1, coordinates=False)


def run(directory, *growths, **settings):
    return train(
        operator(), phases(*growths, **settings), tiny_data(), directory=directory, seed=0, checkpoint_seconds=0
    )


DEEPER = {"kind": "zero", "factor": 2}
WIDER = {"kind": "widen", "width": 6}


def test_phases_grow_the_operator_and_its_lineage_is_in_the_checkpoint(tmp_path):
    summary = run(tmp_path / "run", DEEPER, WIDER, {"kind": "modes", "modes": 6})
    assert len(summary.operator.spectral) == 2
    assert summary.operator.skips[0].weight.shape == (6, 6)
    assert summary.operator.spectral[0].modes == (6, 6)
    state = torch.load(summary.checkpoint, weights_only=True)
    plans = [GrowthPlan.from_json(event["plan"]) for event in state["lineage"]]
    assert [plan.growth["kind"] for plan in plans] == ["Zero", "Widen", "Modes"]
    assert all(event["report"]["output change"] < 1e-10 for event in state["lineage"])
    summary.operator.save_pretrained(tmp_path / "saved")
    again = load_operator(tmp_path / "saved")
    inputs = torch.randn(1, 1, 8, 8)
    assert torch.equal(again(inputs), summary.operator.eval()(inputs))


def test_deeper_networks_cost_more_operations_a_step(tmp_path):
    run(tmp_path, {"kind": "stack", "factor": 3})
    with (tmp_path / "metrics.csv").open() as file:
        rows = [(row["phase"], float(row["flops"])) for row in csv.DictReader(file)]
    per_step = {name: max(f for n, f in rows if n == name) for name in ("shallow", "deep 0")}
    assert per_step["deep 0"] - per_step["shallow"] > 1.5 * per_step["shallow"]


@pytest.mark.parametrize("at", [0, 2])
def test_a_training_cut_off_after_growth_ends_with_the_same_bits(tmp_path, at):
    whole = run(tmp_path / "whole", DEEPER, WIDER)
    CutsPower.at = at
    try:
        with pytest.raises(PowerCut):
            run(tmp_path / "cut", DEEPER, WIDER)
    finally:
        CutsPower.at = None
    resumed = run(tmp_path / "cut", DEEPER, WIDER)
    for a, b in zip(whole.operator.parameters(), resumed.operator.parameters(), strict=True):
        assert torch.equal(a, b)
    states = [torch.load(one.checkpoint, weights_only=True) for one in (whole, resumed)]
    assert states[0]["lineage"] == states[1]["lineage"]
    for name, state in states[0]["optimizer"].items():
        assert all(torch.equal(value, states[1]["optimizer"][name][key]) for key, value in state.items())


def test_moments_are_handed_on_to_the_same_kind_of_optimizer_alone(tmp_path):
    steps = []
    for name in ("adamw", "adam"):
        common = {"steps": 2, "batch_size": 4}
        chain = [Phase(name="shallow", **common), Phase(name="deep", prepare=DEEPER, optimizer=name, **common)]
        summary = train(operator(), chain, tiny_data(), directory=tmp_path / name, seed=0)
        state = torch.load(summary.checkpoint, weights_only=True)["optimizer"]
        steps.append(float(state["lift.first.weight"]["step"]))
    assert steps == [4, 2]


def test_growth_at_an_automatic_time_shares_the_operations():
    chain = phases({"kind": "stack", "when": "auto"}, steps=None, flops=1e9)
    base, deep = with_shares(chain)
    assert base.flops == pytest.approx(0.075e9)
    assert base.flops + deep.flops == pytest.approx(1e9)
    with pytest.raises(InputError, match="budget in flops"):
        with_shares(phases({"kind": "stack", "when": "auto"}))
    with pytest.raises(InputError, match="a phase before"):
        with_shares(chain[1:])


@pytest.mark.parametrize("kind", GROWTHS)
def test_every_growth_of_a_recipe_is_built_from_plain_values(kind):
    needed = {"widen": {"width": 8}, "modes": {"modes": 6}, "levels": {"levels": 3}}.get(kind, {})
    built = build_preparation({"kind": kind, **needed})
    assert build_preparation(built.model_dump(mode="json")) == built
    assert built.growth() == type(built.growth())(**vars(built.growth()))


def test_settings_that_a_growth_does_not_take_are_refused():
    with pytest.raises(RecipeError, match="fraction"):
        build_preparation({"kind": "stack", "fraction": 2})
