"""Moments of an optimizer for a merged network, from those of its members.

With f = (1/M) Σ_r f_r, the gradient of a weight in member r is 1/M of what it was, but in the last layer, where the
factor 1/M is part of the weight. So

    m' = m / M,    v' = v / M²    (last layer: m' = m, v' = v)      for what a member had,
    m' = 0,        v' = median of v' over the tensor                 for what lies between members,

exactly where all members see the gradient of one loss, such as a linear one. With templates the factor belongs to the
coefficients. Numbers of steps are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from fieldwright.growth.members import BlockLayout
from fieldwright.growth.plan import SECOND_MOMENTS, NamedState
from fieldwright.growth.templates import TEMPLATES


def merged_states(
    states: Sequence[NamedState], target: nn.Module, found: Mapping[str, BlockLayout], gain: float
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
