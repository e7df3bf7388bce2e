"""What a training of any size takes: model and updates drawn out from the pilots, seconds from their steps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch

from fieldwright.analysis import DataPlan, fit_joint_law, value_of_pilot
from fieldwright.errors import InputError, RecipeError
from fieldwright.operators import parameter_count
from fieldwright.pipeline.pilots import Setting, step_operations, with_setting
from fieldwright.pipeline.stages import seeded_operator
from fieldwright.recipe import Recipe
from fieldwright.report.plan import Bill, Pilot
from fieldwright.report.quantities import duration, percent

ASSUMED_GROWTH = 0.7
"""Weights grow as samples to this power where too few model sizes were best to measure it (Hestness et al., 2017)."""
LEAST_PILOTS = 3
"""Sizes of pilots, and widths among their best, that a law takes at least."""


class Accountant:
    """Bills of trainings of any size, from the best pilots of each; ``ratio`` is that of the other device, or None."""

    def __init__(
        self,
        recipe: Recipe,
        data: DataPlan,
        best: Sequence[Pilot],
        largest: Pilot,
        seconds_per_sample: float,
        ratio: float | None,
    ) -> None:
        self.recipe, self.data, self.largest = recipe, data, largest
        self.seconds_per_sample, self.ratio = seconds_per_sample, ratio
        own = [pilot for pilot in best if pilot.seed == recipe.seed]
        self.measured = {pilot.samples: pilot for pilot in own}
        self.updates_growth = growth_of(own, "updates")
        self.assumptions = [f"updates grow as samples to the power {self.updates_growth:.2f}, as in the pilots"]
        self.weights_growth = 0.0
        if largest.width is not None:
            measured = len({pilot.width for pilot in own}) >= LEAST_PILOTS
            self.weights_growth = growth_of(own, "parameters") if measured else ASSUMED_GROWTH
            self.assumptions.append(
                f"weights grow as samples to the power {self.weights_growth:.2f}, "
                + ("as in the pilots" if measured else "an assumption: too few widths were best in the pilots")
            )

    def bill(self, samples: int) -> Bill:
        """What ``samples`` training samples take: of a pilot's size what it took."""
        pilot, factor = self.measured.get(samples), samples / self.largest.samples
        if pilot is not None:
            width, parameters, updates = pilot.width, pilot.parameters, pilot.updates
            training = updates * pilot.seconds_per_update
        else:
            updates = max(1, round(self.largest.updates * factor**self.updates_growth))
            width, parameters, flops = self._model(factor**self.weights_growth, updates)
            training = updates * self.largest.seconds_per_update * flops / self.largest.flops
        predicted = self.data.predict(samples)
        return Bill(
            samples=samples,
            error=predicted.median,
            low=predicted.low,
            high=predicted.high,
            width=width,
            parameters=parameters,
            updates=updates,
            data_seconds=samples * self.seconds_per_sample,
            training_seconds=training,
            device_seconds=None if self.ratio is None else training / self.ratio,
        )

    def _model(self, growth: float, updates: int) -> tuple[int | None, int, int]:
        """Width, weights and FLOPs of a step of a model of ``growth`` times the weights; as it is where that fails."""
        as_it_is = self.largest.width, self.largest.parameters, self.largest.flops
        if self.largest.width is None:
            return as_it_is
        exact = self.largest.width * math.sqrt(growth)
        width = max(2, round(exact / 4) * 4 if exact >= 8 else round(exact))
        if width == self.largest.width:
            return as_it_is
        try:
            recipe = with_setting(self.recipe, Setting(width, updates))
            return width, parameter_count(seeded_operator(recipe)), step_operations(recipe)
        except RecipeError:
            return as_it_is


def growth_of(pilots: Sequence[Pilot], what: str) -> float:
    """The power of the samples with which a choice of the pilots grows, between 0 and 1."""
    sizes, values = (np.log([float(getattr(p, name)) for p in pilots]) for name in ("samples", what))
    return float(np.clip(np.polyfit(sizes, values, 1)[0], 0.0, 1.0))


def next_pilot(data: DataPlan, accountant: Accountant) -> str:
    """Which further pilot would narrow the interval most for its time."""
    if data.status == "reached":
        return ""
    curve = data.law.curve
    at = float(data.expected or 8 * curve.largest)
    candidates = {f"one of {round(curve.largest) * k} samples": round(curve.largest) * k for k in (1, 2, 4)}
    values = {name: value_of_pilot(curve, size, at) for name, size in candidates.items()}
    costs = {name: accountant.bill(size).seconds for name, size in candidates.items()}
    name = max(candidates, key=lambda one: values[one] / costs[one])
    if values[name] <= 0:
        return ""
    narrower = percent(values[name])
    return f"the next pilot that pays most: {name}, {duration(costs[name])} for an interval {narrower} narrower"


def joint_remark(pilots: Sequence[Pilot], safe: Bill | None) -> tuple[str, ...]:
    """What the joint law of weights and samples says, where the search has tried enough of both."""
    best: dict[tuple[int, int], float] = {}
    for pilot in pilots:
        key = pilot.parameters, pilot.samples
        best[key] = min(pilot.test_error, best.get(key, math.inf))
    try:
        law = fit_joint_law([(*key, error) for key, error in best.items()], resamples=0).law
        weights, samples = law.split(float(safe.parameters * safe.samples)) if safe is not None else (0.0, 0.0)
    except InputError:
        return ()
    said = (
        f"all widths together follow {law.floor:.2g} + {law.model_factor:.2g} N^-{law.model_exponent:.2f} +"
        f" {law.data_factor:.2g} D^-{law.data_exponent:.2f} of N weights and D samples to"
        f" {percent(law.misfit)} (root mean square)"
    )
    split = f"; by it, the safe plan's N·D is best spent on {weights:.2g} weights and {samples:.2g} samples"
    return (said + (split if safe is not None else ""),)


def device_ratio(
    name: str | None, stated: float | None, recipe: Recipe, largest: Pilot
) -> tuple[float | None, tuple[str, ...]]:
    """How many times faster a step is on the device ``name``, and in words how that is known: stated, or measured."""
    if name is None:
        return None, ()
    if stated is not None:
        return stated, (
            f"a training step on {name} is taken as {stated:g} times faster than here,"
            " as stated by the user and not measured",
        )
    chosen = with_setting(recipe, Setting(largest.width, largest.updates))
    here, there = (_step_seconds(chosen, device) for device in ("cpu", "cuda"))
    return here / there, (
        f"a training step on {name} was measured on this machine's {torch.cuda.get_device_name()}:"
        f" {here / there:.3g} times faster than on its CPU at the width of the largest pilot",
    )


def _step_seconds(recipe: Recipe, device: str, steps: int = 5) -> float:
    """Seconds of a forward and backward pass on a batch, the median of a few."""
    problem, operator = recipe.build_problem(), seeded_operator(recipe).to(device)
    batch = torch.zeros(recipe.training.batch_size, len(problem.inputs), *problem.grid.shape, device=device)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        operator(batch).square().sum().backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[2:]))
