"""Folded products are the full products, with the modes sorted even first."""

import pytest
import torch

from fieldwright.solvers import folded_basis
from fieldwright.solvers.folded_basis import FoldedBasis, along_axis
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


def test_products_are_per_sample():
    x = torch.randn(5, 37, 37, generator=torch.Generator().manual_seed(0))
    matrix = basis("dst2", 37).float()
    for axis in (0, 1):
        assert torch.equal(along_axis(x, matrix, axis)[3:4], along_axis(x[3:4].clone(), matrix, axis))
