"""The distance of subspaces, and the invariant subspace of the eigenvalues nearest to zero."""

import numpy as np
import pytest
import scipy.sparse
from assembled import convection, diffusion, fields

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers.krylov import StencilMatrices, smallest_invariant_subspace, subspace_distance

RNG = np.random.default_rng


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, np.pi / 2])
def test_the_distance_is_the_sine_of_the_largest_angle(angle):
    e = np.eye(6)
    turned = np.array([e[0], np.cos(angle) * e[1] + np.sin(angle) * e[4]])
    assert subspace_distance(e[:2], turned) == pytest.approx(np.sin(angle), abs=1e-12)
    mixed = RNG(0).standard_normal((2, 2)) @ turned  # another basis of the same span
    assert subspace_distance(3 * e[:2], mixed) == pytest.approx(np.sin(angle), abs=1e-12)
    assert subspace_distance(e[:2], np.vstack([turned, e[1], e[1]])) == pytest.approx(0, abs=1e-12)


def test_the_distance_of_complex_spans_does_not_depend_on_phases():
    Q = RNG(0).standard_normal((3, 9)) + 1j * RNG(1).standard_normal((3, 9))
    assert subspace_distance(Q, np.exp(0.7j) * Q[::-1]) < 1e-12
    assert subspace_distance(Q, np.zeros((0, 9))) == pytest.approx(1)


@pytest.mark.parametrize("n", [12, 24])  # decomposed densely, and by inverse iteration
def test_the_invariant_subspace_of_the_laplacian_is_its_lowest_waves(n):
    system = diffusion(fields((n, n), 1, 0, 1.0))
    Q = smallest_invariant_subspace(StencilMatrices(system)[0], 3)
    x = (np.arange(n) + 0.5) / n
    waves = [np.outer(np.sin(i * np.pi * x), np.sin(j * np.pi * x)).ravel() for i, j in ((1, 1), (1, 2), (2, 1))]
    assert Q.shape == (3, n * n)
    assert subspace_distance(np.array(waves), Q) < 1e-7


@pytest.mark.parametrize("n", [10, 22])
def test_the_subspace_of_a_general_matrix_is_invariant(n):
    A = convection(n, 1, diffusivity=0.05).to_csr(0)
    Q = smallest_invariant_subspace(A, 3).T
    assert np.linalg.norm(Q.T @ Q - np.eye(Q.shape[1])) < 1e-12
    assert np.linalg.norm(A @ Q - Q @ (Q.T @ A @ Q)) < 1e-7 * abs(A).max()


def test_a_conjugate_pair_is_taken_whole():
    blocks = [np.array([[0.1, 0.2], [-0.2, 0.1]]), np.array([[0.5]]), np.diag([2.0, 3.0])]
    turn, _ = np.linalg.qr(RNG(0).standard_normal((5, 5)))
    A = turn @ scipy.linalg.block_diag(*blocks) @ turn.T
    assert subspace_distance(turn[:, :2].T, smallest_invariant_subspace(A, 1)) < 1e-12
    assert smallest_invariant_subspace(A, 1).shape == (2, 5)
    assert smallest_invariant_subspace(A, 3).shape == (3, 5)
    assert smallest_invariant_subspace(A + 0j, 1).shape == (1, 5)


def test_what_has_no_distance_is_refused():
    with pytest.raises(InputError, match="do not compare"):
        subspace_distance(np.ones((1, 3)), np.ones((1, 4)))
    with pytest.raises(InputError, match="do not compare"):
        subspace_distance(np.ones((0, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="5 of 5 eigenvalues"):
        smallest_invariant_subspace(np.eye(5), 5)
    with pytest.raises(SolverError, match="singular"):
        smallest_invariant_subspace(scipy.sparse.diags_array(np.r_[0.0, np.ones(500)]).tocsr(), 2)
