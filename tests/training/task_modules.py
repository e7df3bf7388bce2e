"""Modules of several kinds, tasks for them, and a bare training loop that calls an operator's callbacks."""

import torch
from torch import nn

from fieldwright.operators import FourierOperator, OperatorTransformer
from fieldwright.training import Step
from fieldwright.training.optimizers import OPTIMIZERS


def perceptron(width=40):
    return nn.Sequential(nn.Linear(16, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 16))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1),
    )  # fmt: skip


def fourier():
    return FourierOperator(1, 1, modes=6, width=8, layers=2, dimension=1)


def transformer():
    return OperatorTransformer(1, 1, patch=2, width=8, depths=[1, 1], heads=[2, 2], window=4)


MODULES = {
    "perceptron": (perceptron, (16,)),
    "convolutions": (convolutions, (1, 8, 8)),
    "fourier": (fourier, (1, 24)),
    "transformer": (transformer, (1, 16, 16)),
}
"""Builders, and the shapes of a sample."""


def built(name, seed=0):
    torch.manual_seed(seed)
    return MODULES[name][0]()


def sample_pairs(name, seed, samples=6):
    draws = torch.Generator().manual_seed(seed)
    shape = (samples, *MODULES[name][1])
    return torch.randn(shape, generator=draws), torch.randn(shape, generator=draws)


def steps(operator, pairs, *, count=12, optimizer="adamw", callbacks=None, watch=None):
    """Train on mean squares; ``watch`` is called after every step."""
    inputs, targets = pairs
    callbacks = operator.callbacks() if callbacks is None else callbacks
    chosen = OPTIMIZERS[optimizer]([p for p in operator.parameters() if p.requires_grad], 3e-3, 0.1)
    operator.train()
    for index in range(count):
        step = Step(operator, chosen, index, index / count, 3e-3, len(inputs))
        if index == 0:
            for callback in callbacks:
                callback.begin(step)
        chosen.zero_grad()
        (operator(inputs) - targets).square().mean().backward()
        for callback in callbacks:
            callback.after_backward(step)
        chosen.step()
        for callback in callbacks:
            callback.after_update(step)
        if watch is not None:
            watch(chosen)
    for callback in callbacks:
        callback.end(step)
    operator.eval()
    return chosen
