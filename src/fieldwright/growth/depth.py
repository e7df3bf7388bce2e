"""Growth in depth: the stack of blocks repeated, with blocks that are copies, do nothing yet, or are fresh.

    Stack     block i of the target is block π(i) of the source; on copies a gain γ on the residual branches: γ = 1 is
              the stack of the paper, γ = 0 keeps the function
    Zero      the same with γ = 0
    Random    fresh blocks, whose gain rises from 0 to 1 in the steps after the growth

Where a block x ← x + f(x) ends in a linear map or a norm, γ is a factor of its weights. Where it is x ← F(x) the grown
operator is `blended`: x ← x + γ (F(x) - x), with γ a parameter of its own for each block.

Source: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 3: G_stack, G_zero and G_random in depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.growth.blocks import Blocks, chosen, constructor_settings, growing_blocks, rebuilt
from fieldwright.growth.orders import Order, kept_places, order_of_blocks
from fieldwright.growth.plan import (
    MOMENTS,
    Axis,
    Copy,
    Draw,
    GrowthPlan,
    Moments,
    StateRule,
    TensorMap,
    deviation_of_noise,
    fresh_like,
)


@dataclass(frozen=True)
class Stack:
    """Repeat the blocks, copies of each with gain ``gain`` on their residual branches.

    ``factor``  how many times as many blocks (2 to 4 are good); None where ``order`` is a list or text of blocks
    ``order``   see `fieldwright.growth.orders`
    ``gain``    γ in [0, 1] of the copies; below 1 the blocks that are kept are those `kept_places` finds
    ``noise``   α of W ← (1 - α) W + α ε on every matrix; 0.2 was slightly better than none in the paper
    ``moments`` of the optimizer: "clone" (which is a guess, since the function changes), "second-only" or "reset"
    ``part``    the list of blocks to grow, where a model has several; None for all

    Warm the learning rate up again: the loss jumps right after the growth.
    """

    factor: int | None = 2
    order: Order = "stack"
    gain: float = 1.0
    noise: float = 0.0
    moments: Moments = "clone"
    part: str | None = None

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for a setting that does not fit the model."""
        _check_share("gain", self.gain)
        _check_share("noise", self.noise)
        return _plan(self, model, seed, new="copy", gain=self.gain, noise=self.noise)


@dataclass(frozen=True)
class Zero:
    """Repeat the blocks, with gain 0 on copies: the same function, exactly. Settings as in `Stack`."""

    factor: int | None = 2
    order: Order = "stack"
    moments: Moments = "clone"
    part: str | None = None

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for a setting that does not fit the model, or an order that reorders its blocks."""
        return _plan(self, model, seed, new="copy", gain=0.0)


@dataclass(frozen=True)
class RandomBlocks:
    """Fresh blocks among the trained ones. Settings as in `Stack`.

    ``ramped``  leave out their branches at first, to be let in by `fieldwright.growth.ramp.Ramp`: the same function
                at the start; without it the model starts with what fresh blocks do to it
    """

    factor: int | None = 2
    order: Order = "stack"
    ramped: bool = True
    moments: Moments = "clone"
    part: str | None = None

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for a setting that does not fit the model."""
        return _plan(self, model, seed, new="fresh", gain=1.0, ramped=self.ramped)


def _plan(
    growth: Stack | Zero | RandomBlocks,
    model: nn.Module,
    seed: int,
    *,
    new: Literal["copy", "fresh"],
    gain: float,
    noise: float = 0.0,
    ramped: bool = False,
) -> GrowthPlan:
    if growth.moments not in MOMENTS:
        raise InputError(f"growth: moments '{growth.moments}'; allowed are {', '.join(MOMENTS)}")
    parts = [_Part.of(blocks, growth, softened=new == "fresh" or gain != 1) for blocks in _growable(model, growth.part)]
    blended = ramped or gain != 1
    settings = _settings(model, parts, blended=blended)
    fresh = rebuilt(model, settings, seed=seed)
    source = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    maps: dict[str, TensorMap] = {}
    states: dict[str, StateRule] = {}
    ramps: set[str] = set()
    for name, tensor in [*fresh.named_parameters(), *fresh.named_buffers()]:
        shape = tuple(tensor.shape)
        part, place = next(((p, b) for p in parts if (b := p.blocks.block_of(name)) is not None), (None, None))
        gains = next((p for p in parts if blended and name == p.blocks.gains), None)
        if gains is not None:
            maps[name], states[name], own = gains.gain_map(name, source, shape, 0.0 if ramped else gain)
            ramps |= own if ramped else set()
            continue
        if part is None or place is None:
            maps[name] = noisy(TensorMap.clone(name, shape), noise, 1, ends_branch=False)
            states[name] = StateRule(TensorMap.clone(name, shape), growth.moments)
            continue
        path, number, rest = place
        origin = part.blocks.name_of(path, part.source_of(number), rest)
        ends = part.blocks.ends_branch(rest)
        if part.is_kept(number) or (new == "copy" and gain == 1):
            value, rule = TensorMap.clone(origin, shape), StateRule(TensorMap.clone(origin, shape), growth.moments)
        elif new == "copy":
            value = TensorMap(shape, (Copy(origin, gain if ends else 1.0),))
            # At gain 0 nothing is known of a copy's gradients but their size.
            rule = StateRule(
                TensorMap.clone(origin, shape),
                "second-only" if gain == 0 and growth.moments == "clone" else growth.moments,
            )
        else:
            value = TensorMap(shape, (Draw("built"),))
            rule = StateRule(fresh_like(origin, len(shape), shape), growth.moments)
            if ramped and ends and not part.blocks.gains:
                end = next(end for end in part.blocks.ends if part.blocks.ends_branch(rest) and rest.startswith(end))
                ramps.add(part.blocks.name_of(path, number, end))
        maps[name] = noisy(value, noise, part.target_count, ends_branch=ends)
        states[name] = rule
    parameters = {name for name, _ in fresh.named_parameters()}
    keeps = noise == 0 and (ramped or (new == "copy" and gain == 0))
    return GrowthPlan(
        growth={"kind": type(growth).__name__, **asdict(growth)},
        settings=settings,
        parameters={name: one for name, one in maps.items() if name in parameters},
        buffers={name: one for name, one in maps.items() if name not in parameters},
        states={name: rule for name, rule in states.items() if name in parameters},
        preserves="exact" if keeps else "none",
        ramped=tuple(sorted(ramps)),
        seed=seed,
    )


@dataclass(frozen=True)
class _Part:
    """A list of blocks with the order of its deeper stack, in blocks and not in units."""

    blocks: Blocks
    order: tuple[int, ...]
    kept: frozenset[int] | None

    @classmethod
    def of(cls, blocks: Blocks, growth: Stack | Zero | RandomBlocks, *, softened: bool) -> _Part:
        units = blocks.count // blocks.period
        order = order_of_blocks(growth.order, units, growth.factor)
        kept = kept_places(order, units, latest=blocks.last_differs) if softened else None
        if softened and kept is None:
            raise InputError(
                f"growth: order {list(order)} leaves out or reorders blocks; then none can be left as it is"
            )
        if softened and not blocks.ends and not blocks.gains:
            raise InputError(
                f"growth: blocks '{blocks.name}' have no residual branch whose gain is known; take a Stack"
            )
        expanded = tuple(unit * blocks.period + i for unit in order for i in range(blocks.period))
        if kept is None:
            return cls(blocks, expanded, None)
        return cls(blocks, expanded, frozenset(p * blocks.period + i for p in kept for i in range(blocks.period)))

    @property
    def target_count(self) -> int:
        return len(self.order)

    def source_of(self, number: int) -> int:
        return self.order[number]

    def is_kept(self, number: int) -> bool:
        return self.kept is not None and number in self.kept

    def gain_map(
        self, name: str, source: Mapping[str, Tensor], shape: tuple[int, ...], gain: float
    ) -> tuple[TensorMap, StateRule, set[str]]:
        """The gains of the blocks: those of the source, or 1, on kept ones, and ``gain`` on the others."""
        own = [self.is_kept(place) for place in range(len(self.order))]
        ramps = {f"{name}:{place}" for place, kept in enumerate(own) if not kept}
        if name in source:
            axis = Axis(self.order, tuple(1.0 if kept else gain for kept in own))
            known = Axis(tuple(place if kept else -1 for place, kept in zip(self.order, own, strict=True)))
            rule = StateRule(TensorMap(shape, (Copy(name, axes={0: known}),)))
            return TensorMap(shape, (Copy(name, axes={0: axis}),)), rule, ramps
        draws = tuple(
            Draw("constant", 1.0 if kept else gain, ((place, place + 1),))
            for place, kept in enumerate(own)
            if kept or gain
        )
        return TensorMap(shape, draws), StateRule(None), ramps


def _growable(model: nn.Module, part: str | None) -> list[Blocks]:
    found = chosen(growing_blocks(model), part)
    for blocks in found:
        if blocks.count < 1:
            raise InputError(f"growth: '{blocks.name}' of {type(model).__name__} has no block that can be repeated")
        if blocks.count % blocks.period:
            raise InputError(
                f"growth: '{blocks.name}' of {type(model).__name__} has {blocks.count} blocks, which come in units of"
                f" {blocks.period}; only whole units can be repeated"
            )
    return found


def _settings(model: nn.Module, parts: Sequence[_Part], *, blended: bool) -> dict[str, Any]:
    """The constructor's arguments of the deeper model."""
    built = constructor_settings(model)
    settings: dict[str, Any] = {}
    for part in parts:
        blocks = part.blocks
        count = part.target_count + blocks.first
        if blocks.place is not None:
            settings.setdefault(blocks.setting, [other.count for other in growing_blocks(model)])
            settings[blocks.setting][blocks.place] = count
        else:
            settings[blocks.setting] = count // blocks.period if blocks.setting == "depth" else count
        if blended and blocks.gains:
            settings["blended"] = True
        kinds = built.get("layer_types")
        if kinds and blocks.setting == "num_hidden_layers":
            settings["layer_types"] = [kinds[place] for place in part.order]
    return settings


def noisy(value: TensorMap, noise: float, layers: int, *, ends_branch: bool) -> TensorMap:
    """The same map with noise of share α on what it copies, for matrices; ``layers`` of the target."""
    if not noise or len(value.shape) < 2:
        return value
    kept = tuple(
        Copy(term.source, term.gain * (1 - noise), term.axes) if isinstance(term, Copy) else term
        for term in value.terms
    )
    scale = noise * deviation_of_noise(value.shape, layers=layers, ends_branch=ends_branch)
    return TensorMap(value.shape, (*kept, Draw("normal", scale)))


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"growth: {name} {value}; it must lie in [0, 1]")
