"""Ghost batch normalisation beside batch normalisation: what ghosts of 64 in a batch of 1024 cost.

Side by side, in one process and in turn: torch's batch normalisation, `GhostBatchNorm`, and the loop over chunks by
which ghosts are usually made, forward and backward, of the layer alone and in small networks. CPU time of one thread,
the least of `ROUNDS` rounds; what each gives is checked first.

Run: python benchmarks/ghost_norm.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fieldwright.allocator import freed_memory_kept
from fieldwright.training.ghost_norm import GhostBatchNorm, with_ghost_norm
from record import markdown_table, record

BATCH, GHOST = 1024, 64
ROUNDS = 15
PLAIN, GHOSTS, LOOP = "BatchNorm", "GhostBatchNorm", "loop over chunks"


class ChunkLoop(nn.Module):
    """Ghosts one after another, of neighbouring samples."""

    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.layer, self.size = layer, size

    def forward(self, fields: Tensor) -> Tensor:
        return torch.cat([self.layer(ghost) for ghost in fields.split(self.size)])


def looped(module: nn.Module, size: int) -> nn.Module:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, ChunkLoop(child, size))
    return module


def blocks() -> nn.Module:
    layers: list[nn.Module] = []
    for inner in (3, 32):
        layers += [nn.Conv2d(inner, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers)


def perceptron() -> nn.Module:
    return nn.Sequential(*[part for _ in range(2) for part in (nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU())])


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layer alone, 512 features": (lambda: nn.Sequential(nn.BatchNorm1d(512)), (512,)),
    "two layers of 512 features": (perceptron, (512,)),
    "layer alone, 32 channels of 16 x 16": (lambda: nn.Sequential(nn.BatchNorm2d(32)), (32, 16, 16)),
    "two convolutional blocks, 16 x 16": (blocks, (3, 16, 16)),
}


def candidates(build: Callable[[], nn.Module]) -> dict[str, nn.Module]:
    made = []
    for change in (lambda m: m, lambda m: with_ghost_norm(m, GHOST), lambda m: looped(m, GHOST)):
        torch.manual_seed(0)
        made.append(change(build()))
    return dict(zip((PLAIN, GHOSTS, LOOP), made, strict=True))


def measure(case: str) -> list[dict[str, object]]:
    build, shape = CASES[case]
    fields = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    models = candidates(build)
    assert any(isinstance(layer, GhostBatchNorm) for layer in models[GHOSTS].modules())
    dealt = torch.arange(BATCH).reshape(GHOST, -1).T.flatten()  # neighbours in the loop are ghosts in ours
    torch.testing.assert_close(models[GHOSTS](fields)[dealt], models[LOOP](fields[dealt]), rtol=1e-4, atol=1e-4)
    pull = torch.randn_like(models[PLAIN](fields))
    least = dict.fromkeys(models, float("inf"))
    for _ in range(ROUNDS):
        for name, model in models.items():
            start = time.thread_time()
            model(fields).backward(pull)
            least[name] = min(least[name], time.thread_time() - start)
    return [
        {"case": case, "normalisation": name, "milliseconds": 1e3 * own, "times BatchNorm": own / least[PLAIN]}
        for name, own in least.items()
    ]


def main() -> None:
    torch.set_num_threads(1)
    with freed_memory_kept():
        rows = [row for case in CASES for row in measure(case)]
    print(markdown_table(rows))
    record(
        "ghost_norm",
        rows,
        title=f"Ghost batch normalisation: batch {BATCH}, ghosts of {GHOST}, forward and backward",
        notes=f"CPU time of one thread, the least of {ROUNDS} rounds in turn. Goal: below 1.15 times BatchNorm.",
    )


if __name__ == "__main__":
    main()
