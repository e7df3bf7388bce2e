"""Darcy flow as the gallery's races use it: samples for training and validation, and others for the test."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldwright.datasets import Normalizer
from fieldwright.problems import Darcy
from fieldwright.training import TrainingData


def darcy_data(problem: Darcy, samples: int, test_samples: int) -> tuple[TrainingData, tuple[Tensor, Tensor]]:
    """Training data with a few samples for validation, and the test's (coefficients, pressures), all solved here.

    Pressures are scaled and not shifted, so that zero stays zero.
    """
    valid = 20 if samples > 100 else 4
    inputs = problem.sample(range(samples + valid + test_samples), seed=0)
    outputs, _ = problem.solve(inputs)
    parts = [samples, valid, test_samples]
    (a, a_valid, a_test), (u, u_valid, u_test) = inputs.split(parts), outputs.split(parts)
    data = TrainingData(
        (a.float(), u.float()),
        (a_valid.float(), u_valid.float()),
        inputs=Normalizer.fit(a),
        outputs=Normalizer(torch.zeros(1), u.std().float().reshape(1)),
        grid=problem.grid,
    )
    return data, (a_test, u_test)
