"""Masks on the weights of any module, and the steps that keep weights, gradients and optimizer within them.

Of a weight W with mask m and a frozen part f <= m the module holds m ⊙ W. Only m ⊙ (1 - f) is trained: its gradient
alone is left, and after every step all the rest is put back to what it was, so that neither momentum nor weight decay
nor a direction that mixes entries (Lion-K's spectral one) moves a frozen entry by a bit.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.settings import allowed
from fieldwright.training.seeding import derived_generator
from fieldwright.training.sparsity import MaskLayout, SparseRules, best, dropped, per_bit

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
SMALLEST = 512
"""Entries that a weight has at least to be masked; smaller ones cost little and gain nothing."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def mask_layouts(module: nn.Module, *, smallest: int = SMALLEST, dense: Sequence[str] = ()) -> dict[str, MaskLayout]:
    """The weights of a module that can be masked, by name; one that several layers share is in it once.

    These are trained parameters called weight, with two axes at least and ``smallest`` entries, and complex ones.
    Layers with ``channel_axes``, such as spectral ones, are masked as (in, out) pairs over all their wavenumbers, and
    so are complex weights (in, out, …). Norms, embeddings, depth-wise
    convolutions and whatever a pattern in ``dense`` names are left out.

    Errors: `InputError` for a pattern that names no parameter, or a module without weights to mask.
    """
    names = dict(module.named_parameters())
    for pattern in dense:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"dense: no parameter is called '{pattern}'; {allowed(pattern, names)}")
    owners = {
        f"{prefix}.{leaf}" if prefix else leaf: (owner, leaf)
        for prefix, owner in module.named_modules()
        for leaf, _ in owner.named_parameters(recurse=False)
    }
    found = {}
    for name, parameter in names.items():
        owner, leaf = owners[name]
        kept_dense = any(fnmatch.fnmatchcase(name, pattern) for pattern in dense)
        if not kept_dense and parameter.requires_grad and parameter.ndim > 1 and parameter.numel() >= smallest:
            layout = _layout(owner, leaf, parameter)
            if layout is not None:
                found[name] = layout
    if not found:
        raise InputError(f"{type(module).__name__} has no weight of {smallest} entries or more that could be masked")
    return found


def _layout(owner: nn.Module, leaf: str, parameter: nn.Parameter) -> MaskLayout | None:
    shape = tuple(parameter.shape)
    if isinstance(owner, (*NORMS, nn.Embedding)):
        return None
    groups = getattr(owner, "groups", 1)
    if isinstance(groups, int) and 1 < groups == getattr(owner, "in_channels", None):
        return None
    pair = getattr(owner, "channel_axes", None)
    if pair is not None and leaf == "weight":
        inner, outer = (axis % len(shape) for axis in pair)
        return MaskLayout(tuple(n if a in (inner, outer) else 1 for a, n in enumerate(shape)), shape, output=outer)
    if parameter.is_complex() and len(shape) > 2:
        return MaskLayout((*shape[:2], *(1,) * (len(shape) - 2)), shape, output=1)
    if "weight" not in leaf and not parameter.is_complex():
        return None
    parts = 3 if isinstance(owner, nn.MultiheadAttention) and leaf == "in_proj_weight" else 1
    return MaskLayout(shape, shape, output=1 if isinstance(owner, TRANSPOSED) else 0, parts=parts)


@dataclass
class MaskedWeight:
    """One weight in training.

    ``active``   bits that are on, the frozen ones among them
    ``blocked``  bits that are never trained and never switched on: other tasks own them
    ``held``     what the weight is where it is not trained: the values of frozen entries, zero elsewhere
    """

    parameter: nn.Parameter
    layout: MaskLayout
    active: Bool[Tensor, "*bits"]
    blocked: Bool[Tensor, "*bits"]
    held: Tensor
    _made_of: Tensor | None = field(default=None, repr=False)
    _factors: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)

    @classmethod
    def alone(cls, parameter: nn.Parameter, layout: MaskLayout, active: Tensor) -> MaskedWeight:
        """A weight of which nothing is frozen."""
        return cls(parameter, layout, active, torch.zeros_like(active), torch.zeros_like(parameter))

    @property
    def trained(self) -> Bool[Tensor, "*bits"]:
        """Bits that are trained."""
        return self.active & ~self.blocked

    @torch.no_grad()
    def restore(self) -> None:
        """Put back all that is not trained."""
        # 1 p + 0 and 0 p + h are exact, and on a CPU several times faster than a choice by bits.
        self.parameter.mul_(self._factor()).add_(self.held)

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """Leave the gradient of what is trained."""
        if self.parameter.grad is not None:
            self.parameter.grad.mul_(self._factor())

    def _factor(self) -> Tensor:
        """One where the weight is trained, zero elsewhere; made again when the mask is another tensor."""
        if self._made_of is not self.active:
            self._made_of = self.active
            self._factors = self.trained.to(self.held.abs().dtype)
        return self._factors

    def exchange(
        self, share: float, rules: SparseRules, known: Tensor, fired: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Switch off a share of what is trained and as many others on; returns both as masks of bits.

        ``known`` are the scores of the growth rule, entry by entry, and ``fired`` the bits that were ever on. A bit
        that has just gone may come back only where there are too few others.
        """
        gradient = torch.zeros_like(self.parameter) if self.parameter.grad is None else self.parameter.grad
        gone, come = [], []
        split = (known, fired, self.trained, self.active | self.blocked, self.parameter.detach(), gradient)
        for scores, once, trained, taken, weight, slope in zip(*(_parts(x, self.layout) for x in split), strict=True):
            layout = MaskLayout(tuple(trained.shape), tuple(weight.shape), self.layout.output)
            free = (~taken).flatten()
            count = min(-int(-share * int(trained.sum()) // 1), int(trained.sum()))
            out = dropped(weight, slope, trained, count, layout, rules.drop, generator)
            if rules.growth in ("random", "unfired"):
                ranks = torch.zeros(layout.shape, device=weight.device)
                if rules.growth == "unfired":
                    ranks = (~once).float()
            else:
                ranks = per_bit(scores.abs().square().float(), layout)
            inside = best(ranks.flatten(), free, count, generator)
            short = count - int(inside.sum())
            if short:
                inside |= best(ranks.flatten(), out.flatten(), short, generator)
            gone.append(out)
            come.append(inside.reshape(out.shape))
        off, on = torch.cat(gone), torch.cat(come)
        self.active = (self.active & ~off) | on
        with torch.no_grad():
            self.parameter.masked_fill_(off, 0)  # one that goes and comes back starts at zero as well
        return off, on

    def mask_moments(self, optimizer: torch.optim.Optimizer, come: Tensor | None = None) -> None:
        """Clear the optimizer's memory of what is not trained. Entries in ``come`` begin with no first moment and the
        median of the others' second one: with none they would take steps of many times the learning rate.
        """
        for key, value in optimizer.state.get(self.parameter, {}).items():
            if not torch.is_tensor(value) or value.shape != self.parameter.shape:
                continue
            value.masked_fill_(~self.trained, 0)
            if come is not None:
                known = value.masked_select((self.trained & ~come).expand_as(value))
                second = key == "exp_avg_sq" and len(known) > 0
                value.copy_(torch.where(come, known.median() if second else value.new_zeros(()), value))


def _parts(values: Tensor, layout: MaskLayout) -> Sequence[Tensor]:
    return values.chunk(layout.parts)


class SparseSteps:
    """What happens to masked weights at the steps of a training: called by the callbacks that own them."""

    def __init__(self, weights: Mapping[str, MaskedWeight], rules: SparseRules, seed: int) -> None:
        self.weights, self.rules, self.seed = dict(weights), rules, seed
        self.fired = {name: weight.active.clone() for name, weight in self.weights.items()}
        self.averages: dict[str, tuple[Tensor, Tensor]] = {}

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the masks onto weights and moments before the first step."""
        for weight in self.weights.values():
            weight.restore()
            weight.mask_moments(optimizer)

    def after_backward(self, optimizer: torch.optim.Optimizer, index: int, fraction: float) -> bool:
        """Exchange entries when it is time, and mask the gradients; returns whether masks have changed."""
        if self.rules.growth == "momentum":
            self._average()
        due = self.rules.due(index, fraction)
        if due:
            for name, weight in self.weights.items():
                draws = derived_generator(self.seed, "exchange", name, index)
                known = self._known(name, weight)
                _, come = weight.exchange(self.rules.share(fraction), self.rules, known, self.fired[name], draws)
                self.fired[name] |= come
                weight.mask_moments(optimizer, come)
        for weight in self.weights.values():
            weight.mask_gradient()
        return due

    def after_update(self) -> None:
        """Give back what a mask leaves out and an update has moved."""
        for weight in self.weights.values():
            weight.restore()

    def state_dict(self) -> dict[str, Tensor]:
        """All that a resumed training needs and the weights do not tell."""
        return {
            **{f"active/{name}": weight.active for name, weight in self.weights.items()},
            **{f"fired/{name}": fired for name, fired in self.fired.items()},
            **{f"first/{name}": first for name, (first, _) in self.averages.items()},
            **{f"second/{name}": second for name, (_, second) in self.averages.items()},
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        for name, weight in self.weights.items():
            weight.active = state[f"active/{name}"].to(weight.active.device)
            self.fired[name] = state[f"fired/{name}"].to(weight.active.device)
            if f"first/{name}" in state:
                pair = (state[f"{which}/{name}"].to(weight.active.device) for which in ("first", "second"))
                self.averages[name] = tuple(pair)  # type: ignore[assignment]

    def _known(self, name: str, weight: MaskedWeight) -> Tensor:
        if self.rules.growth == "momentum" and name in self.averages:
            first, second = self.averages[name]
            return first / (second.sqrt() + 1e-12)
        return torch.zeros_like(weight.parameter) if weight.parameter.grad is None else weight.parameter.grad

    def _average(self) -> None:
        """Adam's averages of the gradients of all entries: the optimizer sees those of trained ones alone."""
        for name, weight in self.weights.items():
            if weight.parameter.grad is not None:
                gradient = weight.parameter.grad.detach()
                if name not in self.averages:
                    self.averages[name] = (torch.zeros_like(gradient), torch.zeros_like(gradient.abs()))
                first, second = self.averages[name]
                first.lerp_(gradient, 0.1)
                second.lerp_(gradient.abs().square(), 0.001)
