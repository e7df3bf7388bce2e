"""Limited slopes: how steep a cell's profile may be, from the values of the cell and its two neighbours.

With the differences a = u - u⁻ and b = u⁺ - u the limited difference over the cell is zero at extrema (a b <= 0), else

    central        (a + b)/2, at extrema too: not limited, for smooth fields alone
    minmod         the smaller of a and b
    van-leer       2 a b / (a + b)
    monotonized    the smallest of 2 a, 2 b and (a + b)/2

and never more than twice the smaller of a and b, so that edge values stay between those of the neighbours.

Source: B. van Leer, "Towards the ultimate conservative difference scheme V", J. Comput. Phys. 32 (1979); P. K. Sweby,
SIAM J. Numer. Anal. 21 (1984).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Limiter = Literal["central", "minmod", "van-leer", "monotonized"]
LIMITERS: tuple[str, ...] = get_args(Limiter)


def half_slope(
    limiter: Limiter, below: Float[Tensor, "*shape"], here: Float[Tensor, "*shape"], above: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Half the limited difference over the cell: its edge values are ``here`` ∓ this."""
    left, right = here - below, above - here
    if limiter == "central":
        return (left + right) * 0.25
    product = left * right
    inside = product > 0
    if limiter == "van-leer":
        total = torch.where(inside, left + right, 1.0)
        return torch.where(inside, product / total, 0.0)
    size = torch.minimum(left.abs(), right.abs())
    size = 0.5 * size if limiter == "minmod" else torch.minimum(size, (left + right).abs() * 0.25)
    return torch.where(inside, torch.where(left > 0, size, -size), 0.0)
