"""Every operator compiled without a graph break, on two grids, exported and stored; a script, its arguments names.

It runs in a process of its own, because the compiler cannot trace the checks of shapes that the tests run under.
"""

import io
import sys

import torch
from torch import Tensor, nn

from fieldwright.operators import (
    DeepONet,
    FourierOperator,
    LatentSpectralOperator,
    LatentSpectralPointOperator,
    MeshNetwork,
    MovingMeshOperator,
    MultigridOperator,
    MultiONet,
    OperatorTransformer,
    ResNet,
    SpatiotemporalFourierOperator,
    UNet,
)

MIXED = ["periodic", "dirichlet"]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def mesh_network() -> nn.Module:
    network = MeshNetwork(modes=8, points=16, width=4, levels=1)
    nn.init.normal_(network.network.project.mix.weight)  # it starts with nodes that stay where they are
    return network


LEAD = torch.tensor([0.3, 0.8], dtype=torch.float64)

# The operator, its inputs, and for operators on grids inputs on a second one.
CASES = {
    "multigrid": (lambda: MultigridOperator(2, 1, width=4, layers=1, levels=2), draw(2, 2, 8, 10), draw(2, 2, 12, 9)),
    "fourier": (lambda: FourierOperator(2, 1, width=4, layers=1, modes=3), draw(2, 2, 8, 10), draw(2, 2, 12, 9)),
    "latent_spectral": (
        lambda: LatentSpectralOperator(2, 1, width=8, scales=2, patch=2, heads=4, bases=4, boundary="periodic"),
        draw(2, 2, 12, 11),
    ),
    "latent_spectral_points": (
        lambda: LatentSpectralPointOperator(1, 2, grid=8, modes=4, width=8, scales=2, patch=2, heads=4),
        (draw(2, 9, 1), torch.rand(2, 9, 2, dtype=torch.float64)),
    ),
    "spatiotemporal_fourier": (
        lambda: SpatiotemporalFourierOperator(
            2, 2, modes=4, time_modes=3, latent_steps=3, width=4, layers=1, divergence_free=True, lengths=[1.0, 2.0]
        ),
        (draw(2, 5, 2, 9, 8), LEAD),
    ),
    "transformer": (
        lambda: OperatorTransformer(2, 1, width=12, patch=2, window=4, depths=[2], exact_start=True),
        (draw(2, 2, 10, 12), LEAD),
    ),
    "transformer_periodic": (
        lambda: OperatorTransformer(
            2, 1, width=12, patch=2, window=4, depths=[1, 1], conditioned=False, boundary="periodic", periodic=True
        ),
        draw(2, 2, 8, 24),
    ),
    "deeponet": (
        lambda: DeepONet(
            2, 1, sensors=[6, 7], width=8, branch="convolution", separable=True, boundary=["periodic", "neumann"]
        ),
        draw(2, 2, 6, 7),
        draw(2, 2, 9, 8),
    ),
    "multionet": (
        lambda: MultiONet(2, 1, sensors=[6, 7], width=8, branch="fourier", outputs="tokens", waves=2),
        draw(2, 2, 6, 7),
        draw(2, 2, 9, 8),
    ),
    "moving_mesh": (
        lambda: MovingMeshOperator(1, 1, branch="fourier", width=4, modes=8, boundary="periodic", dimension=1),
        draw(2, 1, 10),
    ),
    "mesh_network": (mesh_network, draw(2, 1, 9, 10)),
    "resnet": (lambda: ResNet(2, 1, width=6, blocks=2, boundary=MIXED), draw(2, 2, 9, 10), draw(2, 2, 12, 7)),
    "unet": (lambda: UNet(2, 1, width=4, levels=2, boundary=MIXED), draw(2, 2, 9, 10), draw(2, 2, 12, 8)),
}


def check(name: str) -> None:
    build, *cases = CASES[name]
    torch.compiler.reset()
    torch.manual_seed(0)
    operator = build().double()
    compiled = torch.compile(operator, fullgraph=True, backend="eager")
    for case in cases:
        inputs = case if isinstance(case, tuple) else (case,)
        outputs = compiled(*inputs)
        assert torch.allclose(outputs, operator(*inputs), rtol=1e-9, atol=1e-12)
    outputs.sum().backward()
    assert all(parameter.grad is not None for parameter in operator.parameters())
    file = io.BytesIO()
    torch.export.save(torch.export.export(operator, inputs), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    assert torch.allclose(loaded(*inputs), operator(*inputs), rtol=1e-9, atol=1e-12)


if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        check(name)
        print(name, flush=True)
