"""Encoding and decoding are inverse, and encoded training data has mean 0 and deviation 1."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.datasets import Normalizer
from fieldwright.errors import InputError


def fields(seed: int = 0, *, scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(20, 2, 6, 5, generator=generator) + offset


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.floats(-100, 100), st.sampled_from(["channel", "point"]))
def test_decode_undoes_encode(seed: int, scale: float, ratio: float, mode: str):
    data = fields(seed, scale=scale, offset=scale * ratio)
    normalizer = Normalizer.fit(data, mode=mode)
    torch.testing.assert_close(normalizer.decode(normalizer.encode(data)), data, rtol=1e-5, atol=1e-5 * scale)


def test_channel_mode_gives_mean_zero_and_population_deviation_one():
    data = fields(scale=3.0, offset=5.0)
    encoded = Normalizer.fit(data).encode(data)
    torch.testing.assert_close(encoded.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.std((0, 2, 3), correction=0), torch.ones(2))


def test_point_mode_is_that_of_the_published_operators():
    data = fields(scale=2.0, offset=1.0)
    encoded = Normalizer.fit(data, mode="point").encode(data)
    expected = (data - data.mean(0)) / (data.std(0, unbiased=True) + 1e-5)
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=1e-5)


def test_channel_mode_serves_every_resolution_and_point_mode_only_its_own():
    data = fields()
    other = torch.zeros(1, 2, 12, 10)
    assert Normalizer.fit(data).encode(other).shape == other.shape
    with pytest.raises(InputError, match="normalizer"):
        Normalizer.fit(data, mode="point").encode(other)


def test_constant_channel_is_only_shifted():
    data = torch.full((4, 1, 8), 0.1)
    normalizer = Normalizer.fit(data)
    assert float(normalizer.std) == 1.0
    assert float(normalizer.encode(data).abs().max()) <= 1e-8


@pytest.mark.parametrize("mode", ["channel", "point"])
def test_table_survives_json_to_the_bit(mode: str):
    normalizer = Normalizer.fit(fields(scale=1e-3, offset=7), names=("a", "b"), mode=mode)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert torch.equal(again.mean, normalizer.mean)
    assert torch.equal(again.std, normalizer.std)
    assert (again.names, again.mode) == (("a", "b"), mode)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"names": [], "mean": ["x"], "std": [1.0]},
        {"names": [], "mean": [0.0], "std": [0.0]},
        {"names": [], "mean": [0.0], "std": [1.0, 2.0]},
        {"names": ["a", "b"], "mean": [0.0], "std": [1.0]},
        {"names": [], "mean": [float("nan")], "std": [1.0]},
    ],
)
def test_impossible_tables_are_refused(table: dict):
    with pytest.raises(InputError, match="normalizer"):
        Normalizer.from_dict(table)


def test_wrong_channels_modes_and_data_are_refused():
    normalizer = Normalizer.fit(fields())
    with pytest.raises(InputError, match="normalizer"):
        normalizer.encode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match="mode 'pixel'"):
        Normalizer.fit(fields(), mode="pixel")
    with pytest.raises(InputError, match="finite"):
        Normalizer.fit(torch.full((2, 1, 4), float("inf")))
