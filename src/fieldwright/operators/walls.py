"""What a convolution sees beyond the walls: ghost layers, one rule per side.

A field on n points along an axis is continued to the index -1-j below and n+j above (j = 0, 1, ...) by

| rule    | cell-centred            | node-centred (walls on points) | for                                            |
| ------- | ----------------------- | ------------------------------ | ---------------------------------------------- |
| zero    | u(-1-j) = 0             | u(-1-j) = 0                    | Dirichlet, as published for MgNO               |
| odd     | u(-1-j) = -u(j)         | u(-1-j) = -u(1+j)              | Dirichlet, the exact continuation of u = 0     |
| even    | u(-1-j) = u(j)          | u(-1-j) = u(1+j)               | Neumann, the exact continuation of du/dn = 0   |
| wrap    | u(-1-j) = u(n-1-j)      | the same                       | periodic                                       |

The wall of a cell-centred axis lies half a cell outside the outermost point. `zero` places the zero half a cell too
far out; it says "nothing beyond the wall" and marks the wall for the network. `odd` is what the 5-point stencil of a
cell-centred Dirichlet problem needs, but only fields that really vanish at the wall continue that way: a permeability
does not, which is why `zero` is the default.
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.grids import Boundary, Centring

Rule = Literal["zero", "odd", "even", "wrap"]
DirichletRule = Literal["zero", "odd"]


@dataclass(frozen=True)
class Walls:
    """The rule of each side of a box, ``rules[axis] = (lower, upper)``, and whether walls lie on grid points."""

    rules: tuple[tuple[Rule, Rule], ...]
    on_points: bool = False

    @classmethod
    def of(cls, boundary: Boundary, *, centring: Centring = "cell", dirichlet: DirichletRule = "zero") -> Self:
        """The rules that hold a boundary condition on a grid of this centring.

        Errors: `InputError` for an unknown Dirichlet rule.
        """
        if dirichlet not in get_args(DirichletRule):
            raise InputError(f"walls: dirichlet rule '{dirichlet}'; allowed are {', '.join(get_args(DirichletRule))}")
        rule: dict[str, Rule] = {"dirichlet": dirichlet, "neumann": "even", "periodic": "wrap"}
        return cls(tuple((rule[low], rule[high]) for low, high in boundary.sides), on_points=centring == "node")

    @property
    def dimension(self) -> int:
        return len(self.rules)

    def extend(
        self, field: Float[Tensor, "batch channel *space"], margins: tuple[tuple[int, int], ...]
    ) -> tuple[Float[Tensor, "batch channel *wider"], tuple[int, ...]]:
        """The field with ``margins[axis] = (below, above)`` ghost layers, but for those a convolution adds by itself.

        Returns the extended field and the zero padding per axis that is left to the convolution, which has one number
        for both ends of an axis: a margin of `zero` that is no wider above than below is not copied for nothing.
        """
        left = tuple(
            low if rules == ("zero", "zero") and low >= high else 0
            for rules, (low, high) in zip(self.rules, margins, strict=True)
        )
        ghosts = tuple((0, 0) if kept else pair for kept, pair in zip(left, margins, strict=True))
        if any(any(pair) for pair in ghosts):
            field = _Extend.apply(field, self, ghosts)  # type: ignore[assignment]
        return field, left

    def source(self, axis: int, size: int, beyond: int, *, upper: bool) -> tuple[int, int] | None:
        """(index, sign) of the point that the ghost number ``beyond`` (0 next to the wall) repeats; None for zero."""
        rule = self.rules[axis][upper]
        if rule == "zero":
            return None
        if rule == "wrap":
            return (beyond % size if upper else (-1 - beyond) % size), 1
        # The distance beyond the wall is folded back into the grid, with a change of sign per fold of an odd wall: a
        # grid coarser than its margin is folded more than once.
        on_points = self.on_points and size > 1
        folds, rest = divmod(beyond + 1, size - 1) if on_points else divmod(beyond, size)
        place = rest if folds % 2 == 0 else size - 1 - rest
        return (size - 1 - place if upper else place), -1 if rule == "odd" and folds % 2 == 0 else 1


class _Extend(torch.autograd.Function):
    # One copy into a wider field, then one slab per ghost layer. Slices and concatenations would leave the same values
    # but a backward pass that allocates a full field of zeros per slice.

    @staticmethod
    def forward(field: Tensor, walls: Walls, ghosts: tuple[tuple[int, int], ...]) -> Tensor:
        wide = [n + low + high for n, (low, high) in zip(field.shape[2:], ghosts, strict=True)]
        layout = memory_format(field)
        out = torch.empty((*field.shape[:2], *wide), dtype=field.dtype, device=field.device, memory_format=layout)
        _interior(out, field.shape[2:], ghosts).copy_(field)
        for ghost, source, sign in _slabs(out, field.shape[2:], walls, ghosts):
            if source is None:
                ghost.zero_()
            else:
                ghost.copy_(source).mul_(sign)
        return out

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        field, ctx.walls, ctx.ghosts = inputs
        ctx.space = field.shape[2:]

    @staticmethod
    def backward(ctx, *gradients):
        wide = gradients[0].clone()
        for ghost, source, sign in reversed(list(_slabs(wide, ctx.space, ctx.walls, ctx.ghosts))):
            if source is not None:
                source.add_(ghost, alpha=sign)
        inner = _interior(wide, ctx.space, ctx.ghosts)
        return inner.contiguous(memory_format=memory_format(wide)), None, None


def _interior(wide: Tensor, space, ghosts) -> Tensor:
    for axis, (low, _) in enumerate(ghosts):
        wide = wide.narrow(axis + 2, low, space[axis])
    return wide


def _slabs(wide: Tensor, space, walls: Walls, ghosts):
    # Axis by axis over the full extent of the axes before it, so that corners hold the rule of both walls.
    for axis, (low, high) in enumerate(ghosts):
        n = space[axis]
        region = wide
        for later in range(axis + 1, len(ghosts)):
            region = region.narrow(later + 2, ghosts[later][0], space[later])
        for upper, count in ((False, low), (True, high)):
            for beyond in range(count):
                target = low + n + beyond if upper else low - 1 - beyond
                found = walls.source(axis, n, beyond, upper=upper)
                source, sign = (None, 1) if found is None else (region.narrow(axis + 2, low + found[0], 1), found[1])
                yield region.narrow(axis + 2, target, 1), source, sign


def memory_format(field: Tensor) -> torch.memory_format:
    """The layout of a field: channels innermost where it already is, else channels first."""
    for layout in (torch.channels_last, torch.channels_last_3d):
        if field.ndim == (4 if layout == torch.channels_last else 5) and field.is_contiguous(memory_format=layout):
            return layout
    return torch.contiguous_format


def channels_innermost(field: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
    """The same field stored with channels innermost, where torch has such a layout (2D and 3D).

    oneDNN's convolutions run 1.4 times faster on it than on channels first with 24 channels, see
    ``benchmarks/operators.py``.
    """
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(field.ndim)
    if layout is None:
        return field
    # One channel is contiguous in both layouts and torch would go on with channels first; a clone has the strides.
    return field.clone(memory_format=layout) if field.shape[1] == 1 else field.contiguous(memory_format=layout)
