"""Training for any lead time: which pairs are drawn, what an objective is told, and that it is learnt and resumed."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fieldwright.datasets import FieldDataset, Normalizer, generate
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training import (
    ChannelLayout,
    Phase,
    RollOut,
    TensorTrajectories,
    TrainingData,
    Trajectories,
    lead_times,
    train,
)
from fieldwright.training.batches import Samples
from fieldwright.training.seeding import derived_generator, random_numbers
from fieldwright.training.sources import FramePairs, LeadTimes
from fieldwright.training.trajectories import MaskedTrajectories

TIMES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64)


def decays(count: int = 12, *, points: int = 8) -> TensorTrajectories:
    """u(t) = u(0) e^{-k t} with the rate k as a second input, exact at all times."""
    draws = torch.Generator().manual_seed(0)
    first = 1 + torch.rand(count, 1, 1, points, generator=draws)
    rates = (0.2 + torch.rand(count, 1, 1, 1, generator=draws)).expand(count, len(TIMES), 1, points)
    states = first * torch.exp(-rates * TIMES[:, None, None].float())
    return TensorTrajectories(torch.cat([states, rates], 2), states, TIMES)


class Flow(nn.Module):
    """S(t, u) = size u e^{-rate k t}; in units of a trajectory's length, 2, the exact one has size 1 and rate 2."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.rate = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: torch.Tensor, lead_time: torch.Tensor) -> torch.Tensor:
        return self.size * inputs[:, :1] * torch.exp(-self.rate * inputs[:, 1:] * lead_time[:, None, None])


def data(trajectories: Trajectories | None = None, **settings) -> TrainingData:
    samples: Samples = trajectories or decays()  # type: ignore[assignment]
    unit = [Normalizer(torch.zeros(n), torch.ones(n)) for n in (2, 1)]
    return TrainingData(samples, samples, *unit, Grid((8,)), **settings)


def visits(rule: str, *, stride: int = 1, epochs: int = 1) -> list[tuple[int, int, int]]:
    source = FramePairs(decays(3), rule, stride)  # type: ignore[arg-type]
    numbers = random_numbers(epochs * len(source), derived_generator(0, "test"))
    places = source.places(torch.arange(len(source)).repeat(epochs), numbers)
    return list(zip(*(part.tolist() for part in places), strict=True))


def test_successive_and_first_pairs_are_all_there_once():
    assert sorted(visits("next")) == [(n, i, i + 1) for n in range(3) for i in range(4)]
    assert sorted(visits("next", stride=3)) == [(n, i, i + 3) for n in range(3) for i in range(2)]
    assert sorted(visits("first")) == [(n, 0, k) for n in range(3) for k in range(1, 5)]


@pytest.mark.parametrize(("rule", "least"), [("all", 0), ("later", 1)])
def test_all_pairs_are_drawn_alike(rule, least):
    counts: dict[tuple[int, int], int] = {}
    drawn = visits(rule, epochs=400)
    for _, i, j in drawn:
        counts[i, j] = counts.get((i, j), 0) + 1
    expected = [(i, j) for i in range(5) for j in range(i + least, 5)]
    assert sorted(counts) == expected
    # 4800 draws: each count is binomial, and five deviations from its mean are never seen.
    mean = len(drawn) / len(expected)
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values())
    assert len(visits(rule)) == 3 * 4  # an epoch visits each trajectory once for each of its intervals


def test_a_pair_is_what_its_times_say():
    source = FramePairs(decays(), "all")
    indices = torch.arange(30)
    numbers = random_numbers(30, derived_generator(1, "test"))
    drawn = source.draw(indices, numbers)
    assert drawn.lead_time is not None
    u, k = drawn.inputs[:, :1], drawn.inputs[:, 1:]
    torch.testing.assert_close(drawn.outputs, u * torch.exp(-k * drawn.lead_time[:, None, None]))
    same = drawn.lead_time == 0
    assert bool(same.any())
    assert torch.equal(drawn.outputs[same], u[same])
    again = source.draw(indices[20:], numbers[20:])
    assert torch.equal(again.outputs, drawn.outputs[20:])


def test_a_stored_dataset_gives_the_pairs_of_its_trajectories(tmp_path: Path):
    from decay_problem import Forced

    problem = Forced()
    generate(problem, tmp_path, counts={"train": 5}, seed=0, rtol=1e-6, shard_samples=2)
    dataset = FieldDataset(tmp_path, "train")
    assert isinstance(dataset, Trajectories)
    assert not isinstance(dataset, MaskedTrajectories)
    source = FramePairs(dataset, "all")
    drawn = source.draw(torch.arange(len(source)), random_numbers(len(source), derived_generator(0, "test")))
    # u(t_j) - u(t_i) = sin t_j - sin t_i, and the time t_i is an input: forcing in time is told as a channel.
    begin, lead = drawn.inputs[:, 1, 0], drawn.lead_time
    assert lead is not None
    change = (drawn.outputs - drawn.inputs[:, :1])[:, 0, 0]
    torch.testing.assert_close(change, (begin + lead).sin() - begin.sin(), atol=1e-5, rtol=0)
    assert ChannelLayout.of(problem).clock == 1
    moved = TensorTrajectories.of(dataset, torch.device("cpu"))
    assert torch.equal(moved.batch(range(20))[1], dataset.batch(range(20))[1])
    with pytest.raises(InputError, match="trajectories of the split 'train' are 0 to 4"):
        dataset.frames("inputs", [5], [0])
    with pytest.raises(InputError, match="frames of the split 'train' are 0 to 4"):
        dataset.frames("outputs", [0], [5])


def test_the_operator_counts_time_in_lengths_of_a_trajectory(tmp_path):
    seen: list[torch.Tensor] = []

    class Watched(Flow):
        def forward(self, inputs, lead_time):
            seen.append(lead_time)
            return super().forward(inputs, lead_time)

    train(Watched(), [Phase(steps=20, pairs="all")], data(), directory=tmp_path, seed=0)
    times = torch.cat(seen)
    assert set(times.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    phases = [Phase(steps=1, pairs="next"), Phase(steps=1, pairs="first")]
    assert lead_times(phases[:1], decays()) == LeadTimes(2.0, 0.5)
    assert lead_times(phases, decays()) == LeadTimes(2.0, 2.0)
    assert lead_times([Phase(steps=1)], decays()) is None
    # Rolled out in training, the operator itself only ever takes a part of the lead time.
    rolled = [Phase(steps=1, pairs=rule, roll_out=RollOut(steps=2)) for rule in ("next", "all")]
    assert [lead_times([phase], decays()) for phase in rolled] == [LeadTimes(2.0, 0.5), LeadTimes(2.0, 1.0)]


@pytest.mark.parametrize("objective", ["l2", "group-l1"])
def test_any_lead_time_is_learnt_from_pairs(tmp_path, objective):
    phase = Phase(steps=150, pairs="all", objective=objective, batch_size=16, learning_rate=0.05)
    operator = Flow()
    summary = train(operator, [phase], data(), directory=tmp_path, seed=0)
    assert summary.validation.relative_l2 < 0.01
    assert float(operator.size.detach()) == pytest.approx(1, abs=0.01)
    assert float(operator.rate.detach()) == pytest.approx(2, abs=0.02)


def test_a_resumed_training_on_pairs_ends_in_the_same_bits(tmp_path):
    class Cut(Exception):
        pass

    class Failing(TensorTrajectories):
        left = 17

        def frames(self, side, trajectories, frames):
            if side == "inputs" and len(frames) == 4:
                Failing.left -= 1
                if Failing.left < 0:
                    raise Cut
            return super().frames(side, trajectories, frames)

    phases = [Phase(steps=30, pairs="all", batch_size=4, roll_out={"steps": 2, "noise": 0.01})]

    def outcome(name: str, trajectories: TensorTrajectories) -> torch.Tensor:
        operator = Flow()
        given = replace(data(), train=trajectories)
        train(operator, phases, given, directory=tmp_path / name, seed=5, checkpoint_seconds=0)
        return torch.stack([p.detach() for p in operator.parameters()])

    whole = outcome("whole", decays())
    source = decays()
    with pytest.raises(Cut):
        outcome("cut", Failing(source.inputs, source.outputs, source.times))
    assert torch.equal(outcome("cut", decays()), whole)
    rows = [
        [
            {k: v for k, v in row.items() if "seconds" not in k}
            for row in csv.DictReader((tmp_path / n / "metrics.csv").open())
        ]
        for n in ("whole", "cut")
    ]
    assert rows[0] == rows[1]


def test_phases_with_and_without_lead_times_do_not_mix(tmp_path):
    with pytest.raises(InputError, match="set pairs in all or none"):
        train(
            Flow(),
            [Phase(name="a", steps=1), Phase(name="b", steps=1, pairs="all")],
            data(),
            directory=tmp_path,
            seed=0,
        )


def test_samples_without_time_have_no_pairs(tmp_path):
    inputs, outputs = decays().batch(range(8))
    with pytest.raises(InputError, match="pairs is for trajectories"):
        train(
            Flow(), [Phase(steps=1, pairs="all")], replace(data(), train=(inputs, outputs)), directory=tmp_path, seed=0
        )
    with pytest.raises(InputError, match="the validation samples have no time"):
        train(
            Flow(), [Phase(steps=1, pairs="all")], replace(data(), valid=(inputs, outputs)), directory=tmp_path, seed=0
        )
    with pytest.raises(InputError, match="6 frames apart; trajectories have 5"):
        FramePairs(decays(), "next", 6)
    with pytest.raises(InputError, match="two times or more"):
        TensorTrajectories(inputs[:, None], outputs[:, None], TIMES[:1])


def test_an_objective_that_forgets_the_lead_time_is_told(tmp_path):
    class Forgetful:
        names = ("energy",)

        def __call__(self, operator, batch):
            return {"energy": operator(batch.inputs).square().mean()}

    with pytest.raises(InputError, match="the batch's lead_time"):
        train(Flow(), [Phase(steps=1, pairs="all", objective=Forgetful())], data(), directory=tmp_path, seed=0)
