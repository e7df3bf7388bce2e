"""What safety against interruption costs a training, and whether it holds.

The multigrid neural operator trains at its published width (24 channels, 4 layers, 6 levels, 64², batch 8). Measured is
the time of a checkpoint (all of it: serialise, checksum, write, flush, rename) as a share of the run, at the usual 30 s
between two and at one after every step; then a training in a process of its own is killed with SIGKILL at a random
moment, again and again, and what the last resumption ends with is compared bit by bit with an uninterrupted training.

    python benchmarks/resume.py
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fieldwright.datasets import Normalizer
from fieldwright.grids import Grid
from fieldwright.operators import MultigridOperator
from fieldwright.training import Phase, TrainingData, TrainingSummary, train
from record import record

SIZE, SAMPLES, STEPS, KILLS = 64, 64, 20, 2


def training(directory: Path, phase: Phase, checkpoint_seconds: float) -> TrainingSummary:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES, 1, SIZE, SIZE, generator=draws)
    outputs = torch.nn.functional.avg_pool2d(inputs, 5, stride=1, padding=2)
    unit = Normalizer(torch.zeros(1), torch.ones(1))
    pair = (inputs, outputs)
    torch.manual_seed(0)
    operator = MultigridOperator(1, 1)
    data = TrainingData(pair, (inputs[:8], outputs[:8]), unit, unit, Grid((SIZE, SIZE)))
    return train(operator, [phase], data, directory=directory, seed=0, checkpoint_seconds=checkpoint_seconds)


def overhead(every: float, phase: Phase) -> dict[str, float | str | int]:
    """Share of a run that went into checkpoints."""
    with tempfile.TemporaryDirectory() as directory:
        summary = training(Path(directory), phase, every)
        assert summary.checkpoint is not None
        return {
            "seconds between checkpoints": f"{every:g}" if every else "every step",
            "steps": summary.steps,
            "run (s)": summary.seconds,
            "in checkpoints (s)": summary.checkpoint_seconds,
            "share (%)": 100 * summary.checkpoint_seconds / summary.seconds,
            "size (MB)": summary.checkpoint.stat().st_size / 1e6,
        }


def kill_and_resume(directory: Path, draws: random.Random) -> int:
    """Run the training in a process that is killed `KILLS` times; returns how often it was in fact killed."""
    killed = 0
    command = [sys.executable, __file__, "--train", str(directory)]
    for _ in range(KILLS):
        known = len(list((directory / "checkpoints").glob("*.pt")))
        process = subprocess.Popen(command)
        while process.poll() is None and len(list((directory / "checkpoints").glob("*.pt"))) <= min(known, 1):
            time.sleep(0.01)
        time.sleep(draws.uniform(0.0, 2.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    subprocess.run(command, check=True)
    return killed


def same_bits(a: Path, b: Path) -> bool:
    """Whether the last checkpoints of two trainings hold the same weights and moments."""
    states = [torch.load(max((d / "checkpoints").glob("*.pt")), weights_only=True) for d in (a, b)]
    weights = all(torch.equal(x, states[1]["operator"][name]) for name, x in states[0]["operator"].items())
    moments = all(
        torch.equal(x, states[1]["optimizer"][name][key])
        for name, kept in states[0]["optimizer"].items()
        for key, x in kept.items()
    )
    return weights and moments


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=Path, help="only train, in this directory: the process that is killed")
    parser.add_argument("--seconds", type=float, default=65.0, help="length of the run with usual checkpoints")
    arguments = parser.parse_args()
    short = Phase(steps=STEPS, ema=0.99)
    if arguments.train is not None:
        training(arguments.train, short, 0.0)
        return
    rows = [overhead(30.0, Phase(seconds=arguments.seconds, ema=0.99)), overhead(0.0, short)]
    draws = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        whole, killed = Path(directory) / "whole", Path(directory) / "killed"
        training(whole, short, 30.0)
        times = kill_and_resume(killed, draws)
        equal = same_bits(whole, killed)
    notes = (
        f"A training of {STEPS} steps, killed {times} times with SIGKILL at random moments and resumed, ended with "
        f"{'the same bits as' if equal else 'OTHER BITS THAN'} an uninterrupted one (weights and optimizer state)."
    )
    path = record("resume", rows, title="Checkpoints: share of the run, and resumption after SIGKILL", notes=notes)
    print(path.read_text())
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
