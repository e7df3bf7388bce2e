"""What the operator transformer may do beyond the published one: go around a periodic grid, start exactly."""

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators import OperatorTransformer
from fieldwright.operators.windows import Windows


def small(**settings) -> OperatorTransformer:
    torch.manual_seed(0)
    chosen = {"width": 12, "depths": [2, 2], "heads": [3, 6], "skips": [1, 0], "patch": 2, "window": 4, **settings}
    operator = OperatorTransformer(2, 2, **chosen).double()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return operator


def fields(*shape: int) -> torch.Tensor:
    return torch.randn(2, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def defect(operator: OperatorTransformer, x: torch.Tensor, by: tuple[int, int]) -> float:
    plain, shifted = operator(x, 0.6), operator(x.roll(by, (2, 3)), 0.6)
    return float((shifted - plain.roll(by, (2, 3))).norm() / plain.norm())


@pytest.mark.parametrize("by", [(8, 0), (0, 8), (8, 16)])
def test_periodic_windows_commute_with_shifts_of_a_window(by):
    # 12 tokens in three windows of 4 on level 0; on level 1 they are 6 in two, which shifts of whole windows move too.
    x = fields(32, 32)
    assert defect(small(boundary="periodic", periodic=True), x, (16, 16)) < 1e-12
    assert defect(small(boundary="periodic"), x, (16, 16)) > 1e-3
    spanned = fields(16, 16)  # two windows on level 0, one on level 1, in which offsets go around
    assert defect(small(boundary="periodic", periodic=True), spanned, tuple(min(n, 8) for n in by)) < 1e-12


def test_only_axes_that_are_periodic_close():
    operator = small(boundary=["periodic", "dirichlet"], periodic=True)
    x = fields(16, 16)
    assert defect(operator, x, (8, 0)) < 1e-12
    assert defect(operator, x, (0, 8)) > 1e-3
    walls = small(boundary="dirichlet", periodic=True)
    assert torch.equal(walls(x, 0.6), small()(x, 0.6))


def test_a_grid_shorter_than_the_kernels_closes_too():
    operator = small(boundary="periodic", periodic=True, depths=[1], heads=[3], skips=[1], window=2)
    x = fields(4, 8)
    assert defect(operator, x, (4, 4)) < 1e-12


def test_shorter_ways_around_depend_on_the_difference_alone():
    windows = Windows.of(6, 5, 8, shifted=False, periodic=(True, True))
    index = windows.index(torch.device("cpu")).reshape(6, 5, 6, 5)
    moved = index.roll((2, 3, 2, 3), (0, 1, 2, 3))
    assert torch.equal(index, moved)
    straight = Windows.of(6, 5, 8, shifted=False).index(torch.device("cpu")).reshape(6, 5, 6, 5)
    assert not torch.equal(straight, straight.roll((2, 3, 2, 3), (0, 1, 2, 3)))
    assert windows.mask(torch.device("cpu")).abs().max() == 0


def test_a_periodic_grid_that_does_not_close_is_refused():
    with pytest.raises(InputError, match="18 points along a periodic axis; multiples of 4"):
        small(boundary="periodic", periodic=True)(fields(16, 18), 0.5)


def test_an_exact_start_is_the_state_whatever_the_weights():
    operator, x = small(exact_start=True), fields(8, 12)
    assert torch.equal(operator(x, 0.0), x)
    plain = small()
    torch.testing.assert_close(operator(x, 0.3), x + 0.3 * plain(x, 0.3))
    each = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.equal(operator(x, each)[0], x[0])
    assert operator.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(InputError, match="exact_start"):
        small(exact_start=True, conditioned=False)
    with pytest.raises(InputError, match="exact_start"):
        small(exact_start=True, residual=True)


@pytest.mark.parametrize("settings", [{"periodic": True, "boundary": "periodic"}, {"exact_start": True}])
def test_every_parameter_still_has_a_gradient(settings):
    operator = small(**settings)
    operator(fields(8, 16), 0.5).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in operator.parameters())


def test_options_are_stored_with_the_operator(tmp_path):
    operator, x = small(exact_start=True, boundary="periodic", periodic=True).float(), fields(16, 16).float()
    operator.save_pretrained(tmp_path)
    again = OperatorTransformer.from_pretrained(tmp_path)
    torch.testing.assert_close(again(x, 0.5), operator(x, 0.5))
