import copy

import pytest
import torch
from tiny_training import tiny_data, tiny_operator

from fieldwright.errors import InputError, RecipeError
from fieldwright.operators.flops import step_flops
from fieldwright.training import Callback, Freeze, Phase, train
from fieldwright.training.callbacks import CALLBACKS, build_callback


class Counter(Callback):
    """Adds up what it sees, so that every call counts in its figures."""

    columns = ("seen", "moved")

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.seen, self.moved = scale, 0.0, 0.0

    def begin(self, step):
        self.before = [p.detach().clone() for p in step.operator.parameters()]

    def after_piece(self, step):
        self.seen += self.scale * step.samples

    def after_backward(self, step):
        assert all(p.grad is not None for p in step.operator.parameters())

    def after_update(self, step):
        self.moved += sum(
            float((p.detach() - q).abs().sum()) for p, q in zip(step.operator.parameters(), self.before, strict=True)
        )
        self.before = [p.detach().clone() for p in step.operator.parameters()]

    def end(self, step):
        return f"seen {self.seen:g} in {step.index} steps"

    def figures(self):
        return {"seen": self.seen, "moved": self.moved}

    def state_dict(self):
        return {"seen": self.seen, "moved": self.moved}

    def load_state_dict(self, state):
        self.seen, self.moved = state["seen"], state["moved"]


@pytest.fixture
def counter(monkeypatch):
    monkeypatch.setitem(CALLBACKS, "counter", Counter)


def _phase(**settings):
    return Phase(**{"steps": 12, "batch_size": 6, "callbacks": ["counter"], **settings})


def _rows(directory):
    lines = (directory / "metrics.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def test_a_callback_sees_every_sample_once_and_writes_its_columns(counter, tmp_path):
    train(tiny_operator(), [_phase(accumulate=3)], tiny_data(), directory=tmp_path, seed=0)
    last = _rows(tmp_path)[-1]
    assert float(last["seen"]) == 12 * 6
    assert float(last["moved"]) > 0


class _StopAt(Counter):
    """A kill without notice after some steps."""

    def after_update(self, step):
        super().after_update(step)
        if step.index == 7:
            raise KeyboardInterrupt


def test_a_resumed_training_has_the_figures_of_an_uninterrupted_one(counter, tmp_path, monkeypatch):
    train(tiny_operator(), [_phase()], tiny_data(), directory=tmp_path / "whole", seed=0)
    monkeypatch.setitem(CALLBACKS, "counter", _StopAt)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_operator(), [_phase()], tiny_data(), directory=tmp_path / "cut", seed=0, checkpoint_seconds=0)
    monkeypatch.setitem(CALLBACKS, "counter", Counter)
    train(tiny_operator(), [_phase()], tiny_data(), directory=tmp_path / "cut", seed=0)
    for whole, cut in zip(_rows(tmp_path / "whole"), _rows(tmp_path / "cut"), strict=True):
        for name in ("seen", "moved", "flops", "loss"):
            assert whole[name] == cut[name]


def test_an_operator_brings_its_own_callback(tmp_path):
    operator, own = tiny_operator(), Counter()
    operator.callbacks = lambda: [own]
    train(operator, [_phase(callbacks=())], tiny_data(), directory=tmp_path, seed=0)
    assert own.seen == 12 * 6


def test_a_callback_takes_settings(counter):
    assert build_callback({"kind": "counter", "scale": 2.0}).scale == 2.0
    with pytest.raises(RecipeError, match=r"callbacks\.counter\.scal.*did you mean 'scale'"):
        build_callback({"kind": "counter", "scal": 2.0})
    with pytest.raises(InputError, match="callbacks: 'count'; did you mean 'counter'"):
        build_callback("count")


def test_operations_are_counted_and_may_end_a_phase(tmp_path):
    operator = tiny_operator()
    one = step_flops(copy.deepcopy(operator).train(), torch.zeros(6, 1, 8, 8))
    phase = Phase(flops=10.5 * one, batch_size=6)
    summary = train(operator, [phase, Phase(steps=2, batch_size=12)], tiny_data(), directory=tmp_path, seed=0)
    assert summary.steps == 11 + 2
    assert float(_rows(tmp_path)[-1]["flops"]) == 11 * one + 2 * 2 * one


def test_frozen_parameters_stay_and_are_thawed_by_the_next_freeze(tmp_path):
    operator = tiny_operator()
    before = copy.deepcopy(operator.state_dict())
    frozen = Phase(steps=3, prepare={"kind": "freeze", "parameters": ["0.*"]})
    train(operator, [frozen], tiny_data(), directory=tmp_path / "frozen", seed=0)
    after = operator.state_dict()
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["3.weight"], after["3.weight"])
    thawed = Phase(steps=3, prepare={"kind": "freeze"})
    train(operator, [thawed], tiny_data(), directory=tmp_path / "thawed", seed=0)
    assert not torch.equal(before["0.weight"], operator.state_dict()["0.weight"])


def test_a_preparation_is_part_of_what_the_training_is():
    phase = Phase(steps=1, prepare={"kind": "freeze", "parameters": ["0.*"]})
    assert phase.prepare == Freeze(parameters=("0.*",))
    assert phase.model_dump(mode="json")["prepare"] == {"kind": "freeze", "parameters": ["0.*"]}
    assert Phase.model_validate_json(phase.model_dump_json()) == phase


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ({"kind": "freze"}, "prepare.kind: 'freze'; did you mean 'freeze'"),
        ({"parameters": ["*"]}, "prepare.kind: 'None'"),
        ({"kind": "freeze", "parameter": ["*"]}, "did you mean 'parameters'"),
    ],
)
def test_an_unknown_preparation_is_refused(prepare, message):
    with pytest.raises((ValueError, RecipeError), match=message):
        Phase(steps=1, prepare=prepare)


def test_a_pattern_that_freezes_nothing_is_refused(tmp_path):
    phase = Phase(steps=1, prepare={"kind": "freeze", "parameters": ["first.*"]})
    with pytest.raises(InputError, match=r"no parameter is called 'first\.\*'"):
        train(tiny_operator(), [phase], tiny_data(), directory=tmp_path, seed=0)
