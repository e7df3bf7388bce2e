"""The published error against its formula, and what is missing counts nowhere."""

import pytest
import torch

from fieldwright.grids import Grid
from fieldwright.training import ChannelLayout, Phase, TensorSamples, TrainingData, train
from fieldwright.training.batches import Batch, augment_mask
from fieldwright.training.group_error import group_error
from fieldwright.training.objectives import build_objective
from fieldwright.training.prediction import validate

GROUPS = ((0,), (1, 2), (3,))


def fields(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("power", [1, 2])
def test_is_the_ratio_of_sums_over_the_batch_for_each_quantity(power):
    prediction, target = fields(0, 3, 4, 5, 6), fields(1, 3, 4, 5, 6)
    expected = 0.0
    for group in GROUPS:
        above = below = 0.0
        for sample in range(3):
            for channel in group:
                above += float((prediction[sample, channel] - target[sample, channel]).abs().pow(power).sum())
                below += float(target[sample, channel].abs().pow(power).sum())
        expected += above / below / len(GROUPS)
    found = group_error(prediction, target, groups=GROUPS, power=power)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    per_channel = group_error(prediction, target, groups=(), power=power)
    alone = [group_error(prediction[:, c : c + 1], target[:, c : c + 1], groups=(), power=power) for c in range(4)]
    torch.testing.assert_close(per_channel, torch.stack(alone).mean())


def test_a_sample_that_is_nearly_zero_does_not_outweigh_the_others():
    target = torch.ones(2, 1, 4)
    target[1] *= 1e-8
    assert float(group_error(target + 0.01, target, groups=(), power=1)) == pytest.approx(0.02, rel=1e-6)


def test_a_quantity_that_is_zero_throughout_is_measured_against_epsilon():
    zero = torch.zeros(2, 1, 4, dtype=torch.float64)
    assert float(group_error(zero + 1e-10, zero, groups=(), power=1)) == pytest.approx(1.0)


def masks() -> list[torch.Tensor]:
    """Of channels, and of points."""
    whole = torch.zeros(3, 4, dtype=torch.bool)
    whole[0, 1], whole[2, 3] = True, True
    return [whole, fields(2, 3, 4, 5, 6) > 0.7]


def batch(outputs: torch.Tensor, missing: torch.Tensor | None, groups=GROUPS) -> Batch:
    scale = torch.tensor([1.0, 2.0, 2.0, 5.0], dtype=outputs.dtype)
    return Batch(outputs, outputs, Grid((5, 6)), scale, missing=missing, layout=ChannelLayout(groups))


@pytest.mark.parametrize("missing", masks(), ids=["channels", "points"])
@pytest.mark.parametrize("terms", ["l2", "h1", "group-l1", "group-l2"])
def test_what_is_missing_counts_in_no_loss_and_has_no_gradient(terms, missing):
    objective, target = build_objective(terms), fields(1, 3, 4, 5, 6)
    prediction = fields(0, 3, 4, 5, 6).requires_grad_()
    gone = missing.reshape(*missing.shape, *[1] * (4 - missing.ndim)).expand_as(target)
    loss = objective(lambda _: prediction, batch(target, missing))[terms]
    broken = target.masked_fill(gone, torch.nan)
    again = objective(lambda _: prediction.masked_fill(gone, 1e6), batch(broken, missing))[terms]
    torch.testing.assert_close(again, loss)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert not bool(gradient[gone].any())
    assert bool((gradient[~gone] != 0).all())
    full = objective(lambda _: prediction, batch(target, None))[terms]
    assert not torch.isclose(full, loss)


def test_the_group_error_of_what_is_there_is_that_of_a_batch_without_the_rest():
    prediction, target = fields(0, 3, 4, 5, 6), fields(1, 3, 4, 5, 6)
    missing = torch.zeros(3, 4, dtype=torch.bool)
    missing[:, 3] = True
    found = group_error(prediction, target, groups=GROUPS, power=1, missing=missing)
    expected = group_error(prediction[:, :3], target[:, :3], groups=GROUPS[:2], power=1)
    torch.testing.assert_close(found, expected)
    missing[1:, :3] = True
    found = group_error(prediction, target, groups=GROUPS, power=2, missing=missing)
    torch.testing.assert_close(found, group_error(prediction[:1, :3], target[:1, :3], groups=GROUPS[:2], power=2))


def test_masks_of_points_are_mapped_with_their_fields():
    maps = (lambda f: f, lambda f: -f.flip(-1), lambda f: f.transpose(-1, -2))
    outputs, missing = fields(0, 3, 2, 4, 4), fields(1, 3, 2, 4, 4) > 0
    choice = torch.tensor([1, 2, 0])
    mapped = augment_mask(missing, outputs, maps, choice)
    assert torch.equal(mapped[0], missing[0].flip(-1))
    assert torch.equal(mapped[1], missing[1].mT)
    assert torch.equal(augment_mask(missing[:, :, 0, 0], outputs, maps, choice), missing[:, :, 0, 0])


def training_data(outputs: torch.Tensor, missing: torch.Tensor | None) -> TrainingData:
    from fieldwright.datasets import Normalizer

    unit = Normalizer(torch.zeros(2), torch.ones(2))
    samples = TensorSamples(torch.ones_like(outputs), outputs, missing)
    return TrainingData(samples, samples, unit, unit, Grid((6,)))


def test_training_scale_and_validation_do_not_see_what_is_missing(tmp_path):
    outputs = fields(0, 8, 2, 6).float()
    missing = torch.zeros(8, 2, dtype=torch.bool)
    missing[::2, 1] = True
    spoilt = outputs.masked_fill(missing[..., None], 1e3)
    found = []
    for name, values in (("whole", outputs), ("spoilt", spoilt)):
        torch.manual_seed(0)
        operator = torch.nn.Conv1d(2, 2, 3, padding=1)
        data = training_data(values, missing)
        summary = train(operator, [Phase(steps=20)], data, directory=tmp_path / name, seed=0)
        found.append((operator.weight.detach(), summary.validation, data.output_scale()))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert torch.equal(found[0][2], found[1][2])
    assert float(found[0][2][1]) == pytest.approx(float(outputs[1::2, 1].square().mean().sqrt()), rel=1e-5)
    from fieldwright.training import launch_fabric

    # The true outputs, right where they are known and absurd where they are not, are without error.
    right = validate(TrueOutputs(spoilt), training_data(outputs, missing), launch_fabric())
    assert right.relative_l2 < 1e-6


class TrueOutputs(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs):
        return self.outputs[: len(inputs)]


def test_vectors_are_one_quantity():
    from fieldwright.problems import NavierStokes, ShallowWater

    assert ChannelLayout.of(ShallowWater()).groups == ((0,), (1, 2))
    assert len(ChannelLayout.of(NavierStokes()).groups) == 1
