"""A plain U-Net: the baseline that a method for fields on grids has to beat.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015, with batch
normalisation and padded convolutions, as it is used for PDEs.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PlainUNet(nn.Module):
    """Two 3x3 convolutions per level, halved four times and doubled back, with a skip connection per level; 2D.

    ``width`` channels on the finest level, doubled on each coarser one. Sizes are multiples of 16. Zero padding.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 32, halvings: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(halvings + 1)]
        self.down = nn.ModuleList(_two_convolutions(a, b) for a, b in itertools.pairwise([in_channels, *widths]))
        rising = list(itertools.pairwise(reversed(widths)))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, kernel_size=2, stride=2) for a, b in rising)
        self.up = nn.ModuleList(_two_convolutions(2 * b, b) for _, b in rising)
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, inputs: Float[Tensor, "batch channel x y"]) -> Float[Tensor, "batch output x y"]:
        # Channels-last storage makes the convolutions of a CPU about twice as fast: a baseline deserves its best form.
        field = inputs.contiguous(memory_format=torch.channels_last)
        passed = []
        for level, block in enumerate(self.down):
            field = block(nn.functional.max_pool2d(field, 2) if level else field)
            passed.append(field)
        for enlarge, block, finer in zip(self.enlarge, self.up, reversed(passed[:-1]), strict=True):
            field = block(torch.cat([finer, enlarge(field)], 1))
        return self.head(field)


def _two_convolutions(inner: int, outer: int) -> nn.Sequential:
    steps: list[nn.Module] = []
    for a in (inner, outer):
        steps += [nn.Conv2d(a, outer, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*steps)
