import copy
import math

import pytest
import torch
from tiny_training import tiny_data
from torch import nn

from fieldwright.errors import InputError, RecipeError
from fieldwright.training import Phase, train
from fieldwright.training.dynamic_sparse import DynamicSparse
from fieldwright.training.task_phases import BeginTask
from fieldwright.training.task_sequence import TaskMatrix, TaskPlan, task_error, train_tasks
from fieldwright.training.tasks import ContinualOperator

TASK = {"kind": "task", "name": "first", "sparsity": 0.75, "ceiling": 0.25, "every": 3}


def _module():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.GELU(),
        nn.Conv2d(12, 12, 3, padding=1), nn.GELU(), nn.Conv2d(12, 1, 3, padding=1),
    )  # fmt: skip


def _data(factor):
    """Smoothing, with outputs of another size for each task."""
    data = tiny_data()
    (inputs, outputs), (seen, truth) = data.train, data.valid
    return copy.copy(data) if factor == 1 else type(data)(
        (inputs, factor * outputs.flip(-1)), (seen, factor * truth.flip(-1)), data.inputs, data.outputs, data.grid
    )  # fmt: skip


def _plans():
    return [
        TaskPlan(BeginTask(name=name, every=3, ceiling=0.25), [Phase(steps=14, batch_size=6, **more)], _data(factor))
        for name, factor, more in (
            ("smooth", 1, {}),
            ("mirror", -2, {"optimizer": "lion-k"}),
            ("third", 3, {"ema": 0.8}),
        )
    ]


def test_a_sequence_is_learned_and_measured_with_no_drift(tmp_path):
    operator = ContinualOperator(_module())
    summary = train_tasks(operator, _plans(), directory=tmp_path, seed=0)
    matrix = summary.matrix
    assert matrix.names == ("smooth", "mirror", "third")
    for j in range(3):
        assert {row[j] for row in matrix.rows[j:]} == {matrix.rows[j][j]}  # to the last bit
    assert matrix.backward_transfer == 0.0
    assert list(summary.free) == sorted(summary.free, reverse=True)
    assert all(operator.identical().values())
    for plan, error in zip(_plans(), matrix.rows[-1], strict=True):
        operator.use_task(plan.start.name)
        assert task_error(operator, plan) == error


class _PowerCut(Exception):
    pass


def test_a_killed_sequence_goes_on_in_the_same_bits(tmp_path, monkeypatch):
    whole = ContinualOperator(_module())
    train_tasks(whole, _plans(), directory=tmp_path / "whole", seed=0)

    from fieldwright.training.phase_run import PhaseRun

    step, done = PhaseRun._step, []

    def failing(self):
        if len(done) == 14 + 9:
            raise _PowerCut
        done.append(1)
        return step(self)

    monkeypatch.setattr(PhaseRun, "_step", failing)
    monkeypatch.setattr(
        "fieldwright.training.task_sequence.train", lambda *a, **k: train(*a, checkpoint_seconds=0, **k)
    )
    with pytest.raises(_PowerCut):
        train_tasks(ContinualOperator(_module()), _plans(), directory=tmp_path / "cut", seed=0)
    monkeypatch.setattr(PhaseRun, "_step", step)
    resumed = ContinualOperator(_module())
    train_tasks(resumed, _plans(), directory=tmp_path / "cut", seed=0)
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_dynamic_sparse_training_goes_on_in_the_same_bits(tmp_path, monkeypatch):
    phase = Phase(
        steps=24, batch_size=6, ema=0.9,
        callbacks=({"kind": "dynamic-sparse", "sparsity": 0.8, "every": 4, "growth": "momentum"},),
    )  # fmt: skip
    whole, resumed = _module(), _module()
    train(whole, [phase], tiny_data(), directory=tmp_path / "whole", seed=0)
    update = DynamicSparse.after_update

    def failing(self, step):
        if step.index == 14:
            raise _PowerCut
        update(self, step)

    monkeypatch.setattr(DynamicSparse, "after_update", failing)
    with pytest.raises(_PowerCut):
        train(_module(), [phase], tiny_data(), directory=tmp_path / "cut", seed=0, checkpoint_seconds=0)
    monkeypatch.setattr(DynamicSparse, "after_update", update)
    train(resumed, [phase], tiny_data(), directory=tmp_path / "cut", seed=0)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key])
    weight = whole[3].weight.detach()
    assert 0 < int((weight != 0).sum()) < 0.3 * weight.numel()  # averaged weights are sparse as well
    assert "density" in (tmp_path / "whole" / "metrics.csv").read_text().splitlines()[0]


def test_a_recipe_says_where_tasks_begin(tmp_path):
    phases = [
        Phase(name="first", steps=8, prepare=TASK),
        Phase(name="more", steps=4, prepare={"kind": "freeze"}),
        Phase(name="second", steps=8, prepare={**TASK, "name": "second", "growth": "random"}),
    ]
    assert Phase.model_validate_json(phases[0].model_dump_json()) == phases[0]
    summary = train(_module(), phases, tiny_data(), directory=tmp_path, seed=0)
    operator = summary.operator
    assert isinstance(operator, ContinualOperator)
    assert operator.names == ["first", "second"]
    again = train(_module(), phases, tiny_data(), directory=tmp_path, seed=0).operator
    assert all(
        torch.equal(x, y) for x, y in zip(operator.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert again.identical() == {"first": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity: 1\.0; it must lie in"),
        ({"growth": "gradiant"}, "growth: 'gradiant'; did you mean 'gradient'"),
        ({"sparsty": 0.5}, "did you mean 'sparsity'"),
    ],
)
def test_a_task_that_cannot_be_is_refused_before_training(change, message):
    with pytest.raises((ValueError, RecipeError), match=message):
        Phase(steps=1, prepare={**TASK, **change})


def test_figures_of_a_matrix_by_hand():
    errors = TaskMatrix(("a", "b", "c"), ((1.0,), (1.5, 2.0), (2.0, 2.25, 3.0)), alone=(1.0, 2.5, 4.0))
    assert errors.average == pytest.approx((2.0 + 2.25 + 3.0) / 3)
    assert errors.incremental == pytest.approx((1.0, 1.75, 7.25 / 3))
    assert errors.backward_transfer == pytest.approx(-(1.0 + 0.25) / 2)  # errors rose: forgetting
    assert errors.forward_transfer == pytest.approx((0.5 + 1.0) / 2)
    accuracy = TaskMatrix(("a", "b"), ((0.9,), (0.8, 0.7)), better="higher")
    assert accuracy.backward_transfer == pytest.approx(-0.1)
    assert accuracy.forward_transfer is None
    assert TaskMatrix(("a",), ((0.5,),)).backward_transfer == 0.0
    assert math.copysign(1, TaskMatrix(("a", "b"), ((1.0,), (1.0, 2.0))).backward_transfer) == 1
    with pytest.raises(InputError, match="row t has t"):
        TaskMatrix(("a", "b"), ((1.0,), (1.0,)))


def test_plans_are_checked():
    with pytest.raises(InputError, match="none of its own `prepare`"):
        TaskPlan(BeginTask(name="a"), [Phase(steps=1, prepare={"kind": "freeze"})], tiny_data())
    with pytest.raises(InputError, match="at least one is needed"):
        train_tasks(ContinualOperator(_module()), [], directory=None, seed=0)
