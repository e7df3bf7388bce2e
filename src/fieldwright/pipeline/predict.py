"""Predictions from file to file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fieldwright.datasets import read_fields, write_fields
from fieldwright.errors import DataError, InputError
from fieldwright.pipeline.stages import device_name
from fieldwright.problems import Problem
from fieldwright.progress import SILENT, Reporter
from fieldwright.surrogate import Surrogate


def predict_file(
    run: Path,
    source: Path,
    target: Path,
    *,
    rtol: float | None = None,
    frames: int | None = None,
    lead_time: float | None = None,
    device: str = "auto",
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Read input fields from ``source``, predict, and write outputs with their error estimates to ``target``.

    With ``rtol`` the outputs are certified: solved to that relative residual, from the prediction. With ``frames`` a
    problem in time is rolled out, and the outputs have a time axis after the sample's, the first state included. With
    ``lead_time`` a surrogate that was trained for any answers so much later, or rolls out in such steps.

    A file of one array holds (sample, *space) or (sample, channel, *space), or one sample without its axis; a file of
    named arrays holds one (sample, *space) per input field. ``target`` gets an array per output field, and
    ``error_estimate``, ``error_bound`` and ``residual`` per sample where its format holds names.

    Errors: `DataError` for a file that cannot be read or lacks a field, `InputError` for fields the surrogate cannot
    take, `StorageError` when ``target`` cannot be written.
    """
    surrogate = Surrogate.load(run).to(device_name(device))
    problem = surrogate.problem
    if rtol is not None and not 0 < rtol < 1:
        raise InputError(f"solve: {rtol:g} is no relative residual; a number between 0 and 1 is needed")
    if rtol is not None and frames is not None:
        raise InputError("frames: a roll-out is not certified; leave out one of --frames and --solve")
    if rtol is not None and lead_time is not None:
        raise InputError("lead_time: a prediction at another time is not certified; leave out one of the two")
    inputs = input_tensor(read_fields(source), problem, source)
    with (
        reporter.stage("Certifying" if rtol else "Predicting", total=len(inputs), unit="samples") as stage,
        warnings.catch_warnings(record=True) as warned,
    ):
        warnings.simplefilter("default", UserWarning)
        per_sample: dict[str, Tensor]
        if frames is not None:
            # An output is then (sample, time, *space).
            fields, per_sample = surrogate.roll_out(inputs, frames, lead_time=lead_time).transpose(1, 2), {}
        elif rtol is None:
            prediction = surrogate.predict(inputs, lead_time)
            fields = prediction.fields
            per_sample = {n: getattr(prediction, n) for n in ("error_estimate", "error_bound", "residual")}
        else:
            certified = surrogate.solve(inputs, rtol=rtol)
            fields = certified.fields
            per_sample = {"residual": certified.solution.residual, "iterations": certified.solution.iterations}
            if certified.iterations_without_guess is not None:
                per_sample["iterations_without_guess"] = certified.iterations_without_guess
        stage.advance(len(inputs))
    for said in dict.fromkeys(str(warning.message) for warning in warned):
        reporter.notice(said)
    named = {field.name: fields[:, c].cpu().numpy() for c, field in enumerate(problem.outputs)}
    if target.suffix.lower() == ".npy":
        outputs = fields if frames is None else fields.transpose(1, 2)
        write_fields(target, named if len(named) == 1 else {"outputs": outputs.cpu().numpy()})
    else:
        write_fields(target, {**named, **{name: values.cpu().numpy() for name, values in per_sample.items()}})
    means = {f"mean_{name}": _finite_mean(values) for name, values in per_sample.items()}
    return {"samples": len(inputs), "output": str(target), **means, "sentence": _sentence(len(inputs), target, means)}


def input_tensor(arrays: dict[str, np.ndarray], problem: Problem, source: Path) -> Tensor:
    """Arrays of a file as (batch, channel, *space) in the problem's order of fields.

    Errors: `DataError` when a field is missing or the arrays do not fit together.
    """
    names = [field.name for field in problem.inputs]
    if all(name in arrays for name in names):
        parts = [arrays[name] for name in names]
        if len({part.shape for part in parts}) > 1:
            raise DataError(f"{source}: {', '.join(names)} have shapes {', '.join(str(p.shape) for p in parts)}")
        array = np.stack([_with_sample_axis(part, problem) for part in parts], axis=1)
    elif len(arrays) == 1:
        array = next(iter(arrays.values()))
        if array.ndim < problem.grid.dimension + 2 and len(names) == 1:
            array = _with_sample_axis(array, problem)[:, None]
    else:
        raise DataError(f"{source}: holds {', '.join(arrays)}; the surrogate needs {', '.join(names)}")
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"{source}: holds values of type {array.dtype}; real numbers are needed")
    precision = torch.float32 if array.dtype == np.float32 else torch.float64
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))).to(precision)


def _with_sample_axis(array: np.ndarray, problem: Problem) -> np.ndarray:
    return array[None] if array.ndim == problem.grid.dimension else array


def _finite_mean(values: Tensor) -> float | None:
    mean = float(values.double().mean()) if len(values) else math.nan
    return mean if math.isfinite(mean) else None


def _sentence(samples: int, target: Path, means: dict[str, float | None]) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in means.items() if value is not None)
    return f"{samples} samples written to {target}" + (f"; {facts}" if facts else "")
