"""The coordinates of a grid's points as fields, for operators that are to know where they are."""

import torch
from jaxtyping import Float
from torch import Tensor


def with_coordinates(
    inputs: Float[Tensor, "batch channel *space"], centring: str
) -> Float[Tensor, "batch feature *space"]:
    """The fields and, after them, one field per axis: the coordinate of the points in 0..1, by the grid's centring."""
    axes = []
    for n in inputs.shape[2:]:
        i = torch.arange(n, device=inputs.device, dtype=inputs.dtype)
        places = {"cell": (i + 0.5) / n, "node": i / max(n - 1, 1), "periodic": i / n}
        axes.append(places[centring])
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.cat((inputs, points.expand(len(inputs), *points.shape)), 1)
