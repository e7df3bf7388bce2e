"""The simplices of a grid of nodes, their signed volumes, and the longest step along which none of them inverts.

Each box between 2^d neighbouring nodes is cut into d! simplices that share its main diagonal (Kuhn's triangulation):
intervals, triangles, tetrahedra. With nodes x(s) = ξ + s v the signed volume of a simplex is a polynomial of degree d
in s, positive at 0. The step is the smallest positive s at which any of them falls to a fraction ε of its volume:

    s* = min(1, min over cells of the smallest positive root of volume(s) = ε volume(0)),       ε = 0.05,

so for every v whatsoever no cell of ξ + s* v is inverted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEAST_VOLUME = 0.05
BISECTIONS = 50


@lru_cache(maxsize=32)
def simplices(shape: tuple[int, ...]) -> Int[Tensor, "cell corner"]:
    """The corners of every simplex, as indices into the flattened nodes, ordered so that volumes are positive."""
    dimension = len(shape)
    corners = torch.stack(torch.meshgrid(*(torch.arange(n - 1) for n in shape), indexing="ij"), -1).reshape(
        -1, dimension
    )
    cells = []
    for order in itertools.permutations(range(dimension)):
        path, place = [corners], corners
        for axis in order:
            place = place + (torch.arange(dimension) == axis).long()
            path.append(place)
        if _odd(order):
            path[-1], path[-2] = path[-2], path[-1]
        cells.append(torch.stack([_flat(place, shape) for place in path], 1))
    with torch.inference_mode(False):  # what is kept must serve training too
        return torch.stack(cells, 1).reshape(-1, dimension + 1).clone()


def _odd(order: Sequence[int]) -> bool:
    return sum(a > b for a, b in itertools.combinations(order, 2)) % 2 == 1


def _flat(place: Tensor, shape: Sequence[int]) -> Tensor:
    index = place[:, 0]
    for axis in range(1, len(shape)):
        index = index * shape[axis] + place[:, axis]
    return index


def edges(nodes: Float[Tensor, "batch axis *space"]) -> Float[Tensor, "batch axis edge cell"]:
    """The edges of each simplex from its first corner."""
    cells = simplices(tuple(nodes.shape[2:])).to(nodes.device)
    corners = nodes.flatten(2)[:, :, cells]
    return (corners[..., 1:] - corners[..., :1]).movedim(-1, 2)


def volumes(nodes: Float[Tensor, "batch axis *space"]) -> Float[Tensor, "batch cell"]:
    """The signed volume of every simplex: lengths, areas or volumes."""
    return _det(edges(nodes)) / math.factorial(nodes.shape[1])


def _det(matrix: Float[Tensor, "batch axis edge cell"]) -> Float[Tensor, "batch cell"]:
    m = matrix
    if m.shape[1] == 1:
        return m[:, 0, 0]
    if m.shape[1] == 2:
        return m[:, 0, 0] * m[:, 1, 1] - m[:, 0, 1] * m[:, 1, 0]
    return (m[:, :, 0] * torch.linalg.cross(m[:, :, 1], m[:, :, 2], dim=1)).sum(1)


def safe_step(
    reference: Float[Tensor, "batch axis *space"], displacement: Float[Tensor, "batch_out axis *space"]
) -> Float[Tensor, " batch_out"]:
    """s* of each sample, from nodes with positive volumes; exact for every displacement."""
    start, change = edges(reference), edges(displacement)
    start = start.expand_as(change)
    dimension = reference.shape[1]
    terms = []
    for degree in range(dimension + 1):
        # The coefficient of s^degree: determinants with that many columns taken from the displacement.
        total = None
        for chosen in itertools.combinations(range(dimension), degree):
            columns = [change[:, :, k] if k in chosen else start[:, :, k] for k in range(dimension)]
            part = _det(torch.stack(columns, 2))
            total = part if total is None else total + part
        assert total is not None
        terms.append(total)
    scaled = [term / terms[0] for term in terms]
    scaled[0] = torch.full_like(scaled[0], 1 - LEAST_VOLUME)
    find = {1: _root_of_line, 2: _root_of_parabola, 3: _root_of_cubic}[dimension]
    return find(*scaled).amin(1).clamp(max=1.0)


def _root_of_line(c: Tensor, b: Tensor) -> Tensor:
    return torch.where(b < 0, -c / b, torch.inf)


def _root_of_parabola(c: Tensor, b: Tensor, a: Tensor) -> Tensor:
    # 2c / (-b + √(b² - 4ac)) is the smallest positive root where the denominator is positive, and loses no digits.
    discriminant = b.square() - 4 * a * c
    below = discriminant.clamp_min(0).sqrt() - b
    return torch.where((discriminant >= 0) & (below > 0), 2 * c / below, torch.inf)


def _root_of_cubic(d: Tensor, c: Tensor, b: Tensor, a: Tensor) -> Tensor:
    """The smallest root in (0, 1], or infinity: bisection on the first piece, between stationary points, that has one.

    The lower end of the bracket is returned, at which the cubic is positive still.
    """

    def value(s: Tensor) -> Tensor:
        return d + s * (c + s * (b + s * a))

    # Stationary points: 3a s² + 2b s + c = 0, in the form that divides by no small number.
    discriminant = b.square() - 3 * a * c
    q = -(b + torch.where(b >= 0, 1.0, -1.0) * discriminant.clamp_min(0).sqrt())
    first, second = q / (3 * a), c / q
    real = discriminant > 0
    turns = [torch.where(real & t.isfinite() & (t > 0) & (t < 1), t, 1.0) for t in (first, second)]
    ends = [torch.zeros_like(a), torch.minimum(*turns), torch.maximum(*turns), torch.ones_like(a)]
    low, high, found = torch.zeros_like(a), torch.ones_like(a), torch.zeros_like(a, dtype=torch.bool)
    for left, right in itertools.pairwise(ends):
        here = ~found & (value(right) <= 0)
        low, high = torch.where(here, left, low), torch.where(here, right, high)
        found = found | here
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        positive = value(middle) > 0
        low, high = torch.where(positive, middle, low), torch.where(positive, high, middle)
    return torch.where(found, low, torch.inf)
