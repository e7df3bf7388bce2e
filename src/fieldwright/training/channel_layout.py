"""What the channels of a training are to each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Self

from fieldwright.problems import Problem


@dataclass(frozen=True)
class ChannelLayout:
    """``groups`` are the output channels that make up one quantity each, such as the components of a velocity; none:
    each channel is its own. ``clock`` is the input channel that holds the time, where there is one.
    """

    groups: tuple[tuple[int, ...], ...] = ()
    clock: int | None = None

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The layout of a problem's fields."""
        named = enumerate(problem.outputs)
        groups = [
            tuple(place for place, _ in members)
            for _, members in groupby(named, key=lambda item: item[1].vector or item[0])
        ]
        names = [field.name for field in problem.inputs]
        return cls(tuple(groups), names.index(problem.clock) if problem.clock else None)
