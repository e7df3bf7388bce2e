"""Folded products are the full products, with the modes sorted even first."""

import pytest
import torch

from fieldwright.solvers import folded_basis
from fieldwright.solvers.folded_basis import FoldedBasis
from fieldwright.transforms import BASES, basis


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_forward_is_the_product_and_backward_its_inverse(name, axis, monkeypatch):
    monkeypatch.setattr(folded_basis, "FOLD_FROM", 4)
    matrix = basis(name, 8)
    folded = FoldedBasis(matrix, dtype=torch.float64, device=torch.device("cpu"))
    assert folded.folded == (name in ("dst1", "dst2", "dct1", "dct2"))
    shape = [3, 3, 3]
    shape[axis] = 8
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modes = folded.forward(x, axis)
    expected = torch.tensordot(matrix, x, dims=([1], [axis + 1])).movedim(0, axis + 1)
    assert torch.allclose(modes, expected.index_select(axis + 1, folded.order), atol=1e-12)
    assert torch.allclose(folded.backward(modes, axis), x, atol=1e-12)


def test_odd_sizes_are_not_folded(monkeypatch):
    monkeypatch.setattr(folded_basis, "FOLD_FROM", 4)
    assert not FoldedBasis(basis("dst2", 9), dtype=torch.float64, device=torch.device("cpu")).folded


def test_padding_adds_zeros_alone():
    matrix = basis("dct2", 21)
    padded = FoldedBasis(matrix, dtype=torch.float64, device=torch.device("cpu"), contiguous=True)
    assert padded.padding == 11
    x = torch.randn(2, 3, 21, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    modes = padded.forward(torch.nn.functional.pad(x, (0, 11)), 1)
    assert torch.allclose(modes[..., :21], x @ matrix.T, atol=1e-12)
    assert torch.all(modes[..., 21:] == 0)


@pytest.mark.parametrize("n", [5, 17, 33, 48, 100])
def test_bits_do_not_depend_on_the_place_in_the_batch(n):
    line = FoldedBasis(basis("dst2", n), dtype=torch.float32, device=torch.device("cpu"), contiguous=True)
    x = torch.nn.functional.pad(torch.randn(5, 9, n, generator=torch.Generator().manual_seed(0)), (0, line.padding))
    assert torch.equal(line.forward(x, 1)[3:5], line.forward(x[3:5].clone(), 1))
    across = FoldedBasis(basis("dst2", 9), dtype=torch.float32, device=torch.device("cpu"))
    assert torch.equal(across.forward(x, 0)[3:5], across.forward(x[3:5].clone(), 0))
