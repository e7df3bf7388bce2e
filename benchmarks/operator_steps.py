"""Latent spectral model and operator transformer beside their published forms: time and memory of a training step.

Side by side, in one process and in turn: neuraloperator's FNO (16 modes, 32 channels, 4 layers, batch 8), the published
LSM (32 channels, patches of a sixteenth of the grid, batch 8) and `LatentSpectralOperator` of the same size on 64 x 64
and 128 x 128 points; the published scOT of size T (batch 4, 128 x 128, four fields, gradient clipped at 5) and
`OperatorTransformer`, which first have to agree on the same weights. The published ones are written plainly in
`published_operators`. Ours run as our training loop runs them: with freed memory kept and in the precision that
``auto`` takes here. Peak memory is that of a process of its own that takes three steps (Linux).

Run: python benchmarks/operator_steps.py [GRID ...]      (grids as in the table; needs `pip install fieldwright[peers]`)
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from neuralop.models import FNO
from torch import Tensor, nn

from fieldwright.allocator import freed_memory_kept
from fieldwright.operators import FourierOperator, LatentSpectralOperator, OperatorTransformer, parameter_count
from fieldwright.training.devices import multiplies_bfloat16
from published_operators import PublishedLatentSpectral, PublishedTransformer
from record import interleaved, markdown_table, median_ratio, record

ROUNDS = 3
REFERENCE = {"64x64": "neuraloperator FNO", "128x128": "neuraloperator FNO", "scOT-T 128x128": "scOT as published"}
BFLOAT16 = multiplies_bfloat16(torch.device("cpu"))


def models(grid: str) -> dict[str, Callable[[], nn.Module]]:
    """How the candidates on a grid are built."""
    if grid.startswith("scOT"):
        return {"scOT as published": PublishedTransformer, "OperatorTransformer": lambda: OperatorTransformer(4, 4)}
    patch = int(grid.partition("x")[0]) // 16
    fno = {"in_channels": 1, "out_channels": 1, "hidden_channels": 32, "n_layers": 4}
    return {
        "neuraloperator FNO": lambda: FNO(n_modes=(16, 16), **fno),
        "FourierOperator": lambda: FourierOperator(1, 1, modes=16, width=32, layers=4),
        "LSM as published": lambda: PublishedLatentSpectral(patch=patch),
        "LatentSpectralOperator": lambda: LatentSpectralOperator(1, 1, patch=patch),
    }


def ours(name: str) -> bool:
    return name.endswith(("Operator", "OperatorTransformer"))


def sample(grid: str) -> tuple[Tensor, ...]:
    """Inputs of the call: fields, and lead times where the candidates take them."""
    generator = torch.Generator().manual_seed(0)
    if grid.startswith("scOT"):
        return torch.randn(4, 4, 128, 128, generator=generator), torch.rand(4, generator=generator)
    n = int(grid.partition("x")[0])
    return (torch.randn(8, 1, n, n, generator=generator),)


def calls(name: str, grid: str, operator: nn.Module) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step (forward, mean absolute error, backward, clipped AdamW) and a forward pass in evaluation."""
    given = sample(grid)
    targets = torch.randn(given[0].shape, generator=torch.Generator().manual_seed(1))
    half = BFLOAT16 and ours(name) and getattr(operator, "bfloat16_pays", False)
    # The fused AdamW does not take the complex weights of neuraloperator; torch's default does.
    real = not any(parameter.is_complex() for parameter in operator.parameters())
    optimizer = torch.optim.AdamW(operator.parameters(), lr=1e-4, fused=True if real else None)

    def step() -> None:
        operator.train()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outputs = operator(*given)
        (outputs.float() - targets).abs().mean().backward()
        nn.utils.clip_grad_norm_(operator.parameters(), 5.0)
        optimizer.step()

    def forward() -> None:
        operator.eval()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            operator(*given)

    def allocated(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            with freed_memory_kept() if ours(name) else contextlib.nullcontext():
                call()
                call()

        return run

    return allocated(step), allocated(forward)


def measure(grid: str, threads: int) -> list[dict[str, object]]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    built = {name: build() for name, build in models(grid).items()}
    if grid.startswith("scOT"):
        check_equal(built["scOT as published"], built["OperatorTransformer"], sample(grid))
    pairs = {name: calls(name, grid, operator) for name, operator in built.items()}
    steps = interleaved({name: step for name, (step, _) in pairs.items()}, repeats=ROUNDS)
    passes = interleaved({name: forward for name, (_, forward) in pairs.items()}, repeats=ROUNDS)
    reference = REFERENCE[grid]
    return [
        {
            "grid": grid,
            "threads": threads,
            "operator": name,
            "parameters": parameter_count(operator),
            "seconds per step": statistics.median(steps[name]) / 2,
            "step / reference's": median_ratio(steps[name], steps[reference]),
            "seconds per forward pass": statistics.median(passes[name]) / 2,
            "pass / reference's": median_ratio(passes[name], passes[reference]),
            "peak memory (MB)": peak_memory(grid, name) if threads == 1 else None,
        }
        for name, operator in built.items()
    ]


def check_equal(published: nn.Module, mine: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Stop unless both give the same outputs from the same weights."""
    mine.load_state_dict(published.state_dict(), strict=True)
    with torch.inference_mode():
        expected, found = published(*given), mine(*given)
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error < 1e-4:
        raise SystemExit(f"operator_steps: the two transformers differ by {error:.1e} on the same weights")


def peak_memory(grid: str, name: str) -> int:
    """Most resident memory of a process that takes three steps, less that of one that only builds the operator."""
    command = [sys.executable, __file__, "--memory", grid, name]
    alone, stepping = (int(subprocess.check_output([*command, count]).split()[-1]) for count in ("0", "3"))
    return (stepping - alone) // 1024


def take_steps(grid: str, name: str, count: int) -> None:
    torch.set_num_threads(1)
    step, _ = calls(name, grid, models(grid)[name]())
    for _ in range(count):
        step()
    # Not getrusage: a child's figure there begins with its parent's.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(status.partition("VmHWM:")[2].split()[0])


def main(grids: list[str]) -> None:
    rows = []
    for grid in grids or list(REFERENCE):
        for threads in (1, 2):
            rows += measure(grid, threads)
            print(markdown_table(rows[-len(models(grid)) :]), flush=True)
    path = record(
        "operator_steps",
        rows,
        title="Latent spectral model and operator transformer: a step and a forward pass, beside the published forms",
        notes="Median of interleaved repeats, two calls each; ratios are medians of the ratios round by round. The "
        f"reference is neuraloperator's FNO on 64x64 and 128x128, the published scOT for scOT. Precision that 'auto' "
        f"takes on this processor: {'bfloat16 where it pays' if BFLOAT16 else 'float32 throughout'}. Ours with freed "
        "memory kept, as in our training loop. Memory beyond that of the process with the operator built.",
    )
    print(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        take_steps(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(sys.argv[1:])
