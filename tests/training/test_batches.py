import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.training.batches import Samples, SampleStream, TensorSamples, augment
from fieldwright.training.data import TrainingData
from fieldwright.training.seeding import derived_seed


@settings(deadline=None, max_examples=60)
@given(samples=st.integers(1, 30), batch_size=st.integers(1, 40), seed=st.integers(0, 2**63 - 1))
def test_every_sample_is_seen_once_an_epoch_and_no_batch_is_short(samples, batch_size, seed):
    stream = SampleStream(samples, batch_size, seed, phase=0)
    batches = [stream.indices(step) for step in range(3 * samples // batch_size + 1)]
    assert all(len(batch) == batch_size for batch in batches)
    visits = torch.cat(batches).tolist()
    for epoch in range(len(visits) // samples):
        assert sorted(visits[epoch * samples : (epoch + 1) * samples]) == list(range(samples))


def test_a_batch_is_a_function_of_its_step_seed_and_phase():
    stream = SampleStream(20, 8, 5, phase=1)
    late = stream.indices(4)
    for step in (0, 3, 1):
        stream.indices(step)
    assert torch.equal(stream.indices(4), late)
    assert not torch.equal(SampleStream(20, 8, 6, phase=1).indices(4), late)
    assert not torch.equal(SampleStream(20, 8, 5, phase=2).indices(4), late)
    assert stream.epochs(5) == 2.0


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**63), st.integers(0, 2**20), st.integers(0, 2**20))
def test_derived_seeds_are_valid_and_tell_labels_apart(seed, a, b):
    assert 0 <= derived_seed(seed, "step", a) < 2**63
    assert (derived_seed(seed, "step", a) == derived_seed(seed, "step", b)) == (a == b)
    assert derived_seed(seed, "step", a) != derived_seed(seed, "epoch", a)


def test_inputs_and_outputs_are_mapped_alike_and_each_sample_by_its_own_choice():
    maps = (lambda f: f, lambda f: f.flip(-1), lambda f: f.transpose(-1, -2))
    inputs = torch.randn(6, 2, 4, 4)
    outputs = 2 * inputs[:, :1]
    choice = torch.tensor([0, 1, 2, 2, 0, 1])
    mapped_inputs, mapped_outputs = augment(inputs, outputs, maps, choice)
    for i, which in enumerate(choice.tolist()):
        assert torch.equal(mapped_inputs[i], maps[which](inputs[i]))
    assert torch.equal(mapped_outputs, 2 * mapped_inputs[:, :1])


def test_augmenting_leaves_the_data_as_it_was():
    inputs = torch.randn(3, 1, 4)
    before = inputs.clone()
    augment(inputs, inputs, (lambda f: f.flip(-1),), torch.zeros(3, dtype=torch.long))
    assert torch.equal(inputs, before)


def test_samples_must_come_in_pairs():
    with pytest.raises(InputError, match="3 inputs and 2 outputs"):
        TensorSamples(torch.zeros(3, 1, 4), torch.zeros(2, 1, 4))
    assert isinstance(TensorSamples(torch.zeros(3, 1, 4), torch.zeros(3, 1, 4)), Samples)


def training_data(outputs: torch.Tensor, grid: Grid) -> TrainingData:
    unit = Normalizer(torch.zeros(outputs.shape[1]), torch.ones(outputs.shape[1]))
    valid = torch.ones_like(outputs)
    return TrainingData((outputs, outputs), (valid, valid), unit, unit, grid)


def test_scale_is_the_root_mean_square_of_each_channel():
    outputs = torch.stack([torch.full((5, 4), 3.0), torch.zeros(5, 4), torch.tensor([1.0, 7.0]).repeat(5, 2)], dim=1)
    scale = training_data(outputs, Grid((4,))).output_scale()
    torch.testing.assert_close(scale, torch.tensor([3.0, 1.0, 5.0]))


def test_data_on_another_grid_are_refused():
    with pytest.raises(InputError, match=r"train inputs on \(4,\); grid: \(5,\)"):
        training_data(torch.zeros(2, 1, 4), Grid((5,)))


def test_a_zero_validation_output_is_refused_before_any_work():
    fields = torch.ones(4, 1, 5)
    fields[2] = 0
    unit = Normalizer(torch.zeros(1), torch.ones(1))
    with pytest.raises(InputError, match="validation sample 2 are zero"):
        TrainingData((fields, fields), (fields, fields), unit, unit, Grid((5,)))
