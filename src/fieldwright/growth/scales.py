"""Growth to more scales: more Fourier modes, or coarser grids of a V-cycle. The same function at the start, exactly.

modes    R'_k = R_k for the waves that there were, 0 for the others
levels   a coarser grid whose prolongation is zero
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import nn

from fieldwright.errors import InputError
from fieldwright.growth.blocks import check_plain, constructor_settings, rebuilt
from fieldwright.growth.plan import MOMENTS, Axis, Copy, Draw, GrowthPlan, Moments, StateRule, TensorMap
from fieldwright.operators import FourierOperator, MultigridOperator


@dataclass(frozen=True)
class Modes:
    """More modes for a `FourierOperator`: a number, or one for each axis. Moments of the new ones are m = 0 and as v
    the median of the others.
    """

    modes: int | Sequence[int]
    moments: Moments = "clone"

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for another operator, or modes that are not more than there are."""
        check_plain(model)
        _check_moments(self.moments)
        if not isinstance(model, FourierOperator):
            raise InputError(f"growth: {type(model).__name__} has no modes that can grow; a FourierOperator has")
        before: tuple[int, ...] = model.spectral[0].modes  # type: ignore[assignment]
        after = (self.modes,) * model.dimension if isinstance(self.modes, int) else tuple(self.modes)
        if (
            len(after) != len(before)
            or any(b < a for a, b in zip(before, after, strict=True))
            or after == tuple(before)
        ):
            raise InputError(f"growth: modes {self.modes}; the operator has {list(before)} and can get more of them")
        settings = {"modes": list(after)}
        fresh = rebuilt(model, settings, seed=seed)
        last = len(after) - 1
        axes = {axis: modes_map(before[axis], after[axis], half=axis == last) for axis in range(len(after))}
        maps = {
            name: TensorMap(
                tuple(tensor.shape),
                (Copy(name, axes=axes if name.startswith("spectral.") and name.endswith(".weight") else {}),),
            )
            for name, tensor in fresh.named_parameters()
        }
        return _exact_plan(self, settings, maps, self.moments, seed)


@dataclass(frozen=True)
class Levels:
    """More levels for the V-cycles of a `MultigridOperator`, coarser than those there are, of two steps each."""

    levels: int
    moments: Moments = "clone"

    def plan(self, model: nn.Module, *, seed: int = 0) -> GrowthPlan:
        """Errors: `InputError` for another operator, or levels that are not more than there are."""
        check_plain(model)
        _check_moments(self.moments)
        if not isinstance(model, MultigridOperator):
            raise InputError(f"growth: {type(model).__name__} has no levels that can grow; a MultigridOperator has")
        built = constructor_settings(model)
        before = built["levels"]
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels <= before:
            raise InputError(f"growth: levels {self.levels}; it must be a whole number above the {before} there are")
        steps = built.get("smoothing") or [[1, 0]] * (before - 1) + [[2, 0]]
        # The coarsest level keeps its steps, so that what it does is what it did.
        smoothing = [list(pair) for pair in steps] + [[2, 0]] * (self.levels - before)
        settings = {"levels": self.levels, "smoothing": smoothing}
        fresh = rebuilt(model, settings, seed=seed)
        own = dict(model.named_parameters())
        maps = {}
        for name, tensor in fresh.named_parameters():
            shape = tuple(tensor.shape)
            new = () if ".prolong." in name else (Draw("built"),)
            maps[name] = TensorMap.clone(name, shape) if name in own else TensorMap(shape, new)
        return _exact_plan(self, settings, maps, self.moments, seed)


def modes_map(before: int, after: int, *, half: bool) -> Axis:
    """Places of the kept waves: -⌊m/2⌋ ≤ k < ⌈m/2⌉, or 0 ≤ k ≤ ⌊m/2⌋ on the last axis."""
    if half:
        return Axis(tuple(k if k <= before // 2 else -1 for k in range(after // 2 + 1)))
    waves = range(-(after // 2), (after + 1) // 2)
    return Axis(tuple(k + before // 2 if -(before // 2) <= k < (before + 1) // 2 else -1 for k in waves))


def _exact_plan(
    growth: Modes | Levels, settings: dict, maps: dict[str, TensorMap], moments: Moments, seed: int
) -> GrowthPlan:
    return GrowthPlan(
        growth={"kind": type(growth).__name__, **asdict(growth)},
        settings=settings,
        parameters=maps,
        states={name: StateRule(one if one.copies else None, moments) for name, one in maps.items()},
        preserves="exact",
        seed=seed,
    )


def _check_moments(moments: str) -> None:
    if moments not in MOMENTS:
        raise InputError(f"growth: moments '{moments}'; allowed are {', '.join(MOMENTS)}")
