import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fieldwright.training.lion_k import QUINTIC, LionK, orthogonal_factor


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_gram_form_equals_the_plain_newton_schulz_iteration(rows: int, columns: int, seed: int) -> None:
    matrices = torch.randn(3, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = matrices / matrices.flatten(1).norm(dim=1)[:, None, None]
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonal_factor(matrices), x, rtol=1e-8, atol=1e-9)


def test_singular_vectors_are_kept_and_singular_values_moved_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(4, 24, 216, dtype=torch.float64, generator=generator)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    middle = u.mT @ orthogonal_factor(matrices) @ v.mT
    values = middle.diagonal(dim1=1, dim2=2)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25
    assert float((middle - torch.diag_embed(values)).abs().max()) < 1e-10


def test_zero_gradient_leaves_a_fresh_weight_where_it_is() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.zeros_like(weight)
    LionK([weight], lr=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(3, 4))


def test_vectors_follow_lion_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.randn(50, generator=generator))
    x, m = parameter.detach().clone(), torch.zeros(50)
    optimizer = LionK([parameter], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(20):
        gradient = torch.randn(50, generator=generator)
        parameter.grad = gradient.clone()
        optimizer.step()
        x = (1 - 0.01 * 0.1) * x - 0.01 * torch.sign(0.9 * m + 0.1 * gradient)
        m = 0.99 * m + 0.01 * gradient
    torch.testing.assert_close(parameter.detach(), x, rtol=1e-6, atol=1e-7)


def test_kernels_step_in_any_memory_format_alike() -> None:
    generator = torch.Generator().manual_seed(2)
    start, gradient = (torch.randn(8, 6, 3, 3, generator=generator) for _ in range(2))
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=memory_format))
        weight.grad = gradient.clone(memory_format=memory_format)
        LionK([weight], lr=0.1).step()
        results.append(weight.detach().contiguous())
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_complex_matrices_are_turned_with_the_basis_and_reach_unit_singular_values() -> None:
    generator = torch.Generator().manual_seed(6)
    matrix = torch.randn(1, 5, 9, dtype=torch.cdouble, generator=generator)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.cdouble, generator=generator))[0]
    factor = orthogonal_factor(matrix)
    values = torch.linalg.svdvals(factor)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25
    torch.testing.assert_close(orthogonal_factor(turn @ matrix), turn @ factor)


def test_complex_weights_find_their_target() -> None:
    target = torch.randn(4, 6, dtype=torch.cfloat, generator=torch.Generator().manual_seed(7))
    weight = nn.Parameter(torch.zeros_like(target))
    optimizer = LionK([weight], lr=0.03)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 600)
        weight.grad = weight.detach() - target
        optimizer.step()
    assert float((weight.detach() - target).abs().max()) < 0.05


def test_weight_decay_bounds_the_largest_singular_value() -> None:
    weight = nn.Parameter(5 * torch.randn(6, 10, generator=torch.Generator().manual_seed(3)))
    target = 100 * torch.ones(6, 10)
    decay, rate = 4.0, 0.02
    optimizer = LionK([weight], lr=rate, weight_decay=decay)
    for _ in range(400):
        weight.grad = weight.detach() - target
        optimizer.step()
    # The factor's singular values reach at most 1.25, so the ball has radius 1.25 √10 / λ.
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) <= 1.25 * 10**0.5 / decay + 1e-4


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7,), (4, 3, 3, 3)])
def test_a_decaying_rate_finds_the_minimum_of_an_ill_conditioned_quadratic(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    target = torch.randn(shape, generator=generator)
    curvature = torch.logspace(0, -2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = LionK([weight], lr=0.03)
    steps = 1500
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        weight.grad = curvature * (weight.detach() - target)
        optimizer.step()
    assert float((weight.detach() - target).norm() / target.norm()) < 0.01


def test_state_goes_through_its_dictionary_bit_by_bit() -> None:
    def train(steps: list[torch.Tensor], weight: nn.Parameter, optimizer: LionK) -> None:
        for gradient in steps:
            weight.grad = gradient.clone()
            optimizer.step()

    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(4, 5, generator=generator) for _ in range(6)]
    one = nn.Parameter(torch.ones(4, 5))
    first = LionK([one], lr=0.01)
    train(gradients[:3], one, first)
    two = nn.Parameter(one.detach().clone())
    second = LionK([two], lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(gradients[3:], one, first)
    train(gradients[3:], two, second)
    assert torch.equal(one, two)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"weight_decay": -0.1}, {"betas": (0.99, 0.9)}, {"betas": (0.9, 1.0)}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="LionK"):
        LionK([nn.Parameter(torch.ones(2))], **wrong)


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        LionK(embedding.parameters()).step()
