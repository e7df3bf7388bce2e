"""A growth plan: where each tensor of a grown module, and the optimizer's state of it, comes from, as data.

    W' = Σ_t gain_t · (A_1 ⊗ A_2 ⊗ ... ) src_t  +  Σ_s draw_s,          A_i: one linear map per axis

Maps are applied by the names of tensors, so a plan is the same for weights, for their moving average and, with the map
that the gradients obey, for the moments of an optimizer: with g' = A g they are m' = A m and v' = (A ∘ A) v.

Sources: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 3 and appendix A, for the four operators that
plans express; the rules of the moments follow from the chain rule.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from fieldwright.errors import DataError, InputError

NamedTensors = Mapping[str, Tensor]
NamedState = dict[str, dict[str, Tensor]]
Preserves = Literal["exact", "sum-of-members", "none"]
Moments = Literal["clone", "second-only", "reset"]
MOMENTS: tuple[Moments, ...] = ("clone", "second-only", "reset")

SECOND_MOMENTS = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
"""Names under which torch's optimizers keep averages or sums of squared gradients."""


@dataclass(frozen=True)
class Axis:
    """A linear map along one axis: entry j of the target is gain_j times entry index_j of the source.

    ``index``  a place in the source for each entry of the target, -1 for none
    ``gain``   a factor for each; empty: 1
    ``rows``   instead of both: a dense matrix (target, source)
    """

    index: tuple[int, ...] = ()
    gain: tuple[float, ...] = ()
    rows: tuple[tuple[float, ...], ...] = ()

    def apply(self, tensor: Tensor, axis: int, *, squared: bool = False) -> Tensor:
        """The map along an axis of a tensor; ``squared`` with the squares of its entries."""
        if self.rows:
            matrix = torch.tensor(self.rows, dtype=tensor.real.dtype, device=tensor.device)
            matrix = (matrix.square() if squared else matrix).to(tensor.dtype)
            return torch.tensordot(tensor, matrix, dims=([axis], [1])).movedim(-1, axis)  # type: ignore[arg-type]
        index = torch.tensor(self.index, device=tensor.device)
        gain = torch.tensor(self.gain or [1.0] * len(self.index), dtype=torch.float64, device=tensor.device)
        gain = torch.where(index < 0, torch.zeros_like(gain), gain.square() if squared else gain).to(tensor.dtype)
        shape = [1] * tensor.ndim
        shape[axis] = len(self.index)
        return tensor.index_select(axis, index.clamp(min=0)) * gain.view(shape)


@dataclass(frozen=True)
class Copy:
    """``gain`` times a source tensor, with a map on each of the ``axes`` that are named by their number."""

    source: str
    gain: float = 1.0
    axes: Mapping[int, Axis] = field(default_factory=dict)

    def value(self, source: Tensor, *, squared: bool = False) -> Tensor:
        """The term of the sum; ``squared`` with the squares of all coefficients."""
        for axis, mapping in self.axes.items():
            source = mapping.apply(source, axis, squared=squared)
        return source * (self.gain**2 if squared else self.gain)


@dataclass(frozen=True)
class Draw:
    """Fresh values in a ``box`` of (start, stop) per axis; empty: everywhere.

    ``kind``   "normal" of deviation ``scale``, "uniform" in ± ``scale``, "constant" at ``scale``, or "built": ``scale``
               times what a freshly built module holds there
    """

    kind: Literal["normal", "uniform", "constant", "built"]
    scale: float = 1.0
    box: tuple[tuple[int, int], ...] = ()

    def add_to(self, out: Tensor, built: Tensor | None, generator: torch.Generator) -> None:
        """Add the values to the target in place."""
        region = out
        for axis, (start, stop) in enumerate(self.box):
            region = region.narrow(axis, start, stop - start)
            built = None if built is None else built.narrow(axis, start, stop - start)
        if self.kind == "constant":
            region += self.scale
        elif self.kind == "built":
            if built is None:
                raise InputError("growth: a plan with values of a freshly built module needs that module")
            region += self.scale * built.to(region.device, region.dtype)
        else:
            # On the CPU and in double precision: the same values on every device and in every number of processes.
            if self.kind == "normal":
                values = torch.randn(region.shape, generator=generator, dtype=torch.float64)
            else:
                values = 2 * torch.rand(region.shape, generator=generator, dtype=torch.float64) - 1
            region += self.scale * values.to(region.device, region.dtype)


@dataclass(frozen=True)
class TensorMap:
    """A target tensor of this ``shape`` as a sum of `Copy` and `Draw` terms; none: zero."""

    shape: tuple[int, ...]
    terms: tuple[Copy | Draw, ...] = ()

    @classmethod
    def clone(cls, source: str, shape: Iterable[int]) -> Self:
        """The source as it is."""
        return cls(tuple(shape), (Copy(source),))

    @property
    def copies(self) -> tuple[Copy, ...]:
        return tuple(term for term in self.terms if isinstance(term, Copy))

    @property
    def is_clone(self) -> bool:
        """Whether it is one source tensor, unchanged."""
        return len(self.terms) == 1 and self.terms[0] == Copy(getattr(self.terms[0], "source", ""))

    def value(self, source: NamedTensors, name: str, *, seed: int = 0, built: Tensor | None = None) -> Tensor:
        """The target tensor ``name``. Draws depend on seed, name and the place of the term alone.

        Errors: `DataError` when a source is missing or has another shape than the map is for.
        """
        like = source[self.copies[0].source] if self.copies and self.copies[0].source in source else built
        if like is None:
            like = torch.empty(0, dtype=next((t.dtype for t in source.values() if t.is_floating_point()), None))
        out = torch.zeros(self.shape, dtype=like.dtype, device=like.device)
        for place, term in enumerate(self.terms):
            if isinstance(term, Copy):
                found = self._checked(term, term.value(_named(source, term.source)), name)
                # Integers (counters of batches) are copied, not added with a gain.
                out = found.clone() if not out.is_floating_point() and not out.is_complex() else out.add_(found)
            else:
                term.add_to(out, built, _generator(seed, name, place))
        return out

    def squared(self, source: NamedTensors, name: str) -> Tensor:
        """The copies alone, with the squares of their coefficients: how second moments are mapped."""
        values = [
            self._checked(term, term.value(_named(source, term.source), squared=True), name) for term in self.copies
        ]
        return torch.stack(values).sum(0)

    def _checked(self, term: Copy, found: Tensor, name: str) -> Tensor:
        if tuple(found.shape) != self.shape:
            raise DataError(
                f"growth: '{term.source}' gives {tuple(found.shape)} for '{name}', which has {self.shape}; the plan is"
                " for another model"
            )
        return found


@dataclass(frozen=True)
class StateRule:
    """How the optimizer's state of a tensor comes from that of its sources.

    ``gradient``  the map that the gradients obey; of a tensor of which nothing is copied, a tensor whose median second
                  moment it starts with; None: a fresh state
    ``moments``   "clone", "second-only" (first moment zero) or "reset" (a fresh state)

    Entries to which no source contributes get m = 0 and as v the median of the source's: with v = 0 and an old step
    count Adam's first update would be (1 - β₁) / √(1 - β₂) times the rate.
    """

    gradient: TensorMap | None
    moments: Moments = "clone"

    def state(self, states: NamedState, name: str) -> dict[str, Tensor] | None:
        """The state of the target ``name``, or None for a fresh one.

        What is no moment of an entry (a factor of Shampoo) cannot be mapped, and the state is a fresh one then.
        """
        if self.gradient is None or self.moments == "reset" or not self.gradient.copies:
            return None
        sources = [term.source for term in self.gradient.copies]
        if any(source not in states for source in sources):
            return None
        own = {source: {k: v for k, v in states[source].items() if k != "step"} for source in sources}
        if len({tuple(value.shape) for value in own[sources[0]].values()}) != 1:
            return None
        out = {"step": states[sources[0]]["step"].clone()} if "step" in states[sources[0]] else {}
        for key, first in own[sources[0]].items():
            values = {source: state[key] for source, state in own.items()}
            if key in SECOND_MOMENTS:
                mapped = self.gradient.squared(values, name)
                reached = self.gradient.squared({source: torch.ones_like(v) for source, v in values.items()}, name)
                out[key] = torch.where(reached > 0, mapped, _median(first))
            else:
                mapped = self.gradient.value(values, name)
                out[key] = mapped if self.moments == "clone" else torch.zeros_like(mapped)
        return out


def fresh_like(source: str, rank: int, shape: Iterable[int]) -> TensorMap:
    """The gradient map of a new tensor: of ``source`` nothing is copied, but for its median second moment.

    ``rank`` is the number of axes of both.
    """
    sizes = tuple(shape)
    nothing = {axis: Axis(index=(-1,) * sizes[axis]) for axis in range(rank)}
    return TensorMap(sizes, (Copy(source, 0.0 if not rank else 1.0, nothing),))


@dataclass(frozen=True)
class GrowthPlan:
    """A growth, as data: apply it with `fieldwright.growth.grow`, or to dictionaries of tensors with its methods.

    ``growth``      what made it: its kind and settings
    ``settings``    constructor arguments in which the grown module differs from its source
    ``parameters``, ``buffers``  a map for each tensor of the grown module, by name
    ``states``      a rule for the optimizer's state of each parameter
    ``preserves``   "exact": the grown module is the same function; "sum-of-members": of members' outputs; "none"
    ``ramped``      names of gains that rise from 0 to 1 in the steps after the growth
    ``seed``        of the draws
    """

    growth: Mapping[str, Any]
    settings: Mapping[str, Any]
    parameters: Mapping[str, TensorMap]
    buffers: Mapping[str, TensorMap] = field(default_factory=dict)
    states: Mapping[str, StateRule] = field(default_factory=dict)
    preserves: Preserves = "none"
    ramped: tuple[str, ...] = ()
    seed: int = 0

    @property
    def draws_built_values(self) -> bool:
        """Whether it wants what a freshly built module holds."""
        maps = (*self.parameters.values(), *self.buffers.values())
        return any(isinstance(term, Draw) and term.kind == "built" for one in maps for term in one.terms)

    def weights(self, source: NamedTensors, built: NamedTensors | None = None) -> dict[str, Tensor]:
        """The grown module's parameters and buffers from those of the source, all in memory of their own.

        ``source`` may be the weights or their moving average: draws are the same for both.

        Errors: `DataError` for a source that is missing, not finite or of another shape.
        """
        maps = {**self.parameters, **self.buffers}
        used = {term.source for one in maps.values() for term in one.copies}
        for name in sorted(used & source.keys()):
            if not bool(torch.isfinite(source[name]).all()):
                raise DataError(f"growth: '{name}' holds values that are not finite; nothing was grown")
        fresh = built or {}
        return {
            name: one.value(source, name, seed=self.seed, built=fresh.get(name))
            for name, one in maps.items()
            if not one.copies or all(term.source in source for term in one.copies) or name in self.parameters
        }

    def state(self, states: NamedState) -> NamedState:
        """The optimizer's state by the names of the grown module; a parameter left out starts fresh."""
        mapped = {name: rule.state(states, name) for name, rule in self.states.items()}
        return {name: state for name, state in mapped.items() if state is not None}

    def with_moments(self, moments: Moments) -> GrowthPlan:
        """The same plan with another rule for all states that it clones."""
        rules = {name: replace(rule, moments=moments) for name, rule in self.states.items()}
        return replace(self, states=rules)

    def to_json(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote.

        Errors: `DataError` for a text that is no plan.
        """
        try:
            values = json.loads(text)
            maps = {
                group: {name: _tensor_map(one) for name, one in values[group].items()}
                for group in ("parameters", "buffers")
            }
            states = {
                name: StateRule(None if rule["gradient"] is None else _tensor_map(rule["gradient"]), rule["moments"])
                for name, rule in values["states"].items()
            }
            return cls(**{**values, **maps, "states": states, "ramped": tuple(values["ramped"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"growth: not a plan ({type(error).__name__}: {error})") from error


def _tensor_map(values: dict[str, Any]) -> TensorMap:
    terms: list[Copy | Draw] = []
    for term in values["terms"]:
        if "kind" in term:
            terms.append(Draw(term["kind"], term["scale"], tuple((a, b) for a, b in term["box"])))
            continue
        axes = {
            int(number): Axis(tuple(axis["index"]), tuple(axis["gain"]), tuple(tuple(row) for row in axis["rows"]))
            for number, axis in term["axes"].items()
        }
        terms.append(Copy(term["source"], term["gain"], axes))
    return TensorMap(tuple(values["shape"]), tuple(terms))


def _named(source: NamedTensors, name: str) -> Tensor:
    if name not in source:
        raise DataError(f"growth: the plan takes '{name}', which the source does not have; it is for another model")
    return source[name]


def _median(values: Tensor) -> Tensor:
    return values.flatten().median() if values.numel() else values.new_zeros(())


def _generator(seed: int, name: str, place: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}/{place}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))


def deviation_of_noise(shape: tuple[int, ...], *, layers: int, ends_branch: bool) -> float:
    """Deviation of ε in W ← (1 - α) W + α ε, d the number of inputs: 1/(L √d), or √(2/(5d)) within a branch.

    Source: Du et al., NeurIPS 2024, appendix on noise.
    """
    fan_in = max(math.prod(shape[1:]), 1)
    return 1 / (layers * math.sqrt(fan_in)) if ends_branch else math.sqrt(2 / (5 * fan_in))
