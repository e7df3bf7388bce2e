"""Windows of a grid of tokens, plain or shifted by half their size, and where the tokens of a window lie.

A grid of n tokens along an axis has windows of M = min(window, n) tokens. Where n is not a multiple of M the grid is
lengthened at its high end; where n > M every other block shifts the windows by M // 2, rolling the grid cyclically.
Tokens of a window that are no neighbours on the grid, or are not on it at all, must not attend to each other: `mask`
says so. Both axes have a window and a shift of their own, so that the grid need not be square.

On an axis that is told to be periodic the tokens at both ends are neighbours: shifted windows need no mask there, and
in a window that spans the axis the offset between two tokens is the shorter way around.

Sources: Liu et al., "Swin Transformer", ICCV 2021 (windows and shifts); "Swin Transformer V2", CVPR 2022, equation 4
(logarithmic coordinates).
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

# What the published code adds to a score that is not to count: -100, twice.
MASKED = -200.0


@dataclass(frozen=True)
class Windows:
    """Windows of ``size`` tokens per axis on a grid of ``grid`` tokens, shifted by ``shift`` tokens.

    ``periodic``  axes whose two ends are neighbours
    """

    grid: tuple[int, int]
    size: tuple[int, int]
    shift: tuple[int, int]
    periodic: tuple[bool, bool] = (False, False)

    @classmethod
    def of(
        cls, rows: int, columns: int, window: int, *, shifted: bool, periodic: tuple[bool, bool] = (False, False)
    ) -> Self:
        """Windows of at most ``window`` tokens per axis; an axis that one window spans is never shifted."""
        grid = (rows, columns)
        moves = [window // 2 if shifted and n > window else 0 for n in grid]
        return cls(grid, (min(window, rows), min(window, columns)), (moves[0], moves[1]), periodic)

    @property
    def counts(self) -> tuple[int, int]:
        """How many windows there are along each axis."""
        return -(-self.grid[0] // self.size[0]), -(-self.grid[1] // self.size[1])

    @property
    def padded(self) -> tuple[int, int]:
        """The grid's tokens along each axis, lengthened to whole windows."""
        return self.counts[0] * self.size[0], self.counts[1] * self.size[1]

    @property
    def needs_mask(self) -> bool:
        """Whether some tokens of a window must not attend to each other."""
        cut = any(shift and not periodic for shift, periodic in zip(self.shift, self.periodic, strict=True))
        return cut or self.padded != self.grid

    def split(
        self, tokens: Float[Tensor, "batch rows columns width"], heads: int
    ) -> Float[Tensor, "batch window heads token channel"]:
        """The tokens by window and head."""
        (rows, columns), (m, n) = self.padded, self.size
        if (rows, columns) != self.grid:
            tokens = functional.pad(tokens, (0, 0, 0, columns - self.grid[1], 0, rows - self.grid[0]))
        if any(self.shift):
            tokens = tokens.roll((-self.shift[0], -self.shift[1]), (1, 2))
        tokens = tokens.reshape(len(tokens), rows // m, m, columns // n, n, heads, tokens.shape[3] // heads)
        return tokens.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(1, 2)

    def join(
        self, windows: Float[Tensor, "batch window heads token channel"]
    ) -> Float[Tensor, "batch rows columns width"]:
        """The inverse of `split`."""
        (m, n), (down, across) = self.size, self.counts
        tokens = windows.unflatten(3, (m, n)).unflatten(1, (down, across)).permute(0, 1, 4, 2, 5, 3, 6)
        tokens = tokens.reshape(len(windows), *self.padded, -1)
        if any(self.shift):
            tokens = tokens.roll(self.shift, (1, 2))
        return tokens[:, : self.grid[0], : self.grid[1]] if self.padded != self.grid else tokens

    def offsets(self, device: torch.device) -> Float[Tensor, "offset 2"]:
        """r = sign(D) log₂(1 + 8 |D| / (M - 1)) / 3 for each offset D = -(M-1)..M-1 along both axes, in float32."""
        axes = []
        for m in self.size:
            scaled = torch.arange(1 - m, m, dtype=torch.float32, device=device) / max(m - 1, 1) * 8
            axes.append(scaled.sign() * torch.log2(scaled.abs() + 1) / 3)
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)

    def index(self, device: torch.device) -> Int[Tensor, "token token"]:
        """For each pair of tokens (query, key) of a window, the row of `offsets` with their offset, query minus key."""
        m, n = self.size
        down, across = (self._differences(axis, device) for axis in (0, 1))
        place = (down + m - 1)[:, None, :, None] * (2 * n - 1) + (across + n - 1)[None, :, None, :]
        return place.reshape(m * n, m * n)

    def _differences(self, axis: int, device: torch.device) -> Int[Tensor, "query key"]:
        """Query minus key along an axis; around a periodic one that the window spans, the shorter way."""
        m = self.size[axis]
        place = torch.arange(m, device=device)
        difference = place[:, None] - place
        if self.periodic[axis] and m == self.grid[axis]:
            difference = (difference + m // 2) % m - m // 2
        return difference

    def mask(self, device: torch.device) -> Float[Tensor, "window token token"]:
        """What to add to the scores of each pair of tokens: 0, or `MASKED` for those that may not see each other."""
        kinds = []
        for n, padded, shift, periodic in zip(self.grid, self.padded, self.shift, self.periodic, strict=True):
            place = torch.arange(padded, device=device)
            wrapped, outside = place >= padded - (0 if periodic else shift), (place + shift) % padded >= n
            kinds.append(wrapped + 2 * outside)
        regions = (4 * kinds[0][:, None] + kinds[1]).float()
        regions = regions.reshape(self.counts[0], self.size[0], self.counts[1], self.size[1]).transpose(1, 2)
        regions = regions.flatten(2, 3).flatten(0, 1)
        return (regions[:, :, None] != regions[:, None, :]).float() * MASKED
