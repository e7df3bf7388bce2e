"""What lies beyond the walls of a box of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError

Side = Literal["periodic", "outflow", "reflecting"]
SIDES: tuple[str, ...] = get_args(Side)
Walls = tuple[tuple[Side, Side], ...]
"""``walls[axis] = (side at the lower end, side at the upper end)``"""
GHOSTS = 2


def with_ghosts(
    primitive: Float[Tensor, "batch field *space"], axis: int, sides: tuple[Side, Side]
) -> Float[Tensor, "batch field *around"]:
    """Two ghost cells at either end of an axis.

    They hold the other end's cells ("periodic"), the edge cell's values ("outflow") or the mirror image with the normal
    velocity, field 1 + ``axis``, reversed ("reflecting").
    """
    place = axis + 2
    n = primitive.shape[place]
    ends = []
    for side, nearest, opposite in zip(sides, (range(GHOSTS), range(n - 1, n - 1 - GHOSTS, -1)), (-1, 1), strict=True):
        # Cells in the order of their distance from the wall.
        if side == "periodic":
            cells = [(n + opposite * (1 + k)) % n if opposite < 0 else k for k in range(GHOSTS)]
        else:
            cells = [nearest[0]] * GHOSTS if side == "outflow" else list(nearest)
        if opposite < 0:
            cells.reverse()
        ghosts = primitive.index_select(place, torch.tensor(cells, device=primitive.device))
        if side == "reflecting":
            signs = torch.ones(primitive.shape[1], dtype=primitive.dtype, device=primitive.device)
            signs[1 + axis] = -1
            ghosts = ghosts * signs.reshape(-1, *[1] * (primitive.ndim - 2))
        ends.append(ghosts)
    return torch.cat([ends[0], primitive, ends[1]], place)


def parse_walls(name: str, walls: object, dimension: int) -> Walls:
    """Sides from one word for all, or one word or (low, high) pair per axis; ``name`` stands first in messages.

    Errors: `InputError` for an unknown word, a wrong number of axes, or an axis that is periodic at one end only.
    """
    per_axis: Sequence[object] = [walls] * dimension if isinstance(walls, str) else list(cast(Sequence[object], walls))
    pairs = [(axis, axis) if isinstance(axis, str) else tuple(cast(Sequence[str], axis)) for axis in per_axis]
    if len(pairs) != dimension:
        raise InputError(f"{name}: walls = {walls}; one word, or a word or (low, high) pair per axis, is needed")
    for pair in pairs:
        if len(pair) != 2 or any(side not in SIDES for side in pair):
            raise InputError(f"{name}: walls = {walls}; allowed are {', '.join(SIDES)}, one word or pair per axis")
        if pair.count("periodic") == 1:
            raise InputError(f"{name}: walls = {walls}; an axis is periodic at both ends or at none")
    return cast(Walls, tuple(pairs))
