"""Data of one's own: train an operator on arrays from files, save it, load it, predict. No equation is needed.

Run: python own_data.py inputs.npy outputs.npy        arrays (sample, channel, x, y), as NumPy, HDF5 or .mat files
"""

import sys
from pathlib import Path

import torch

from fieldwright.datasets import Normalizer, read_fields
from fieldwright.grids import Grid
from fieldwright.operators import MultigridOperator, load_operator, save_operator
from fieldwright.progress import Reporter
from fieldwright.training import Phase, PhysicalPrediction, TrainingData, train


def fields(path):
    """The one array of a file as float32, samples first."""
    return torch.from_numpy(next(iter(read_fields(path).values()))).float()


def main(inputs_file, outputs_file, directory="runs/own-data", steps=1000):
    """Train on nine tenths of the samples, validate on the rest, and return the prediction for the first sample."""
    inputs, outputs = fields(inputs_file), fields(outputs_file)
    held_out = len(inputs) // 10
    data = TrainingData(
        train=(inputs[held_out:], outputs[held_out:]),
        valid=(inputs[:held_out], outputs[:held_out]),
        inputs=Normalizer.fit(inputs[held_out:]),
        outputs=Normalizer.fit(outputs[held_out:]),
        grid=Grid(tuple(inputs.shape[2:]), "cell"),
    )
    operator = MultigridOperator(inputs.shape[1], outputs.shape[1], width=16, levels=4, boundary="neumann")
    summary = train(operator, [Phase(steps=steps)], data, directory=Path(directory), seed=0, reporter=Reporter())
    print(f"relative L2 error on held-out samples: {summary.validation.relative_l2:.2%}")
    save_operator(summary.operator, Path(directory) / "operator")
    predict = PhysicalPrediction(load_operator(Path(directory) / "operator"), data.inputs, data.outputs)
    with torch.no_grad():
        return predict(inputs[:1])


if __name__ == "__main__":
    main(*sys.argv[1:])
