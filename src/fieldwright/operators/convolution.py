"""Convolutions and transposed convolutions that hold a boundary condition at every wall, in 1D, 2D and 3D.

With the field u continued beyond the walls by `fieldwright.operators.walls.Walls`,

    convolution     (W u)(i) = Σ_k W_k u(s i + k - 1),          k in {0..size-1}^d, stride s
    prolongation    (P u)(i) = Σ_{j,k: 2j + k - 1 = i} P_k u(j), k in {0..3}^d.

Both are linear: no bias. A convolution of stride 2 takes n points to ⌈n/2⌉, and the prolongation takes them back to n:
where n is odd, the last of its points is cut off. So every size has a coarse grid, and the ghost layers of each level
are those of its own walls.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.operators.walls import Walls, channels_innermost

CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


class Convolution(nn.Module):
    """Convolution of ``size`` 3 (stride 1 or 2) or 4 (stride 2) points per axis, without bias.

    With stride 2, 3 points are centred on every other point (node-like coarsening); 4 points are centred on the middle
    of a pair of cells, which is where a coarse cell lies: only that keeps reflections of a cell-centred grid.
    Initialised uniformly in ± 1/√(fan-in), as torch does.
    """

    def __init__(self, in_channels: int, out_channels: int, walls: Walls, *, stride: int = 1, size: int = 3) -> None:
        super().__init__()
        self.walls, self.stride, self.size = walls, stride, size
        self.weight = _uniform(out_channels, in_channels, size=size, dimension=walls.dimension)

    def forward(self, field: Float[Tensor, "batch inner *space"]) -> Float[Tensor, "batch outer *coarse"]:
        above = {n: self.stride * (math.ceil(n / self.stride) - 1) + self.size - 1 - n for n in field.shape[2:]}
        narrow = min(field.shape[2:]) < self.size
        field, padding = self.walls.extend(field, tuple((1, above[n]) for n in field.shape[2:]))
        convolve = CONVOLVE[self.walls.dimension]
        if narrow:
            # On a grid narrower than the kernel oneDNN's bfloat16 product for the weight's gradient (torch 2.13) leaves
            # entries unwritten. Such grids cost nothing in float32.
            with torch.autocast(field.device.type, enabled=False):
                return convolve(field.to(self.weight.dtype), self.weight, stride=self.stride, padding=padding)
        return convolve(field, self.weight, stride=self.stride, padding=padding)


class Prolongation(nn.Module):
    """Transposed convolution of 4 points per axis and stride 2: from a coarse grid to the next finer one."""

    def __init__(self, channels: int, walls: Walls) -> None:
        super().__init__()
        self.walls = walls
        self.weight = _uniform(channels, channels, size=4, dimension=walls.dimension)

    def forward(
        self, field: Float[Tensor, "batch channel *coarse"], shape: tuple[int, ...]
    ) -> Float[Tensor, "batch channel *space"]:
        """``shape``: the points per axis of the finer grid, 2n or 2n - 1 for n coarse ones."""
        field, left = self.walls.extend(field, ((1, 1),) * len(shape))
        # A ghost layer of the coarse grid reaches two fine points beyond the one that the kernel itself overhangs.
        field = TRANSPOSE[self.walls.dimension](
            field, self.weight, stride=2, padding=tuple(1 if kept else 3 for kept in left)
        )
        for axis, n in enumerate(shape):
            if field.shape[axis + 2] != n:
                field = field.narrow(axis + 2, 0, n)
        return field


def _uniform(*channels: int, size: int, dimension: int) -> nn.Parameter:
    # In the storage order of the fields they meet, which saves a copy per convolution in either direction.
    weight = nn.Parameter(channels_innermost(torch.empty(*channels, *(size,) * dimension)))
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return weight
