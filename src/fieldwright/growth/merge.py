"""Several trained networks of one make in a single wider one, which begins as their mean.

With the members on the diagonal of every weight and nothing between them, hidden channels stay apart and the last layer
sums what the members sum:

    f(x) = Σ_r f_r(x),     and with the last layer divided by M, its bias averaged:     f(x) = (1/M) Σ_r f_r(x),

exactly. So growth begins where the ensemble of the members stands, and training goes on with the weights between them.
As templates (`fieldwright.growth.templates`), those are coefficients of what the members have learned.

Moments of Adam are carried over: with f the mean, gradients of a member's weights are 1/M of what they were but in the
last layer, so m' = m / M, v' = v / M² there; entries between members get m = 0 and the median of v over the tensor.

Source: Pham et al., "MixtureGrowth", WACV 2024. Its published code sums classifiers; the mean is what regression needs.
"""

from __future__ import annotations

import copy
import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.growth.members import BATCH_NORMS, BlockLayout, layouts, widened
from fieldwright.growth.plan import SECOND_MOMENTS, NamedState
from fieldwright.growth.templates import (
    TEMPLATES,
    attach,
    combine_once,
    factors,
    materialise,
    share_templates,
    template_layers,
    with_complement,
)

Cross = Literal["zero", "orthogonal", "copy", "random"]
Combination = Literal["mean", "sum"]
Verify = Literal["require", "report"]

TOLERANCE = 1e-10
"""Relative difference in float64 from the mean of the members that counts as none; `ROUNDINGS` of coarser weights."""

ROUNDINGS = 100

ALIKE = 0.99
"""Members whose weights correlate by more than this have nothing to tell each other."""

PROBE_POINTS = 32
"""Points per axis of the noise on which a merge is verified."""


@dataclass(frozen=True)
class Merged:
    """The wider network, and what the merge came to.

    ``optimizer_state``  by parameter name; empty where no member's was given
    ``change``           relative difference from the mean (or sum) of the members on a few inputs, in float64; None
                         where no inputs were known
    ``likeness``         median over layers of the cosine between the weights of the first two members
    """

    operator: nn.Module
    optimizer_state: NamedState
    change: float | None
    likeness: float


def merge(
    members: Sequence[nn.Module],
    target: nn.Module | None = None,
    *,
    templates: int | None = None,
    cross: Cross = "zero",
    scale: float = 1.0,
    combination: Combination = "mean",
    optimizer_states: Sequence[NamedState] = (),
    probe: Tensor | None = None,
    verify: Verify = "require",
    generator: torch.Generator | None = None,
) -> Merged:
    """Merge ``members`` of equal architecture into ``target``, whose weights are replaced, or into a new network.

    ``target``     a network with M times the channels and the same names; None: `fieldwright.growth.members.widened`
    ``templates``  K per member: the wider weights are made of them, which members that are no mixtures get with an
                   exact start; None: plain weights, block-diagonal
    ``cross``      coefficients between members: "zero" (the exact start), "orthogonal" to those that the row of blocks
                   has already, "copy" of the row's member, or "random" in [0, 1); times ``scale``
    ``optimizer_states``  of the members, by parameter name, to carry over
    ``probe``      inputs on which to compare the merged network with its members; None: noise, where the operator says
                   how many channels and axes it takes
    ``verify``     "require": with "zero", anything else than the mean of the members is an error. "report": it is only
                   reported, for networks such as those with layer norm

    Errors: `InputError` for less than two members, members of different architecture or identical in all weights, a
    wrapped or compiled module, members that have grown and not been materialised, a target that does not fit, a start
    that is not what it must be, and names that are unknown. A warning where members are nearly alike.

    Source: Pham et al., "MixtureGrowth", WACV 2024, section 3.
    """
    _check(members, templates, cross, combination, verify)
    plain = [materialise(copy.deepcopy(member)) for member in members]
    likeness = _likeness(plain)
    target = materialise(widened(plain[0], len(members)) if target is None else target)
    found = layouts(plain[0], target, len(members))
    gain = 1 / len(members) if combination == "mean" else 1.0
    if verify == "require":
        _check_norms(plain[0], target, len(members))
    _place(target, [member.state_dict() for member in plain], found, gain)
    if templates is not None or cross != "zero":
        sources = plain if templates is None else members
        _attach(target, sources, found, templates or 1, gain, cross=cross, scale=scale, generator=generator)
    if templates is None:
        materialise(target)
    change = _change(target, members, combination, probe)
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(next(target.parameters()).dtype).eps)
    if verify == "require" and cross == "zero" and change is not None and not change <= tolerance:
        raise InputError(
            f"merge: the merged {type(target).__name__} differs from the {combination} of its members by {change:.1e};"
            " something between its layers mixes their channels, such as a norm over all of them, or channels joined"
            " from several fields that `channel_parts` does not tell of; verify='report' accepts it"
        )
    return Merged(target, _merged_states(optimizer_states, target, found, gain), change, likeness)


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Let batch norms take their running statistics from ``batches`` anew, in place and without gradients.

    Weights between members change what the norms behind them see; with none, the members' own statistics hold.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, BATCH_NORMS) and norm.track_running_stats]
    kept, trained = [norm.momentum for norm in norms], module.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    module.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    module.train(trained)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def _place(target: nn.Module, states: Sequence[dict[str, Tensor]], found: dict[str, BlockLayout], gain: float) -> None:
    """Fill the target's plain tensors: members on the diagonal, zeros between them."""
    last = {name.rpartition(".")[0] for name, layout in found.items() if layout.sums}
    own = target.state_dict()
    for name, layout in found.items():
        tensors = [state[name] for state in states]
        if layout.grid:
            merged = layout.diagonal(tensors) * (gain if layout.sums else 1)
        elif name.rpartition(".")[0] in last:
            merged = torch.stack(tensors).sum(0) * gain  # the bias of the last layer
        elif not tensors[0].is_floating_point():
            merged = torch.stack(tensors).amax(0)  # counters of batches seen
        elif all(torch.equal(tensors[0], other) for other in tensors[1:]):
            merged = tensors[0]
        else:
            raise InputError(
                f"merge: '{name}' has {tuple(tensors[0].shape)} numbers in the target too, and the members' differ"
            )
        own[name].copy_(merged)


def _attach(
    target: nn.Module,
    members: Sequence[nn.Module],
    found: dict[str, BlockLayout],
    templates: int,
    gain: float,
    *,
    cross: Cross,
    scale: float,
    generator: torch.Generator | None,
) -> None:
    """Make the weights of the target's grown layers of the members' templates."""
    banks: dict[int, nn.Module] = {}
    for name, layer in template_layers(target).items():
        layout = found[f"{name}.weight"]
        if not layout.grid:
            continue
        sources = [member.get_submodule(name) for member in members]
        sets = [_factors(name, source, templates, generator) for source in sources]
        fill = _coefficients([row for _, row in sets], layout, cross, scale, generator)
        attach(layer, layout, torch.stack([t for t, _ in sets]), fill * (gain if layout.sums else 1.0))
        held = factors(sources[0])
        if held is not None:
            first = banks.setdefault(id(held[1]), layer)
            if first is not layer:
                share_templates(first, layer)
    combine_once(target)


def _factors(
    name: str, layer: nn.Module, templates: int, generator: torch.Generator | None
) -> tuple[Float[Tensor, "template *block"], Float[Tensor, " template"]]:
    """Templates and coefficients of a member's layer; of a plain weight an exact start."""
    held = factors(layer)
    if held is None:
        weight: Tensor = layer.weight.detach()  # type: ignore[assignment]
        drawn = torch.randn((templates - 1, *weight.shape), generator=generator, dtype=torch.float64)
        return with_complement(weight[None], drawn.to(weight)), torch.eye(templates, dtype=weight.dtype)[0].to(weight)
    if held[1].shape[1] != templates:
        raise InputError(f"templates: {templates}; the members have {held[1].shape[1]} in '{name}'")
    return held[1].detach()[0], held[2].detach().flatten()


def _coefficients(
    rows: Sequence[Tensor], layout: BlockLayout, cross: Cross, scale: float, generator: torch.Generator | None
) -> Float[Tensor, "*grid template"]:
    """The members' coefficients, with those between members where there are blocks between them."""
    if len(layout.grid) == 1:
        return torch.stack(list(rows))
    members, templates = len(rows), len(rows[0])
    made = rows[0].new_zeros(members, members, templates)
    for r, row in enumerate(rows):
        taken = [row]
        for c in range(members):
            if c == r:
                made[r, c] = row
            elif cross == "copy":
                made[r, c] = scale * row
            elif cross == "random":
                made[r, c] = scale * torch.rand(templates, generator=generator, dtype=torch.float64).to(row)
            elif cross == "orthogonal":
                # Where the row has K directions already: the one that they have least of.
                taken.append(torch.linalg.svd(torch.stack(taken), full_matrices=True)[2][-1])
                made[r, c] = scale * taken[-1]
    return made


def _merged_states(
    states: Sequence[NamedState], target: nn.Module, found: dict[str, BlockLayout], gain: float
) -> NamedState:
    """The optimizer's tensors from those of the members; a parameter of which one has none starts fresh."""
    merged: NamedState = {}
    for name, parameter in target.named_parameters() if states else ():
        layer, _, factor = name.partition(".parametrizations.weight.")
        layout = found[f"{layer}.weight" if factor else name]
        # The weight of a member without templates is the first template of its layer.
        source = name if all(name in state for state in states) or factor != TEMPLATES else f"{layer}.weight"
        if not all(source in state for state in states):
            continue
        # The gradient of a value in front of a factor 1/M is divided by M, that of what holds the factor is not.
        behind = not layout.grid or (layout.sums and factor != TEMPLATES)
        merged[name] = {}
        for key, first in states[0][source].items():
            if first.ndim == 0:
                merged[name][key] = torch.stack([state[source][key] for state in states]).amax()
                continue
            second = key in SECOND_MOMENTS
            share = 1.0 if behind else gain**2 if second else gain
            tensors = [state[source][key] * share for state in states]
            fill = float(torch.cat([t.flatten() for t in tensors]).median()) if second else 0.0
            if factor == TEMPLATES and source != name:
                made = first.new_full(parameter.shape, fill)
                made[:, 0] = torch.stack(tensors)
            elif factor == TEMPLATES:
                made = torch.cat(tensors)
            elif factor:
                made = first.new_full(parameter.shape, fill)
                rows = torch.arange(len(states))
                made[(rows,) * len(layout.grid)] = torch.stack([t.flatten() for t in tensors])
            else:
                made = layout.diagonal(tensors, fill) if layout.grid else torch.stack(tensors).mean(0)
            merged[name][key] = made
    return merged


def _change(
    target: nn.Module, members: Sequence[nn.Module], combination: Combination, probe: Tensor | None
) -> float | None:
    """Relative difference of the merged network from what it stands for, in float64 and evaluation mode."""
    if probe is None:
        channels, dimension = (getattr(members[0], name, None) for name in ("in_channels", "dimension"))
        if not isinstance(channels, int) or not isinstance(dimension, int):
            return None
        draws = torch.Generator().manual_seed(0)
        probe = torch.randn(2, channels, *(PROBE_POINTS,) * dimension, generator=draws, dtype=torch.float64)
    exact = probe.detach().cpu().double()

    def answers(module: nn.Module) -> Tensor:
        return copy.deepcopy(module).cpu().double().eval()(exact)

    with torch.no_grad():
        expected = torch.stack([answers(member) for member in members]).sum(0)
        expected = expected / (len(members) if combination == "mean" else 1)
        return float((answers(target) - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny))


def _likeness(members: Sequence[nn.Module]) -> float:
    """The median over layers of the cosine between the first two members' weights."""
    pairs = [
        [member.get_submodule(name).weight.detach().flatten().double() for member in members[:2]]  # type: ignore[union-attr]
        for name in template_layers(members[0])
    ]
    if not pairs:
        raise InputError(f"merge: {type(members[0]).__name__} has no layer of a kind that can be merged")
    likeness = statistics.median(float(nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs)
    if likeness > ALIKE:
        warnings.warn(
            f"merge: the weights of the members correlate by {likeness:.4f}; members of other seeds have more to add",
            stacklevel=3,
        )
    return likeness


def _check(members: Sequence[nn.Module], templates: int | None, cross: str, combination: str, verify: str) -> None:
    for what, value, kind in (
        ("cross", cross, Cross),
        ("combination", combination, Combination),
        ("verify", verify, Verify),
    ):
        if value not in get_args(kind):
            raise InputError(f"{what}: '{value}'; allowed are {', '.join(get_args(kind))}")
    if templates is not None and (isinstance(templates, bool) or not isinstance(templates, int) or templates < 1):
        raise InputError(f"templates: {templates!r}; a positive integer, or None for plain weights, is needed")
    if cross == "orthogonal" and (templates or 1) < 2:
        raise InputError("cross: 'orthogonal' needs 2 templates or more; a single coefficient has no other direction")
    if len(members) < 2:
        raise InputError(f"merge: {len(members)} members; two or more are needed")
    for member in members:
        if hasattr(member, "_orig_mod") or isinstance(member, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise InputError(f"merge: a {type(member).__name__} is wrapped; give the module inside")
        held = [found for layer in template_layers(member).values() if (found := factors(layer)) is not None]
        if any(weight.layout.members > 1 for weight, _, _ in held):
            raise InputError("merge: a member has grown by templates already; `materialise` it first")
    first = members[0]
    settings, shapes = getattr(first, "_hub_mixin_config", None), _shapes(first)
    for other in members[1:]:
        if getattr(other, "_hub_mixin_config", None) != settings or _shapes(other) != shapes:
            raise InputError(
                f"merge: members of different architecture, {type(first).__name__} and {type(other).__name__}"
                f"{_difference(settings, getattr(other, '_hub_mixin_config', None))}"
            )
        pairs = zip(first.state_dict().values(), other.state_dict().values(), strict=True)
        if all(torch.equal(a.cpu(), b.cpu()) for a, b in pairs):
            raise InputError("merge: the members are the same in all weights; train them from different seeds")


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _difference(ours: dict | None, theirs: dict | None) -> str:
    if not ours or not theirs:
        return ""
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return f" ({', '.join(f'{name} {ours.get(name)} and {theirs.get(name)}' for name in names)})" if names else ""


def _check_norms(member: nn.Module, target: nn.Module, members: int) -> None:
    for name, norm in member.named_modules():
        wide = target.get_submodule(name)
        if isinstance(norm, nn.GroupNorm) and wide.num_groups != members * norm.num_groups:
            raise InputError(
                f"merge: the group norm '{name}' has {norm.num_groups} groups in a member and {wide.num_groups} in the"
                f" target; {members * norm.num_groups} keep the statistics of the members apart"
            )
        if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) and wide.normalized_shape != norm.normalized_shape:
            raise InputError(
                f"merge: '{name}' takes its statistics over the channels of all members; use group norm with groups of"
                " each, or verify='report' to accept what changes"
            )
