"""Evaluations made by hand: every figure in them is chosen, none is measured."""

import dataclasses

import numpy as np

from fieldwright.analysis import (
    CertifiedSolves,
    DefectRow,
    ErrorRow,
    ErrorSummary,
    EstimateQuality,
    Evaluation,
    ShownSample,
    SolverSpeed,
    SpeedComparison,
    Timing,
)
from fieldwright.grids import Grid
from fieldwright.problems import Field
from fieldwright.report import RunFacts

SAMPLES = 60


def timing(seconds: float) -> Timing:
    return Timing(seconds, 0.9 * seconds, 1.3 * seconds, repeats=5, samples=64)


def make_evaluation(
    *,
    dimension: int = 2,
    points: int = 32,
    inputs: tuple[Field, ...] = (Field("permeability", "m²"),),
    outputs: tuple[Field, ...] = (Field("pressure", "Pa"),),
    surrogate_seconds: float = 1.1e-3,
    solver_seconds: float = 3.1e-4,
    median: float = 0.014,
    baseline_seconds: float | None = 0.5,
) -> Evaluation:
    """A Darcy-like evaluation in ``dimension`` dimensions; by default the solver is faster than the surrogate."""
    rng = np.random.default_rng(0)
    grid = Grid((points,) * dimension)
    x = grid.coordinates().numpy()
    bump = np.prod(np.sin(np.pi * x), 0)
    wave = np.prod(np.sin(4 * np.pi * x), 0)
    phases = np.where(np.sin(7 * x[0] + (5 * x[-1] if dimension > 1 else 0)) > 0, 12.0, 3.0)
    sizes = (0.5 * median, median, 2.2 * median)
    truth = np.stack([[(c + 1) * 0.07 * bump for c in range(len(outputs))]] * 3)
    arrays = {
        "inputs": np.stack([[np.roll(phases, 3 * s + c, 0) for c in range(len(inputs))] for s in range(3)]),
        "truth": truth,
        "prediction": truth + 0.07 * np.reshape(sizes, (3, 1, *[1] * dimension)) * wave,
        "wavenumber": np.arange(40.0),
        "truth_spectrum": 1e-3 / (1 + np.arange(40.0)) ** 4,
        "error_spectrum": 1e-7 / (1 + np.arange(40.0)) ** 1.5,
    }
    rows = []
    sets = (
        ("test set", "in distribution", (points,) * dimension, 1.0),
        ("contrast 8 instead of 4", "shift", (points,) * dimension, 4.0),
        ("correlation length halved", "shift", (points,) * dimension, 2.5),
        (" × ".join(["16"] * dimension), "resolution", (16,) * dimension, 3.0),
        (" × ".join(["64"] * dimension), "resolution", (64,) * dimension, 1.8),
    )
    for i, (name, kind, shape, factor) in enumerate(sets):
        error = factor * median * np.exp(0.3 * rng.standard_normal(SAMPLES))
        arrays[f"error_{i}"] = error
        arrays[f"estimate_{i}"] = error * np.exp(0.2 * rng.standard_normal(SAMPLES))
        arrays[f"bound_{i}"] = 4 * error
        arrays[f"energy_error_{i}"] = 2 * error
        l2 = ErrorSummary(factor * median, 1.6 * factor * median, 2.2 * factor * median, SAMPLES)
        h1 = ErrorSummary(3 * l2.median, 3 * l2.p95, 3 * l2.worst, SAMPLES)
        quality = EstimateQuality(SAMPLES, 0.83, 0.97, 1.1, SAMPLES, 0, 4.0)
        rows.append(ErrorRow(name, kind, shape, l2, h1, quality))
    rows.append(ErrorRow("resolution 4096", "resolution", (), note="the surrogate cannot take it: too large"))
    solvers = [
        SolverSpeed("multigrid", "ours", solver_seconds, 1e-2, 0.9 * median, timing(solver_seconds)),
        SolverSpeed("spectral", "ours", 4 * solver_seconds, 5e-3, 0.8 * median, timing(4 * solver_seconds)),
        SolverSpeed("scipy.sparse.linalg.spsolve, one by one", "scipy", 8e-3, 0.5, 1e-9, timing(8e-3)),
    ]
    if baseline_seconds is not None:
        solvers.append(SolverSpeed("your own solver", "user", baseline_seconds))
    return Evaluation(
        grid=grid,
        inputs=inputs,
        outputs=outputs,
        errors=tuple(rows),
        mean_field=0.31,
        defects=(
            DefectRow("residual", ErrorSummary(0.4, 0.7, 1.2, SAMPLES)),
            DefectRow("flux", ErrorSummary(0.004, 0.01, 0.03, SAMPLES), ErrorSummary(1e-9, 5e-9, 8e-9, SAMPLES)),
        ),
        speed=SpeedComparison(
            target=median,
            batched=timing(surrogate_seconds),
            one_by_one=timing(5 * surrogate_seconds),
            solvers=tuple(solvers),
            left_out={"direct": "takes at most 10,000 unknowns"},
            threads=2,
            device="cpu",
        ),
        certified=CertifiedSolves(
            1e-6, "multigrid", ErrorSummary(6, 7, 7, 32), ErrorSummary(8, 9, 9, 32), 2.0, 1.0, 3.0
        ),
        shown=tuple(
            ShownSample(label, 17 * i, size)
            for i, (label, size) in enumerate(zip(("best", "median", "worst"), sizes, strict=True))
        ),
        seconds=12.0,
        arrays=arrays,
    )


def make_facts(**changes) -> RunFacts:
    facts = RunFacts(
        title="darcy",
        problem="Darcy flow, -∇·(a ∇u) = f on the unit box: permeability a -> pressure u.",
        operator="multigrid",
        parameters=576_001,
        solver="multigrid",
        seed=0,
        command="fieldwright run darcy data.train=1000 data.test=200 problem.resolution=64 --out runs/darcy",
        recipe="problem:\n  kind: darcy\n  resolution: 64\n  walls: dirichlet\n"
        "data: {train: 1000, valid: 100, test: 200, solver: auto, rtol: 1.0e-08, shard_samples: 250}\nseed: 0\n",
        stage_seconds={"generate": 3.2, "train": 181.0, "evaluate": 12.0},
        metrics=[
            {
                "step": 20 * (i + 1),
                "train_loss": 0.5 / (1 + i) ** 0.7 * (1 + 0.2 * np.sin(5.0 * i)),
                "valid_l2": 0.4 / (1 + i) ** 0.75 if i % 5 == 4 else None,
            }
            for i in range(150)
        ],
        dataset={"samples": {"train": 1000, "valid": 100, "test": 200}, "rtol": 1e-8, "worst residual": 9.1e-9},
        checksums={f"train/darcy_{i}.hdf5": f"{i}d4f9c2ab7e61f0358" * 4 for i in range(3)},
        environment={
            "fieldwright": "0.1.0",
            "python": "3.11.2",
            "packages": {"torch": "2.13.0", "numpy": "2.3.1", "numba": "0.62.0"},
            "processor": "Some Vendor Processor 8480C with a long name, 2.00 GHz",
            "accelerator": None,
        },
        created="2026-11-23 18:00 UTC",
    )
    return dataclasses.replace(facts, **changes)
