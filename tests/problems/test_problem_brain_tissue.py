import numpy as np
import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Grid
from fieldwright.problems.brain_tissue import EDGE, SKULL, brain_tissue, tissue_places, ventricles


def box(n: int, dimension: int = 2) -> Grid:
    return Grid((n,) * dimension, "cell", (0.0,) * dimension, (64.0,) * dimension)


@pytest.mark.parametrize("dimension", [2, 3])
def test_shares_are_from_0_to_1_inside_the_skull_and_nothing_outside(dimension: int) -> None:
    grid = box(32, dimension)
    white, grey = brain_tissue(grid, range(4), 0, correlation=5.0)
    assert float(torch.minimum(white, grey).min()) >= 0
    assert float((white + grey).max()) <= 1 + 1e-12
    depth = SKULL - (grid.coordinates() / 64 - 0.5).norm(dim=0)
    assert float((white + grey)[:, depth < -EDGE / 2].abs().max()) == 0
    for index in range(4):
        within = [torch.from_numpy(v.depth(grid.coordinates().numpy() / 64)) for v in ventricles(dimension, index, 0)]
        for inside in within:
            assert bool((inside < -EDGE / 2).any())
            assert float((white + grey)[index][inside < -EDGE / 2].abs().max()) == 0
        tissue = (depth > EDGE / 2) & (torch.stack(within).amin(0) > EDGE / 2)
        assert float(((white + grey)[index][tissue] - 1).abs().max()) < 1e-12


def test_white_matter_is_somewhat_more_than_half_of_the_tissue() -> None:
    # E sigmoid(4 (g + 0.2)) of a normal g, by quadrature.
    g = np.linspace(-8, 8, 4001)
    expected = float((np.exp(-(g**2) / 2) / np.sqrt(2 * np.pi) / (1 + np.exp(-4 * (g + 0.2)))).sum() * (g[1] - g[0]))
    white, grey = brain_tissue(box(32), range(200), 0, correlation=5.0)
    assert float(white.sum() / (white + grey).sum()) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_finer_grid_shows_the_same_head(dimension: int) -> None:
    errors = []
    for n in (16, 32):
        coarse = torch.stack(brain_tissue(box(n, dimension), range(3), 7, correlation=12.0), 1)
        fine = torch.stack(brain_tissue(box(2 * n, dimension), range(3), 7, correlation=12.0), 1)
        means = fine.reshape(3, 2, *[s for _ in range(dimension) for s in (n, 2)]).mean(
            tuple(range(3, 3 + 2 * dimension, 2))
        )
        errors.append(float((coarse - means).abs().mean()))
    assert errors[0] < 0.03
    assert errors[1] < errors[0] / 2


def test_heads_depend_on_their_index_and_seed_alone() -> None:
    together = torch.stack(brain_tissue(box(16), [4, 9, 2], 1, correlation=8.0), 1)
    assert torch.equal(torch.stack(brain_tissue(box(16), [9], 1, correlation=8.0), 1)[0], together[1])
    other = torch.stack(brain_tissue(box(16), [9], 2, correlation=8.0), 1)[0]
    assert not torch.equal(other, together[1])
    assert brain_tissue(box(16), [], 1, correlation=8.0)[0].shape == (0, 16, 16)


@pytest.mark.parametrize("dimension", [2, 3])
def test_places_lie_in_tissue_and_near_the_first(dimension: int) -> None:
    for index in range(50):
        random = np.random.default_rng(index)
        places = tissue_places(dimension, index, 3, count=3, spread=0.05, random=random)
        assert places.shape == (3, dimension)
        assert float(np.linalg.norm(places - 0.5, axis=1).max()) < SKULL - EDGE
        assert float(np.abs(places - places[0]).max()) <= 0.05
        for hole in ventricles(dimension, index, 3):
            assert (hole.depth(places.T) > EDGE).all()


def test_grids_too_coarse_for_the_tissue_are_refused() -> None:
    with pytest.raises(InputError, match="too coarse"):
        brain_tissue(box(8), [0], 0, correlation=2.0)
