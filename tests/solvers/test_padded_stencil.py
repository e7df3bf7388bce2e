"""The padded product is the stencil's product."""

import torch
from assembled import diffusion, fields
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.grids import Boundary
from fieldwright.solvers.padded_stencil import PaddedStencil
from fieldwright.solvers.stencil import StencilSystem


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    data=st.data(),
)
def test_product_is_that_of_the_stencil(shape, data):
    dimension = len(shape)
    walls = [data.draw(st.sampled_from(["dirichlet", "periodic"])) for _ in shape]
    offset = st.tuples(*(st.integers(-2, 2) for _ in shape))
    offsets = ((0,) * dimension, *data.draw(st.lists(offset.filter(any), max_size=4, unique=True)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    coefficients = torch.randn(2, len(offsets), *shape, generator=generator, dtype=torch.float64)
    u = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    system = StencilSystem(coefficients, u, offsets, Boundary.parse(walls, dimension), kind="general")
    stencil = PaddedStencil(system)
    padded = stencil.pad(u)
    out = torch.zeros_like(padded)
    stencil.product(padded, out)
    assert torch.allclose(stencil.interior(out), system.apply(u), atol=1e-12)


def test_sums_over_padded_vectors_are_sums_over_the_grid():
    system = diffusion(fields((5, 4), 2, 0, 10.0), walls=["periodic", "dirichlet"])
    stencil = PaddedStencil(system)
    u = stencil.pad(fields((5, 4), 2, 1, 10.0))
    out = torch.zeros_like(u)
    stencil.product(u, out)
    energy = (stencil.interior(u) * stencil.interior(out)).flatten(1).sum(1)
    assert torch.allclose(torch.linalg.vecdot(u, out), energy)
