"""Counted operations against counts by hand."""

import math

import pytest
import torch
from torch import nn

from fieldwright.operators import FourierOperator
from fieldwright.operators.flops import forward_flops, step_flops


def test_a_linear_map_counts_a_product_and_a_sum_per_weight_and_point():
    assert forward_flops(nn.Linear(5, 7), torch.zeros(3, 11, 5)) == 2 * 3 * 11 * 5 * 7


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_counts_its_weights_at_every_point_of_its_output(groups):
    convolution = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups)
    assert forward_flops(convolution, torch.zeros(2, 4, 10, 12)) == 2 * 2 * 5 * 6 * 8 * 9 * 4 // groups


def test_a_transposed_convolution_counts_its_weights_at_every_point_of_its_input():
    convolution = nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2)
    assert forward_flops(convolution, torch.zeros(3, 4, 10)) == 2 * 3 * 10 * 4 * 2 * 3


@pytest.mark.parametrize("groups", [1, 4])
def test_a_backward_pass_costs_two_forward_ones_but_for_the_first_layer(groups):
    first, second = nn.Conv2d(4, 4, 3, padding=1, groups=groups), nn.Conv2d(4, 4, 3, padding=1, groups=groups)
    inputs = torch.zeros(2, 4, 8, 8)
    forward = forward_flops(first, inputs)
    assert step_flops(nn.Sequential(first, second), inputs) == 5 * forward


def test_fourier_transforms_and_complex_products_are_counted():
    class Filter(nn.Module):
        def forward(self, x: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
            return torch.fft.irfft(torch.einsum("bix,xio->box", torch.fft.rfft(x), filters), n=16)

    batch, inner, outer = 3, 4, 5
    counted = forward_flops(Filter(), torch.zeros(batch, inner, 16), torch.zeros(9, inner, outer).cfloat())
    transforms = 2.5 * 16 * math.log2(16) * batch * (inner + outer)
    assert counted == transforms + 8 * 9 * batch * inner * outer


def test_a_complex_transform_counts_every_axis():
    class Transform(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft2(x)

    assert forward_flops(Transform(), torch.zeros(8, 32).cfloat()) == 5 * 256 * math.log2(256)


def test_attention_counts_scores_and_values():
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k = torch.zeros(2, 3, 10, 16), torch.zeros(2, 3, 12, 16)
    assert forward_flops(Attention(), q, k, k) == 2 * 2 * 3 * 10 * 12 * (16 + 16)


def test_a_fourier_operator_computes_in_proportion_to_the_samples():
    operator, one = FourierOperator(2, 1, modes=4, width=6, layers=2), torch.zeros(1, 2, 16, 16)
    assert forward_flops(operator, one.expand(3, -1, -1, -1)) == 3 * forward_flops(operator, one)


def test_counting_a_step_leaves_no_gradient_and_no_note():
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3))
    step_flops(module, torch.randn(4, 2, 9))
    assert all(weight.grad is None for weight in module.parameters())
    assert int(module[1].num_batches_tracked) == 0
