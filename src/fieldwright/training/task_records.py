"""What a task has to itself, as tensors that move, are saved and are loaded with the operator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn


class TensorTable(nn.Module):
    """Tensors by the names of parameters, as buffers: they move, are saved and are loaded with the operator."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "/"), tensor)

    def __iter__(self) -> Iterator[str]:
        return (name.replace("/", ".") for name in self._buffers)

    def __getitem__(self, name: str) -> Tensor:
        found = self._buffers[name.replace(".", "/")]
        assert found is not None
        return found


class TaskRecord(nn.Module):
    """What a task has to itself: its masks, eight bits in a byte, everything that is not masked, and its digest."""

    digest: Tensor

    def __init__(self, generation: int, masks: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.generation = generation
        self.masks = TensorTable({name: packed(mask) for name, mask in masks.items()})
        self.state = TensorTable(state)
        self.register_buffer("digest", torch.zeros(32, dtype=torch.uint8))


def packed(mask: Bool[Tensor, "*bits"]) -> UInt8[Tensor, " byte"]:
    """Eight bits in a byte, the first in the lowest."""
    flat = nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).reshape(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8, device=mask.device)).sum(1, dtype=torch.uint8)


def unpacked(byte: UInt8[Tensor, " byte"], shape: Sequence[int]) -> Bool[Tensor, "*bits"]:
    """The mask that `packed` packed."""
    bits = (byte[:, None] >> torch.arange(8, dtype=torch.uint8, device=byte.device)) & 1
    return bits.flatten()[: math.prod(shape)].reshape(tuple(shape)).bool()
