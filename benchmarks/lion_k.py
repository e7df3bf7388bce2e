"""The step of Lion-K with signs beside torch's fused AdamW and lion-pytorch, and its spectral step beside torch's Muon.

    OMP_NUM_THREADS=1 python benchmarks/lion_k.py

CPU time of one thread, the least of many steps, candidates in turn. lion-pytorch (0.2.5) is measured where it can be
imported; its parameters are compared with ours in all bits first.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from fieldwright.training.lion_k import LionK
from record import record

CASES = {"200 x 50,000": (200, 50_000), "2000 x 500": (2000, 500), "20 x 500,000": (20, 500_000)}
REPEATS = 15
OURS = "Lion-K, compiled"


def parameters(count: int, size: int) -> list[nn.Parameter]:
    """Tensors of normal numbers with gradients, the same in every call."""
    draws = torch.Generator().manual_seed(0)
    tensors = [nn.Parameter(torch.randn(size, generator=draws)) for _ in range(count)]
    for tensor in tensors:
        tensor.grad = torch.randn(size, generator=draws)
    return tensors


def candidates() -> dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]:
    """Every optimizer by its name."""
    shared = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.1}
    found: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        OURS: lambda p: LionK(p, kappa="sign", kernel="compiled", **shared),
        "Lion-K, compiled, bfloat16 momentum": lambda p: LionK(
            p, kappa="sign", kernel="compiled", state_dtype=torch.bfloat16, **shared
        ),
        "Lion-K, blocked (eager)": lambda p: LionK(p, kappa="sign", kernel="blocked", **shared),
        "Lion-K, foreach": lambda p: LionK(p, kappa="sign", **shared),
        "torch AdamW, fused": lambda p: torch.optim.AdamW(p, fused=True, **shared),
    }
    try:
        from lion_pytorch import Lion
        from lion_pytorch.foreach import Lion as ForeachLion
    except ImportError:
        return found
    return found | {
        "lion-pytorch": lambda p: Lion(p, **shared),
        "lion-pytorch, foreach": lambda p: ForeachLion(p, **shared),
    }


def step_seconds(count: int, size: int) -> dict[str, float]:
    """The least CPU time of a step of each candidate."""
    optimizers = {name: build(parameters(count, size)) for name, build in candidates().items()}
    fastest = dict.fromkeys(optimizers, float("inf"))
    for repeat in range(REPEATS):
        for name, optimizer in optimizers.items():
            start = time.thread_time()
            optimizer.step()
            seconds = time.thread_time() - start
            if repeat > 0:
                fastest[name] = min(fastest[name], seconds)
    exact = [name for name in optimizers if "AdamW" not in name and "bfloat16" not in name]
    weights = {name: optimizers[name].param_groups[0]["params"] for name in exact}
    for name in exact:
        if not all(torch.equal(a, b) for a, b in zip(weights[name], weights[OURS], strict=True)):
            print(f"{name}: not the bits of {OURS}")
    return fastest


def main() -> None:
    """Measure all cases and write the table."""
    torch.set_num_threads(1)
    measured = {case: step_seconds(*shape) for case, shape in CASES.items()}
    rows = []
    for name in next(iter(measured.values())):
        row: dict[str, str | float] = {"step": name}
        for case, seconds in measured.items():
            row[f"{case}, ms"] = 1e3 * seconds[name]
            row[f"{case}, AdamW / this"] = seconds["torch AdamW, fused"] / seconds[name]
            if "lion-pytorch" in seconds:
                row[f"{case}, lion-pytorch / this"] = seconds["lion-pytorch"] / seconds[name]
        rows.append(row)
    record(
        "lion_k",
        rows,
        title="The step of Lion-K with signs",
        notes=f"CPU time of one thread, the least of {REPEATS - 1} steps, candidates in turn; tensors x entries, "
        "float32. "
        "All Lions but the one with a bfloat16 momentum end with the same bits of all parameters, or a line says so.",
    )


if __name__ == "__main__":
    main()
