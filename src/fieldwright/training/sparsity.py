"""How sparse each weight of a network is, and which of its entries are exchanged while it trains.

With δ_ℓ the density of layer ℓ, |W_ℓ| its entries, n its channels in and out and k its kernel, the densities are

    δ_ℓ = min(ε r_ℓ^λ, ceiling),   r_ℓ = (n_in + n_out + k₁ + …) / (n_in n_out k₁ …),   Σ δ_ℓ |W_ℓ| = (1 - s) Σ |W_ℓ|,

uniform for λ = 0 and Erdős-Rényi (ERK) for λ = 1. While a fraction τ of the budget is below τ_end, every so many steps
the share

    z(τ) = max(z₀ (1 + cos(π τ / τ_end)) / 2, floor)

of the entries that may change is switched off, least important first, and as many others on, beginning at zero.

Sources: Evci et al., "Rigging the Lottery", ICML 2020 (ERK, gradient growth); Mocanu et al., Nature Communications 2018
(SET); Yildirim et al., CPAL 2024, on which of them serve continual learning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.settings import allowed

DISTRIBUTIONS = {"uniform": 0.0, "erk": 1.0}
DROPS = ("magnitude", "set", "taylor")
GROWTHS = ("random", "unfired", "gradient", "momentum")


@dataclass(frozen=True)
class SparseRules:
    """How sparse a network is and how its entries are exchanged.

    ``sparsity``      s, the share of entries that are off, in [0, 1)
    ``distribution``  "uniform", "erk" or the power λ between them, in [0, 1]
    ``ceiling``       the largest δ_ℓ; 1/T leaves a part of every layer to each of T tasks
    ``drop``          who goes: the smallest |w| ("magnitude"), the smallest positive and the largest negative weights,
                      half each ("set"), or the smallest (w ∂L/∂w)² ("taylor")
    ``growth``        who comes: "random", "unfired" (random among those never on, then any), the largest |∂L/∂w|
                      ("gradient") or the largest |m/√v| of Adam's averages ("momentum")
    ``exchange``      z₀, the share exchanged at first; 0 keeps the masks as they are drawn
    ``floor``         the least share exchanged
    ``every``         steps between two exchanges
    ``stop``          τ_end, the fraction of the budget after which none is, so that what came last is trained

    Good values to start from are the defaults; for T tasks in one network 1 - ``sparsity`` should not exceed 1/T.
    Errors: `InputError` for a value that is out of its range or an unknown name.
    """

    sparsity: float = 0.75
    distribution: str | float = "erk"
    ceiling: float = 1.0
    drop: str = "magnitude"
    growth: str = "gradient"
    exchange: float = 0.5
    floor: float = 0.005
    every: int = 100
    stop: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"sparsity: {self.sparsity}; it must lie in [0, 1)")
        if isinstance(self.distribution, str):
            if self.distribution not in DISTRIBUTIONS:
                raise InputError(f"distribution: '{self.distribution}'; {allowed(self.distribution, DISTRIBUTIONS)}")
        elif not 0 <= self.distribution <= 1:
            raise InputError(f"distribution: {self.distribution}; a power lies in [0, 1], uniform is 0 and erk 1")
        for what, name, names in (("drop", self.drop, DROPS), ("growth", self.growth, GROWTHS)):
            if name not in names:
                raise InputError(f"{what}: '{name}'; {allowed(str(name), names)}")
        for what in ("exchange", "floor", "stop"):
            if not 0 <= getattr(self, what) <= 1:
                raise InputError(f"{what}: {getattr(self, what)}; it must lie in [0, 1]")
        if not 0 < self.ceiling <= 1:
            raise InputError(f"ceiling: {self.ceiling}; it must lie in (0, 1]")
        if self.every < 1:
            raise InputError(f"every: {self.every}; it must be a whole number of steps, at least 1")

    @property
    def power(self) -> float:
        """λ of the distribution."""
        return DISTRIBUTIONS[self.distribution] if isinstance(self.distribution, str) else self.distribution

    def share(self, fraction: float) -> float:
        """z at a fraction of the budget; 0 from ``stop`` on."""
        if not self.exchange or fraction >= self.stop:
            return 0.0
        return max(self.exchange * (1 + math.cos(math.pi * fraction / self.stop)) / 2, self.floor)

    def due(self, index: int, fraction: float) -> bool:
        """Whether entries are exchanged in step ``index`` of a phase."""
        return index > 0 and index % self.every == 0 and self.share(fraction) > 0


@dataclass(frozen=True)
class MaskLayout:
    """How a weight is masked.

    ``shape``   of the mask: that of the weight, with 1 on axes along which all entries share a bit. The wavenumbers of
                a spectral weight are such, and so its (in, out) pairs are on or off as a whole
    ``weight``  shape of the weight
    ``output``  the axis that counts the layer's outputs
    ``parts``   equal parts of axis 0 that have counts of their own, such as queries, keys and values in one tensor
    """

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    output: int = 0
    parts: int = 1

    @property
    def bits(self) -> int:
        """Bits of the mask."""
        return math.prod(self.shape)

    @property
    def entries_per_bit(self) -> int:
        return math.prod(self.weight) // self.bits

    def contains(self, other: MaskLayout) -> bool:
        """Whether the weight has all entries of another one, with as many along axes that share a bit."""
        if len(self.weight) != len(other.weight):
            return False
        axes = zip(self.weight, other.weight, other.shape, strict=True)
        return all(n == m or n > m == bits for n, m, bits in axes)

    @property
    def erdos_renyi(self) -> float:
        """r_ℓ, of one part."""
        axes = [n // self.parts if axis == 0 else n for axis, n in enumerate(self.shape) if n > 1]
        return sum(axes) / math.prod(axes) if axes else 1.0


def layer_counts(layouts: Mapping[str, MaskLayout], rules: SparseRules) -> dict[str, int]:
    """How many bits of each mask are on.

    Counts are whole and, of a weight in parts, divisible by them; their entries fall short of (1 - s) Σ |W_ℓ| by less
    than the smallest step, by nothing where every bit is one entry of a weight in one part.

    Errors: `InputError` where no densities below the ceiling have this sum, or a layer would have less than one entry.
    """
    entries = {name: math.prod(layout.weight) for name, layout in layouts.items()}
    target = (1 - rules.sparsity) * sum(entries.values())
    if target > rules.ceiling * sum(entries.values()) * (1 + 1e-12):
        raise InputError(f"sparsity: {rules.sparsity}; with a ceiling of {rules.ceiling} it must be at least"
                         f" {1 - rules.ceiling:g}")  # fmt: skip
    raw = {name: layout.erdos_renyi**rules.power for name, layout in layouts.items()}
    full: set[str] = set()
    while True:
        left = target - rules.ceiling * sum(entries[name] for name in full)
        weight = sum(raw[name] * entries[name] for name in layouts if name not in full)
        density = {
            name: rules.ceiling if name in full else left / weight * raw[name] if weight else 0.0 for name in layouts
        }
        above = {name for name in layouts if name not in full and density[name] > rules.ceiling}
        if not above:
            break
        full |= above
    counts, remainders = {}, {}
    for name, layout in layouts.items():
        # A product such as 0.25 * 1000 may fall short of its whole number by rounding.
        wanted = density[name] * layout.bits / layout.parts + 1e-9
        if wanted < 1:
            raise InputError(
                f"sparsity: {rules.sparsity}; '{name}' would keep {density[name] * layout.bits:.2g} of {layout.bits}"
                " entries, less than one; lower the sparsity, or keep the weight dense"
            )
        counts[name] = int(wanted) * layout.parts
        remainders[name] = wanted - int(wanted)
    room = target + 1e-6 - sum(counts[name] * layouts[name].entries_per_bit for name in layouts)
    for name in sorted(layouts, key=lambda name: -remainders[name]):
        layout = layouts[name]
        step = layout.parts * layout.entries_per_bit
        if step <= room and counts[name] + layout.parts <= layout.bits:
            counts[name] += layout.parts
            room -= step
    return counts


def per_bit(values: Tensor, layout: MaskLayout) -> Tensor:
    """Sums of a weight's entries over those that share a bit."""
    axes = [axis for axis, n in enumerate(layout.shape) if n == 1 and layout.weight[axis] > 1]
    return values.sum(axes, keepdim=True) if axes else values


def best(
    scores: Float[Tensor, " bit"], candidates: Bool[Tensor, " bit"], count: int, generator: torch.Generator
) -> Bool[Tensor, " bit"]:
    """Exactly ``count`` candidates with the largest scores, or all where they are fewer; ties are broken by chance."""
    places = candidates.nonzero()[:, 0].cpu()
    places = places[torch.randperm(len(places), generator=generator)]
    order = scores.cpu()[places].argsort(descending=True, stable=True)
    chosen = torch.zeros(candidates.shape, dtype=torch.bool)
    chosen[places[order[:count]]] = True
    return chosen.to(candidates.device)


def drawn_mask(
    layout: MaskLayout, count: int, candidates: Bool[Tensor, "*bits"], generator: torch.Generator
) -> Bool[Tensor, "*bits"]:
    """A random mask of exactly ``count`` candidates (all where they are fewer), in every part as many.

    Every output has an entry where there are enough of them: an output without any could say nothing.
    """
    scores = torch.rand(layout.shape, generator=generator).to(candidates.device)
    scores = scores.masked_fill(~candidates, -1)
    rows = scores.movedim(layout.output, 0).flatten(1)
    if count >= len(rows):
        first = rows.argmax(1, keepdim=True)
        scores = rows.scatter_add(1, first, torch.ones_like(rows)).unflatten(
            1, scores.movedim(layout.output, 0).shape[1:]
        ).movedim(0, layout.output)  # fmt: skip
    chosen = [
        best(part.flatten(), free.flatten(), count // layout.parts, generator).reshape(part.shape)
        for part, free in zip(scores.chunk(layout.parts), candidates.chunk(layout.parts), strict=True)
    ]
    return torch.cat(chosen)


def dropped(
    weight: Tensor,
    gradient: Tensor,
    changeable: Bool[Tensor, "*bits"],
    count: int,
    layout: MaskLayout,
    rule: str,
    generator: torch.Generator,
) -> Bool[Tensor, "*bits"]:
    """``count`` of the changeable bits with the least importance. Bits of several entries have no sign: "set" falls
    back to the magnitude for them.
    """
    flat = changeable.flatten()
    if rule == "taylor":
        importance = per_bit((weight.conj() * gradient).real, layout).square().flatten()
        return best(-importance, flat, count, generator).reshape(changeable.shape)
    size = per_bit(weight.abs().square(), layout).flatten()
    if rule == "set" and layout.entries_per_bit == 1 and not weight.is_complex():
        positive = flat & (weight.flatten() > 0)
        negative = flat & ~positive
        half = min(count // 2, int(negative.sum()))
        half = count - min(count - half, int(positive.sum()))
        above = best(-size, positive, count - half, generator)
        return (above | best(-size, negative, half, generator)).reshape(changeable.shape)
    return best(-size, flat, count, generator).reshape(changeable.shape)
