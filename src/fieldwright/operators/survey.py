"""What each operator takes, how large it is and how much it computes, measured and not looked up."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators.build import OPERATORS, POINT_OPERATORS, build_operator, parameter_count
from fieldwright.operators.flops import forward_flops

DIMENSIONS = (1, 2, 3)
USUAL_POINTS = {1: 256, 2: 64, 3: 32}
"""Points per axis where none are stated."""

MOST_POINTS = 1024
"""Scattered points on which an operator on points is counted, at most: its work grows in proportion to them."""


@dataclass(frozen=True)
class OperatorFacts:
    """An operator at its defaults.

    ``dimensions``   of the grids or points that it works on
    ``takes``        "grid", "grid, any points" where its outputs can be asked for at points, "frames" where it takes
                     trajectories too, or "points"
    ``parameters``, ``flops``  weights, and operations of one forward pass on one sample (`fieldwright.operators.flops`)
    ``paper``        whose method it is
    ``note``         why there are no figures, where there are none, and of how many points those of a set of points are
    """

    name: str
    dimensions: tuple[int, ...]
    takes: str
    parameters: int | None
    flops: int | None
    paper: str
    note: str = ""


def usual_shape(points: Sequence[int] | None, dimension: int | None) -> tuple[int, ...]:
    """A grid of these points per axis: one number serves for every axis, and none for the usual ones.

    Errors: `InputError` for numbers of points that are not as many as axes.
    """
    if points is None:
        return (USUAL_POINTS[dimension or 2],) * (dimension or 2)
    if dimension is not None and len(points) == 1:
        return (points[0],) * dimension
    if dimension not in (None, len(points)):
        raise InputError(f"grid: {len(points)} axes, {', '.join(map(str, points))}, in dimension {dimension}")
    return tuple(points)


def survey(shape: Sequence[int], *, in_channels: int = 1, out_channels: int = 1) -> tuple[OperatorFacts, ...]:
    """The facts of every operator, on a grid of this shape, or on as many points, with walls of the Dirichlet kind.

    Errors: `InputError` for a shape or channels that no operator takes.
    """
    if len(shape) not in DIMENSIONS or any(n < 1 for n in shape):
        raise InputError(f"grid: {tuple(shape)}; one to three positive numbers of points are needed")
    if min(in_channels, out_channels) < 1:
        raise InputError(f"channels: {in_channels} in, {out_channels} out; at least 1 is needed of both")
    with torch.random.fork_rng(devices=[]):
        return tuple(
            _facts(name, cls, tuple(shape), in_channels, out_channels)
            for name, cls in {**OPERATORS, **POINT_OPERATORS}.items()
        )


def paper(cls: type[nn.Module]) -> str:
    """Authors, title and venue of the first source that an operator's documentation names."""
    for text in (inspect.getdoc(cls), inspect.getdoc(inspect.getmodule(cls))):
        found = re.search(r'Sources?: ([^;"]*"[^"]*"[^;"]*?\d{4})', " ".join((text or "").split()))
        if found:
            return found[1]
    return ""


def _facts(name: str, cls: type[nn.Module], shape: tuple[int, ...], ins: int, outs: int) -> OperatorFacts:
    dimensions = tuple(d for d in DIMENSIONS if _works_in(name, cls, d))
    takes = _takes(name, cls)
    inputs = _inputs(name, shape, ins)
    try:
        operator = _built(name, cls, len(shape), ins, outs)
        flops = forward_flops(operator, *inputs)
    except InputError as error:
        return OperatorFacts(name, dimensions, takes, None, None, paper(cls), str(error))
    note = f"on {inputs[0].shape[1]} points" if name in POINT_OPERATORS else ""
    return OperatorFacts(name, dimensions, takes, parameter_count(operator), flops, paper(cls), note)


def _takes(name: str, cls: type[nn.Module]) -> str:
    if name in POINT_OPERATORS:
        return "points"
    if "known" in inspect.signature(cls.__init__).parameters:
        return "grid, frames"
    return "grid, any points" if hasattr(cls, "at") else "grid"


def _built(name: str, cls: type[nn.Module], dimension: int, ins: int, outs: int) -> nn.Module:
    if name in OPERATORS:
        return build_operator(name, {}, ins, outs, dimension, Boundary.parse("dirichlet", dimension))
    return cls(ins, outs, dimension=dimension)


def _inputs(name: str, shape: tuple[int, ...], channels: int) -> tuple[Tensor, ...]:
    if name in OPERATORS:
        return (torch.zeros(1, channels, *shape),)
    count = min(math.prod(shape), MOST_POINTS)
    return torch.zeros(1, count, channels), torch.rand(1, count, len(shape))


def _works_in(name: str, cls: type[nn.Module], dimension: int) -> bool:
    try:
        with torch.device("meta"):
            _built(name, cls, dimension, 1, 1)
    except InputError:
        return False
    return True
