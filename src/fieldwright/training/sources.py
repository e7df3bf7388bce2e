"""What a phase draws its batches from: samples as they are stored, or pairs of states of trajectories.

A pair is a state u(t_i), what stays beside it, and a later state u(t_j) of the same trajectory; t_j - t_i is its lead
time. An operator that takes a lead time learns the solution operator S(t, ·) from all of them at once, because
u(t_j) = S(t_j - t_i, u(t_i)) wherever the equation does not depend on time, or is told it as an input.

Source: Herde et al., "Poseidon: Efficient Foundation Models for PDEs", NeurIPS 2024 (arXiv 2405.19101), section 2,
"all2all training".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.batches import MaskedSamples, Samples
from fieldwright.training.trajectories import MaskedTrajectories, Trajectories

PairRule = Literal["next", "first", "later", "all"]


@dataclass(frozen=True)
class Drawn:
    """Samples in physical units, with their lead times (those of ``times``) and the outputs that they lack."""

    inputs: Float[Tensor, "batch channel_in *space"]
    outputs: Float[Tensor, "batch channel_out *space"]
    lead_time: Float[Tensor, " batch"] | None = None
    missing: Bool[Tensor, "batch channel_out *points"] | None = None


class Source(Protocol):
    """A set of samples to visit. ``numbers``, one for each index, decide what is drawn at random."""

    def __len__(self) -> int: ...

    def draw(self, indices: Int[Tensor, " batch"], numbers: Int[Tensor, " batch"]) -> Drawn: ...


@dataclass(frozen=True)
class StoredSamples:
    """Samples as they are stored."""

    samples: Samples

    def __len__(self) -> int:
        return len(self.samples)

    def draw(self, indices: Int[Tensor, " batch"], numbers: Int[Tensor, " batch"]) -> Drawn:
        """The samples of these indices; nothing about them is random."""
        chosen = indices.tolist()
        missing = self.samples.missing_of(chosen) if isinstance(self.samples, MaskedSamples) else None
        return Drawn(*self.samples.batch(chosen), missing=missing)


@dataclass(frozen=True)
class FramePairs:
    """Pairs of states of trajectories with stored times t_0, ..., t_K.

    ``rule``    which pairs (t_i, t_j): "next" i + ``stride`` = j, the successive ones; "first" i = 0 < j, vanilla
                training; "all" i <= j, with the identity among them; "later" i < j
    ``stride``  frames from one to the next of "next"

    The pairs of "next" and "first" are enumerated. Those of "all" and "later" are as many as K², so they are drawn:
    each visit to a trajectory draws one of its pairs, all alike, and an epoch visits every trajectory K times.

    Errors: `InputError` for an unknown rule, and for a stride that no trajectory is long enough for.
    """

    trajectories: Trajectories
    rule: PairRule
    stride: int = 1

    def __post_init__(self) -> None:
        last = len(self.trajectories.times) - 1
        if self.rule not in ("next", "first", "later", "all"):
            raise InputError(f"pairs: '{self.rule}'; allowed are next, first, later and all")
        if not 1 <= self.stride <= last:
            raise InputError(f"pairs: {self.stride} frames apart; trajectories have {last + 1} stored times")

    @property
    def per_trajectory(self) -> int:
        """Samples of one trajectory in an epoch."""
        last = len(self.trajectories.times) - 1
        return last + 1 - self.stride if self.rule == "next" else last

    def __len__(self) -> int:
        return self.trajectories.trajectories * self.per_trajectory

    def places(
        self, indices: Int[Tensor, " batch"], numbers: Int[Tensor, " batch"]
    ) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"], Int[Tensor, " batch"]]:
        """(trajectory, i, j) of each sample."""
        # Successive samples are of different trajectories, so that a few samples see many.
        trajectory = indices % self.trajectories.trajectories
        place = indices // self.trajectories.trajectories
        if self.rule == "next":
            return trajectory, place, place + self.stride
        if self.rule == "first":
            return trajectory, torch.zeros_like(place), place + 1
        chosen = self._pairs[:, numbers % self._pairs.shape[1]]
        return trajectory, chosen[0], chosen[1]

    @cached_property
    def _pairs(self) -> Int[Tensor, "both pair"]:
        steps = len(self.trajectories.times)
        return torch.triu_indices(steps, steps, offset=0 if self.rule == "all" else 1)

    def draw(self, indices: Int[Tensor, " batch"], numbers: Int[Tensor, " batch"]) -> Drawn:
        """The pairs of these indices."""
        which, first, last = self.places(indices, numbers)
        named: Sequence[int] = which.tolist()
        times = self.trajectories.times
        masked = isinstance(self.trajectories, MaskedTrajectories)
        return Drawn(
            inputs=self.trajectories.frames("inputs", named, first.tolist()),
            outputs=self.trajectories.frames("outputs", named, last.tolist()),
            lead_time=(times[last] - times[first]).float(),
            missing=self.trajectories.missing_of(named) if masked else None,  # type: ignore[attr-defined]
        )


@dataclass(frozen=True)
class LeadTimes:
    """The lead times that a training sees: ``unit`` is what the operator counts in, ``longest`` the longest seen.

    Both are in the units of the stored times.
    """

    unit: float
    longest: float

    @classmethod
    def of(cls, pairs: FramePairs, *, steps: int = 1) -> LeadTimes:
        """Those of pairs which the operator goes through in so many equal steps.

        The unit is the length of a stored trajectory, as in the published models.
        """
        times = pairs.trajectories.times
        apart = pairs.stride if pairs.rule == "next" else len(times) - 1
        return cls(float(times[-1] - times[0]), float((times[apart:] - times[:-apart]).max()) / steps)
