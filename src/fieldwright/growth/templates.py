"""Weights made of templates: linear combinations of a few trained tensors, block by block.

    W = [[W_00, W_01, ..], [W_10, W_11, ..], ..],      W_rc = Σ_{k=1..K} α_rck T_rk,

with K templates T_r of each member r, and coefficients α in R^K of each block. A network that has not grown is the case
of one member. Growth adds blocks between members: new coefficients for the templates that exist. Layers that share
their templates are a bank; each has coefficients of its own.

(c α, T / c) are the same weight: decay the weight, not the factors. Both factors move, so the weight moves about twice
as far in a step of Adam as a plain one: tune the learning rate, it is lower than that of a plain network.

Source: Pham, Teterwak, Nelson, Plummer, "MixtureGrowth: Growing Neural Networks by Recombining Learned Parameters",
WACV 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fieldwright.errors import InputError
from fieldwright.growth.members import LAYERS, BlockLayout

Start = Literal["exact", "fresh"]
TEMPLATES, COEFFICIENTS = "original0", "original1"
"""What a parametrized layer calls its two factors, below ``parametrizations.weight``."""

SPREAD = 0.1
"""Root mean square of a template that an existing weight does without, over that of the weight."""


class TemplateWeight(nn.Module):
    """The combination above, as a parametrization of a layer's ``weight`` (`torch.nn.utils.parametrize`).

    The layer then holds the factors: templates (member, template, *shape of a block) and coefficients
    (*`BlockLayout.grid`, template).

    Errors: `InputError` when the weight is assigned to: it has no unique factors.
    """

    def __init__(self, layout: BlockLayout, templates: Tensor, coefficients: Tensor) -> None:
        super().__init__()
        self.layout = layout
        self._start: tuple[Tensor, Tensor] | None = (templates, coefficients)

    def forward(
        self,
        templates: Float[Tensor, "member template *block"],
        coefficients: Float[Tensor, "*grid template"],
    ) -> Tensor:
        whole = coefficients.ndim == 3
        rows = torch.bmm(coefficients if whole else coefficients[:, None], templates.flatten(2))
        rows = rows.unflatten(2, templates.shape[2:])
        return self.layout.assemble(rows if whole else rows[:, 0])

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The factors that the layer starts from."""
        if self._start is None:
            raise InputError("weight: it is made of templates and cannot be assigned to; `materialise` it first")
        start, self._start = self._start, None
        return start


def attach(layer: nn.Module, layout: BlockLayout, templates: Tensor, coefficients: Tensor) -> None:
    """Let these factors make the layer's weight."""
    weight = TemplateWeight(layout, templates.detach().clone(), coefficients.detach().clone())
    parametrize.register_parametrization(layer, "weight", weight)


def factors(layer: nn.Module) -> tuple[TemplateWeight, nn.Parameter, nn.Parameter] | None:
    """(parametrization, templates, coefficients) of a layer; None of one with a plain weight."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    held = layer.parametrizations["weight"]  # type: ignore[index]
    made: object = held[0]  # type: ignore[index]
    if not isinstance(made, TemplateWeight):
        return None
    return made, getattr(held, TEMPLATES), getattr(held, COEFFICIENTS)


def template_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers that can be made of templates, by name."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, tuple(LAYERS))}


def templated(
    module: nn.Module,
    templates: int = 2,
    *,
    start: Start = "exact",
    banks: Mapping[str, Sequence[str]] | None = None,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Make the weights of a module's layers of ``templates`` templates each, in place, and return it.

    ``start``  "exact": the function stays as it is, T_1 = W with α = (1, 0, ..), the others small and orthogonal to W.
               "fresh": all templates independent and normal, with the root mean square of W, and α = 1/√K: the weight
               has the scale that the layer's own initialisation gave it, whatever its fan-in and kind
    ``banks``  names of layers with weights of equal shape, which share their templates. To start exactly, a bank of n
               layers needs n templates or more: each is one layer's weight

    Errors: `InputError` for less than one template, a layer that is unknown, of another shape than its bank or in two
    banks, and a module that is made of templates already.
    """
    if isinstance(templates, bool) or not isinstance(templates, int) or templates < 1:
        raise InputError(f"templates: {templates!r}; a positive integer is needed")
    if start not in ("exact", "fresh"):
        raise InputError(f"start: '{start}'; allowed are exact and fresh")
    layers = template_layers(module)
    if any(factors(layer) is not None for layer in layers.values()):
        raise InputError("templates: the module is made of templates already; `materialise` it first")
    groups = _groups(layers, banks or {})
    for names in groups:
        weights = [layers[name].weight.detach() for name in names]  # type: ignore[union-attr]
        shared, rows = _factors_of(weights, templates, start, generator, names)
        for name, row in zip(names, rows, strict=True):
            layer = layers[name]
            outer, inner = (
                axis % weights[0].ndim for axis in next(v for k, v in LAYERS.items() if isinstance(layer, k))
            )
            attach(layer, BlockLayout(1, outer, inner), shared[None], row[None, None])
            if name != names[0]:
                share_templates(layers[names[0]], layer)
    combine_once(module)
    return module


def share_templates(of: nn.Module, to: nn.Module) -> None:
    """Let the second layer use the first one's templates."""
    setattr(to.parametrizations["weight"], TEMPLATES, getattr(of.parametrizations["weight"], TEMPLATES))  # type: ignore[index]


def materialise(module: nn.Module) -> nn.Module:
    """Store the weights themselves instead of their templates, in place, and return the module: plain, as before.

    A module without templates is left as it is.
    """
    for layer in list(module.modules()):
        if factors(layer) is not None:
            _make_plain(layer)
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if isinstance(getattr(hook, "__self__", None), _WithinACall)]:
            del hooks[key]
            module._forward_hooks_always_called.pop(key, None)
    return module


def _make_plain(layer: nn.Module) -> None:
    # Not `remove_parametrizations`: it takes the property from a class that copies of the layer share.
    held = factors(layer)
    assert held is not None
    weight = nn.Parameter(layer.weight.detach().clone(), held[1].requires_grad)  # type: ignore[union-attr]
    layer.__class__ = type(layer).__bases__[0]
    del layer._modules["parametrizations"]
    layer._parameters = {"weight": weight, **layer._parameters}


def combine_once(module: nn.Module) -> None:
    """Combine each weight once in a call of the module, however often its layers read it."""
    within = _WithinACall()
    module.register_forward_pre_hook(within.begin)
    module.register_forward_hook(within.end, always_call=True)


class _WithinACall:
    def __init__(self) -> None:
        self.kept: list[AbstractContextManager[None]] = []

    def begin(self, _module: nn.Module, _inputs: object) -> None:
        self.kept.append(parametrize.cached())
        self.kept[-1].__enter__()

    def end(self, _module: nn.Module, _inputs: object, _outputs: object) -> None:
        self.kept.pop().__exit__(None, None, None)


def _groups(layers: Mapping[str, nn.Module], banks: Mapping[str, Sequence[str]]) -> list[list[str]]:
    seen: set[str] = set()
    for bank, names in banks.items():
        for name in names:
            if name not in layers or name in seen:
                raise InputError(f"banks: '{name}' in '{bank}' is {'in two banks' if name in seen else 'no layer'}")
            seen.add(name)
        shapes = {tuple(layers[name].weight.shape) for name in names}  # type: ignore[union-attr]
        if len(shapes) != 1:
            raise InputError(f"banks: '{bank}' has weights of the shapes {sorted(shapes)}; one shape is needed")
    return [list(names) for names in banks.values()] + [[name] for name in layers if name not in seen]


def _factors_of(
    weights: Sequence[Tensor], templates: int, start: Start, generator: torch.Generator | None, names: Sequence[str]
) -> tuple[Float[Tensor, "template *block"], Float[Tensor, "layer template"]]:
    first = weights[0]
    scale = math.sqrt(sum(float(w.double().square().mean()) for w in weights) / len(weights))
    drawn = torch.randn((templates, *first.shape), generator=generator, dtype=torch.float64).to(first)
    if start == "fresh":
        return drawn * scale, first.new_full((len(weights), templates), 1 / math.sqrt(templates))
    if len(weights) > templates:
        raise InputError(
            f"templates: {templates} for the bank of {', '.join(names)}; an exact start needs {len(weights)}"
        )
    return with_complement(torch.stack(list(weights)), drawn[len(weights) :]), torch.eye(
        len(weights), templates, dtype=first.dtype, device=first.device
    )


def with_complement(
    weights: Float[Tensor, "weight *block"], drawn: Float[Tensor, "extra *block"]
) -> Float[Tensor, "template *block"]:
    """The weights, and ``drawn`` made orthogonal to all of them and to each other, and small, see `SPREAD`.

    Where a weight has fewer numbers than there are templates, ``drawn`` keeps its directions.
    """
    if not len(drawn):
        return weights
    columns = torch.cat((weights, drawn)).flatten(1).T.double()
    if columns.shape[0] >= columns.shape[1]:
        columns = torch.linalg.qr(columns)[0]
    rest = columns[:, len(weights) :].T
    size = weights.double().square().mean().sqrt() / rest.square().mean(1, keepdim=True).sqrt()
    return torch.cat((weights, (SPREAD * size * rest).reshape(drawn.shape).to(weights)))
