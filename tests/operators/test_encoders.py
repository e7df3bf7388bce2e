"""What branches read from fields: means, interpolation and modes, against their definitions, on any grid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.grids import Grid, resample
from fieldwright.operators.domain import Domain
from fieldwright.operators.encoders import Encoder


def encoder(kind: str, size, *, centring: str = "cell", boundary="dirichlet", dimension: int = 2) -> Encoder:
    domain = Domain.parse(dimension, boundary, centring, None, None)
    return Encoder(kind, 1, 4, domain, size=size, width=8).double()


@given(n=st.integers(2, 12), m=st.integers(2, 12), centring=st.sampled_from(["cell", "node"]))
@settings(max_examples=40, deadline=None)
def test_sensors_are_means_over_cells_or_lines_through_nodes(n, m, centring):
    field = torch.randn(2, 1, n, 5, dtype=torch.float64)
    read = encoder("mlp", [m, 5], centring=centring).read(field)
    expected = resample(field, Grid((n, 5), centring), Grid((m, 5), centring), order=0 if centring == "cell" else 1)
    assert torch.allclose(read, expected, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(5, 10), (12, 4), (7, 5), (1, 3)])
def test_sensors_of_a_periodic_grid_interpolate_around_the_end(n, m):
    field = torch.randn(1, 1, n, dtype=torch.float64)
    read = encoder("mlp", m, centring="periodic", boundary="periodic", dimension=1).read(field)
    around = torch.cat((field, field[..., :1]), -1)[0, 0]
    for j in range(m):
        low, part = divmod(j * n / m, 1)
        expected = (1 - part) * around[int(low)] + part * around[int(low) + 1]
        assert torch.allclose(read[0, 0, j], expected, atol=1e-12)


@pytest.mark.parametrize("centring", ["cell", "node"])
def test_modes_between_walls_are_the_cosines_of_the_field(centring):
    x, y = Grid((9, 12), centring).coordinates()
    wave = 2 * torch.cos(2 * math.pi * x) * torch.cos(3 * math.pi * y)  # e_2(x) e_3(y)
    read = encoder("fourier", [4, 5], centring=centring).read((3 + wave)[None, None])
    expected = torch.zeros(4, 5, dtype=torch.float64)
    expected[0, 0], expected[2, 3] = 3, 1
    assert torch.allclose(read[0, 0], expected, atol=1e-12)


def test_modes_of_a_periodic_axis_are_its_cosines_and_sines():
    x = Grid((11,), "periodic").axis(0)
    field = 2 + math.sqrt(2) * (5 * torch.cos(2 * math.pi * x) - torch.sin(4 * math.pi * x))
    read = encoder("fourier", 7, centring="periodic", boundary="periodic", dimension=1).read(field[None, None])
    assert torch.allclose(read[0, 0], torch.tensor([2.0, 5, 0, 0, -1, 0, 0]).double(), atol=1e-12)


def test_a_grid_too_coarse_for_a_mode_reads_it_as_zero():
    for boundary, centring in (("dirichlet", "cell"), ("neumann", "node"), ("periodic", "periodic")):
        one = encoder("fourier", 12, centring=centring, boundary=boundary, dimension=1)
        read = one.read(torch.randn(1, 1, 4, dtype=torch.float64))
        assert read[..., 5:].abs().max() < 1e-12
        assert read[..., :3].abs().min() > 0


@pytest.mark.parametrize("centring", ["cell", "node"])
@pytest.mark.parametrize("kind", ["mlp", "fourier"])
def test_refining_the_grid_converges_to_second_order(kind, centring):
    one = encoder(kind, 6, centring=centring)

    def read(n: int) -> torch.Tensor:
        x, y = Grid((n, n), centring).coordinates()
        return one.read(torch.exp(torch.sin(3 * x) + 2 * y)[None, None])

    # Sensors stand at the same fraction of a mesh width on all three node grids, off their nodes.
    intervals = (24, 96, 1536) if centring == "cell" else (26, 106, 1706)
    more = centring == "node"
    coarse, fine, exact = (read(n + more) for n in intervals)
    order = math.log((coarse - exact).norm() / (fine - exact).norm()) / math.log(intervals[1] / intervals[0])
    assert abs(order - 2) < 0.1


def test_convolutions_halve_the_sensors_to_four_points_and_see_the_walls():
    one = encoder("convolution", [32, 9], boundary=["periodic", "dirichlet"])
    assert [tuple(h.convolution.weight.shape[:2]) for h in one.halvings] == [(2, 1), (2, 2), (2, 2)]
    assert one.maps[0].in_features == 2 * 4 * 2
    field = torch.randn(1, 1, 32, 9, dtype=torch.float64)
    for shift, axis, same in ((8, 2, True), (8, 3, False)):
        halved = [field, field.roll(shift, axis)]
        for layer in one.halvings:
            halved = [layer(v) for v in halved]
        assert torch.allclose(halved[0].roll(1, axis), halved[1], atol=1e-12) is same
