import pytest
import torch

from fieldwright.errors import SolverError
from fieldwright.solvers.tridiagonal import reduce, tridiagonal


def dominant(batch: int, n: int, seed: int = 0) -> list[torch.Tensor]:
    """Three diagonals, diagonally dominant and not symmetric, and a right-hand side."""
    generator = torch.Generator().manual_seed(seed)
    lower, upper, rhs = (torch.randn(batch, n, dtype=torch.float64, generator=generator) for _ in range(3))
    sign = torch.where(torch.rand(batch, n, generator=generator) < 0.5, -1.0, 1.0)
    return [lower, sign * (0.5 + lower.abs() + upper.abs()), upper, rhs]


def dense(lower: torch.Tensor, diagonal: torch.Tensor, upper: torch.Tensor, *, periodic: bool) -> torch.Tensor:
    matrix = torch.diag_embed(diagonal)
    if diagonal.shape[1] > 1:
        matrix = matrix + torch.diag_embed(lower[:, 1:], -1) + torch.diag_embed(upper[:, :-1], 1)
    if periodic:
        matrix[:, 0, -1] += lower[:, 0]
        matrix[:, -1, 0] += upper[:, -1]
    return matrix


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 33, 100])
@pytest.mark.parametrize("batch", [1, 9])
def test_elimination_and_reduction_solve_the_dense_system(n: int, batch: int) -> None:
    parts = dominant(batch, n)
    expected = torch.linalg.solve(dense(*parts[:3], periodic=False), parts[3])
    for method in (tridiagonal, reduce):
        torch.testing.assert_close(method(*parts), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 17, 64])
def test_periodic_systems_couple_their_ends(n: int) -> None:
    parts = dominant(5, n, seed=1)
    expected = torch.linalg.solve(dense(*parts[:3], periodic=True), parts[3])
    torch.testing.assert_close(tridiagonal(*parts, periodic=True), expected, rtol=1e-10, atol=1e-11)


def test_entries_outside_an_open_matrix_have_no_effect() -> None:
    lower, diagonal, upper, rhs = dominant(2, 6)
    moved = [lower.clone(), upper.clone()]
    moved[0][:, 0], moved[1][:, -1] = 1e6, -1e6
    for method in (tridiagonal, reduce):
        assert torch.equal(method(lower, diagonal, upper, rhs), method(moved[0], diagonal, moved[1], rhs))


@pytest.mark.parametrize("method", [tridiagonal, reduce])
def test_bits_of_a_sample_do_not_depend_on_its_batch(method) -> None:
    parts = dominant(21, 37)
    together = method(*parts)
    for place in (slice(0, 1), slice(3, 12), slice(20, 21)):
        assert torch.equal(method(*(part[place] for part in parts)), together[place])


@pytest.mark.parametrize("periodic", [False, True])
def test_solutions_are_differentiable_in_the_matrix_and_the_right_hand_side(periodic: bool) -> None:
    parts = [part.requires_grad_() for part in dominant(2, 6)]
    assert torch.autograd.gradcheck(lambda *p: tridiagonal(*p, periodic=periodic), parts)


def test_a_broken_sample_leaves_its_neighbours_alone() -> None:
    parts = dominant(10, 16)
    sound = tridiagonal(*parts)
    parts[1][4] = torch.nan
    broken = tridiagonal(*parts)
    assert bool(broken[4].isnan().all())
    rest = [i for i in range(10) if i != 4]
    assert torch.equal(broken[rest], sound[rest])


def test_an_empty_batch_has_no_solutions() -> None:
    assert tridiagonal(*(part[:0] for part in dominant(1, 4))).shape == (0, 4)


def test_shapes_that_differ_and_short_rings_are_refused() -> None:
    parts = dominant(2, 4)
    with pytest.raises(SolverError, match="have the shapes"):
        tridiagonal(parts[0][:, :3], *parts[1:])
    with pytest.raises(SolverError, match="2 points around a periodic axis"):
        tridiagonal(*dominant(2, 2), periodic=True)
