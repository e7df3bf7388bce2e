"""Apply a growth: a new module, and optimizer, average and schedule that go on with it.

The source is left as it is, whatever fails. All is done by the names of parameters, in memory of its own; draws depend
on the seed and the name of a tensor alone, so every process of a parallel training grows the same model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.growth.blocks import check_plain, constructor_settings, rebuilt
from fieldwright.growth.plan import GrowthPlan, NamedState

TOLERANCE = 1e-10
"""Relative change of the outputs, in double precision, up to which a growth has kept the function."""


class Growth(Protocol):
    """A way to grow: `Stack`, `Zero`, `RandomBlocks`, `Widen`, `Modes`, `Levels`, or a class of the user's."""

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Where each tensor of the grown model comes from."""
        ...


@dataclass(frozen=True)
class Schedule:
    """What becomes of a learning rate: "restart", "continue", or "rewarm" over so many ``steps``."""

    kind: Literal["restart", "continue", "rewarm"] = "restart"
    steps: int = 0

    def factor(self, step: int) -> float:
        """The factor of the rate, ``step`` updates after the growth; the first is 1 / (steps + 1)."""
        return min((step + 1) / (self.steps + 1), 1.0) if self.kind == "rewarm" else 1.0


@dataclass(frozen=True)
class Grown:
    """A grown model and what goes on with it. ``report`` holds parameters before and after, the change of the outputs
    on the probe (None where there was no probe), whether the function was kept, and what was not mapped.
    """

    model: nn.Module
    plan: GrowthPlan
    report: Mapping[str, Any]
    optimizer: torch.optim.Optimizer | None = None
    optimizer_state: NamedState | None = None
    ema: dict[str, Tensor] | None = None
    scheduler: Schedule | None = None


def grow(
    model: nn.Module,
    growth: Growth | GrowthPlan,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    optimizer_state: NamedState | None = None,
    ema: Mapping[str, Tensor] | None = None,
    scheduler: Schedule | None = None,
    probe: Sequence[Any] | None = None,
    seed: int = 0,
    verify: Literal["auto", "never"] = "auto",
) -> Grown:
    """A grown copy of a model.

    ``optimizer``        of the source: an optimizer of the same class and groups for the grown model, its state mapped
    ``optimizer_state``  the same by parameter name, for an optimizer that the caller builds
    ``ema``              a moving average of the source's parameters, by name
    ``scheduler``        what the caller's schedule is to do, handed on; "restart" when it is left out
    ``probe``            arguments of a call of the model to compare outputs on; None: drawn for operators of ours and
                         for language models
    ``verify``           "auto" compares the outputs on the probe before and after, in double precision

    Errors: `InputError` for a model that cannot grow so, and where a plan that keeps the function does not; `DataError`
    for weights that are not finite. The source and all that belongs to it stay as they were.
    """
    check_plain(model)
    if verify not in ("auto", "never"):
        raise InputError(f"growth: verify '{verify}'; allowed are auto and never")
    plan = growth if isinstance(growth, GrowthPlan) else growth.plan(model, seed=seed)
    target = rebuilt(model, plan.settings, seed=plan.seed)
    source = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors = {**dict(target.named_parameters()), **dict(target.named_buffers())}
    built = {name: tensor.detach().clone() for name, tensor in tensors.items()} if plan.draws_built_values else None
    with torch.no_grad():
        grown = plan.weights({name: tensor.detach() for name, tensor in source.items()}, built)
        _load(tensors, grown)
        average = plan.weights(ema, built) if ema is not None else None
    for name, parameter in target.named_parameters():
        first = next(iter(plan.parameters[name].copies), None)
        origin = source.get(first.source) if first is not None else None
        parameter.requires_grad_(origin is None or origin.requires_grad)
    report: dict[str, Any] = {
        "parameters before": sum(p.numel() for p in model.parameters()),
        "parameters after": sum(p.numel() for p in target.parameters()),
        "preserves": plan.preserves,
        "output change": None,
    }
    _check_memory(source, target)
    if verify == "auto" and not plan.ramped:
        report["output change"] = _check_function(model, target, plan, built, probe)
    states = None
    if optimizer is not None and optimizer_state is None:
        optimizer_state = _state_by_name(model, optimizer)
    if optimizer_state is not None:
        states = plan.state(optimizer_state)
        report["fresh states"] = sorted(name for name, _ in target.named_parameters() if name not in states)
    return Grown(
        target,
        plan,
        report,
        optimizer=_rebuilt_optimizer(model, optimizer, target, plan, states or {}) if optimizer is not None else None,
        optimizer_state=states,
        ema={name: value for name, value in average.items() if name in plan.parameters}
        if average is not None
        else None,
        scheduler=scheduler or Schedule(),
    )


def output_change(before: nn.Module, after: nn.Module, probe: Sequence[Any]) -> float:
    """|after(x) - before(x)| / |before(x)| in double precision, in evaluation mode."""
    with torch.no_grad():
        first, second = (_first_tensor(_double(one)(*_doubled(probe))) for one in (before, after))
    return float((second - first).norm() / first.norm().clamp(min=1e-300))


def probe_for(model: nn.Module) -> tuple[Tensor, ...] | None:
    """Arguments of a call: fields for operators of ours, tokens for language models; None for others."""
    settings = constructor_settings(model)
    generator = torch.Generator().manual_seed(0)
    if "in_channels" in settings:
        shape = (1, settings["in_channels"], *(16,) * settings.get("dimension", 2))
        return (torch.randn(shape, generator=generator, dtype=torch.float64),)
    if "vocab_size" in settings:
        return (torch.randint(settings["vocab_size"], (2, 8), generator=generator),)
    return None


def _load(tensors: Mapping[str, Tensor], grown: Mapping[str, Tensor]) -> None:
    for name, value in grown.items():
        if tensors[name].shape != value.shape:
            raise InputError(f"growth: '{name}' is {tuple(tensors[name].shape)} in the grown model, the plan makes"
                             f" {tuple(value.shape)}")  # fmt: skip
        tensors[name].copy_(value)


def _check_function(
    model: nn.Module,
    target: nn.Module,
    plan: GrowthPlan,
    fresh: Mapping[str, Tensor] | None,
    probe: Sequence[Any] | None,
) -> float | None:
    probe = probe if probe is not None else probe_for(model)
    if probe is None:
        return None
    # The plan on double weights: in single precision a weight that is split rounds, and the function with it.
    before, after = _double(model), _double(target)
    tensors = {**dict(after.named_parameters()), **dict(after.named_buffers())}
    source = {**dict(before.named_parameters()), **dict(before.named_buffers())}
    built = {name: tensor.to("cpu").double() for name, tensor in fresh.items()} if fresh is not None else None
    with torch.no_grad():
        _load(tensors, plan.weights({name: tensor.detach() for name, tensor in source.items()}, built))
    change = output_change(before, after, probe)
    if plan.preserves == "exact" and not change <= TOLERANCE:
        raise InputError(
            f"growth: {plan.growth.get('kind')} should keep the function of {type(model).__name__}, but its outputs"
            f" change by {change:.1e}; take another growth, or verify='never'"
        )
    return change


def _check_memory(source: Mapping[str, Tensor], target: nn.Module) -> None:
    """Errors: `InputError` where a grown tensor shares its memory with another or with the source."""
    taken = {tensor.untyped_storage().data_ptr() for tensor in source.values() if tensor.numel()}
    for name, parameter in target.named_parameters():
        place = parameter.untyped_storage().data_ptr()
        if parameter.numel() and place in taken:
            raise InputError(f"growth: '{name}' shares its memory with another tensor; the model's class ties them")
        taken.add(place)


def _state_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> NamedState:
    return {name: dict(optimizer.state[p]) for name, p in model.named_parameters() if p in optimizer.state}


def _rebuilt_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, target: nn.Module, plan: GrowthPlan, states: NamedState
) -> torch.optim.Optimizer:
    """An optimizer of the same class: each parameter in the group of its source, new ones in that of their kind."""
    names = {id(p): name for name, p in model.named_parameters()}
    group_of = {
        names[id(p)]: number for number, group in enumerate(optimizer.param_groups) for p in group["params"]
        if id(p) in names
    }  # fmt: skip
    members: list[list[nn.Parameter]] = [[] for _ in optimizer.param_groups]
    placed: list[list[str]] = [[] for _ in optimizer.param_groups]
    for name, parameter in target.named_parameters():
        rule = plan.states.get(name)
        sources = [*plan.parameters[name].copies, *(rule.gradient.copies if rule and rule.gradient else ())]
        found = [group_of[term.source] for term in sources if term.source in group_of]
        if not found and sources and not parameter.requires_grad:
            continue
        members[found[0] if found else 0].append(parameter)
        placed[found[0] if found else 0].append(name)
    groups = [
        {**{key: value for key, value in group.items() if key != "params"}, "params": own}
        for group, own in zip(optimizer.param_groups, members, strict=True)
    ]
    kept = [(group, own) for group, own in zip(groups, placed, strict=True) if own]
    fresh = type(optimizer)([group for group, _ in kept], **_defaults(optimizer))
    packed = fresh.state_dict()
    order = [name for _, own in kept for name in own]
    packed["state"] = {number: states[name] for number, name in enumerate(order) if name in states}
    fresh.load_state_dict(copy.deepcopy(packed))
    return fresh


def _defaults(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    import inspect

    taken = inspect.signature(type(optimizer).__init__).parameters
    return {name: value for name, value in optimizer.defaults.items() if name in taken}


def _double(model: nn.Module) -> nn.Module:
    # Sources that are wrapped in no way can be copied; hooks that the caller has put on them go along.
    return copy.deepcopy(model).to("cpu", torch.float64).eval()


def _doubled(probe: Sequence[Any]) -> list[Any]:
    return [
        one.detach().to("cpu", torch.float64 if one.is_floating_point() else one.dtype)
        if isinstance(one, Tensor)
        else one
        for one in probe
    ]


def _first_tensor(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    return outputs.logits if hasattr(outputs, "logits") else _first_tensor(outputs[0])
