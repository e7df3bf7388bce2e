"""Regimes of training for batches of different sizes: what to change when the batch changes.

A batch of M samples in the place of one of M₀ has k = M / M₀ times the samples a step, and

* the learning rate grows by √k ("sqrt", which keeps the covariance of the steps) or by k ("linear", which keeps their
  mean over the same samples; for plain gradient descent with batches far below the noise scale), with a warm-up;
* the number of updates stays ("regime adaptation", ``updates`` = 1), or shrinks by k so that the samples seen stay
  (``updates`` = 0), or by k^(1 - updates) in between: k^updates times the samples are seen.

Source: Hoffer, Hubara, Soudry, "Train longer, generalize better", NeurIPS 2017; warm-up: Goyal et al. 2017; moments of
Adam and weight averages: Malladi, Lyu, Panigrahi, Arora, "On the SDEs and scaling rules for adaptive gradient
algorithms", NeurIPS 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from fieldwright.errors import InputError
from fieldwright.training.phases import Phase

Rule = Literal["sqrt", "linear"]
POWER: dict[Rule, float] = {"sqrt": 0.5, "linear": 1.0}
WARMUP_EPOCHS, WARMUP_SHARE, LONGEST_WARMUP = 5, 0.05, 0.25
"""A warm-up lasts five epochs or a twentieth of the updates, whichever is longer, and a quarter of them at most."""

FASTEST_SECOND_MOMENT = 0.1
"""1 - β₂ grows with the batch up to this."""


@dataclass(frozen=True)
class Regime:
    """A training in numbers of updates; ``drops`` are the updates at which the learning rate is lowered.

    ``betas`` and ``eps`` are Adam's, ``ema`` the decay of a weight average; None where there is none.
    """

    batch_size: int
    learning_rate: float
    updates: int
    warmup: int = 0
    drops: tuple[int, ...] = ()
    weight_decay: float = 0.0
    betas: tuple[float, float] | None = None
    eps: float | None = None
    ema: float | None = None


def transferred(regime: Regime, batch_size: int, *, samples: int, rule: Rule = "sqrt", updates: float = 1.0) -> Regime:
    """The regime for another batch size: a pure function; there and back gives the rate, moments and updates again.

    ``samples``  of the training set, which tell how long an epoch is
    ``updates``  1: as many updates as before, 0: as many samples, see the module

    With k = M/M₀: the decay λ keeps ηλ·updates; weight averages take the decay to the power k; with the square-root
    rule Adam's moments take 1 - β to k (1 - β), β₁ down to zero and 1 - β₂ up to `FASTEST_SECOND_MOMENT`, and ε to
    ε/√k. Momentum of gradient descent and Lion's β stay.

    Errors: `InputError` for numbers out of range.
    """
    if batch_size < 1 or samples < 1 or regime.batch_size < 1 or regime.updates < 1:
        raise InputError(f"large batch: batch {batch_size}, {samples} samples, {regime}; all are at least 1")
    if rule not in POWER or not 0 <= updates <= 1:
        raise InputError(f"large batch: rule {rule!r}, updates {updates}; allowed are sqrt and linear, and 0 to 1")
    k = batch_size / regime.batch_size
    rate = regime.learning_rate * k ** POWER[rule]
    steps = max(round(regime.updates * k ** (updates - 1)), 1)
    stretch = steps / regime.updates
    warmup = round(regime.warmup * stretch)
    if rate > regime.learning_rate:
        warmup = max(warmup, round(warmup_share(samples / batch_size / steps) * steps))
    moments: dict[str, Any] = {}
    if regime.betas is not None and rule == "sqrt":
        moments["betas"] = adam_betas(regime.betas, k)
    if regime.eps is not None and rule == "sqrt":
        moments["eps"] = regime.eps / math.sqrt(k)
    return replace(
        regime,
        batch_size=batch_size,
        learning_rate=rate,
        updates=steps,
        warmup=warmup,
        drops=tuple(round(drop * stretch) for drop in regime.drops),
        weight_decay=regime.weight_decay * regime.learning_rate / (rate * stretch),
        ema=None if regime.ema is None else regime.ema**k,
        **moments,
    )


def warmup_share(epoch: float) -> float:
    """The share of the updates that warm up, where an epoch is the share ``epoch`` of them."""
    return min(max(WARMUP_EPOCHS * epoch, WARMUP_SHARE), LONGEST_WARMUP)


def adam_betas(betas: tuple[float, float], factor: float) -> tuple[float, float]:
    """β₁ and β₂ for ``factor`` times the batch: 1 - β becomes k (1 - β), within the bounds of `transferred`."""
    first, second = (factor * (1 - beta) for beta in betas)
    return 1 - min(first, 1.0), 1 - min(second, max(FASTEST_SECOND_MOMENT, 1 - betas[1]))


class Transfer(BaseModel):
    """What a recipe says of a phase whose settings were found with another batch size: the phase that it means.

    ``from_batch``  the batch for which learning rate, decay, average and budget are given
    ``rule``        "sqrt" or "linear"
    ``updates``     1: as many updates, 0: as many samples, see the module; a budget in seconds stays as it is
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    from_batch: PositiveInt
    rule: Rule = "sqrt"
    updates: Annotated[float, Field(ge=0, le=1)] = 1.0

    def __call__(self, phase: Phase, samples: int | None = None) -> Phase:
        """The phase for its own ``batch_size``. ``samples`` of the training set make the warm-up exact, see
        `warmup_share`, where the budget is not in epochs.
        """
        k = phase.batch_size / self.from_batch
        grown, seen = k ** (self.updates - 1), k**self.updates
        epochs = None if phase.epochs is None else phase.epochs * seen
        steps = None if phase.steps is None else max(round(phase.steps * grown), 1)
        rate = phase.learning_rate * k ** POWER[self.rule]
        warmup = phase.warmup
        if rate > phase.learning_rate:
            length = samples / phase.batch_size / steps if samples and steps else 0.0
            warmup = max(warmup, warmup_share(1 / epochs if epochs else length))
        decay = phase.weight_decay
        kind = phase.optimizer if isinstance(phase.optimizer, str) else phase.optimizer["kind"]
        if kind != "adam":  # whose decay is part of the gradient that it normalises
            decay *= phase.learning_rate / (rate * grown)
        return phase.model_copy(
            update={
                "learning_rate": rate,
                "warmup": warmup,
                "weight_decay": decay,
                "steps": steps,
                "epochs": epochs,
                "flops": None if phase.flops is None else phase.flops * seen,
                "ema": None if phase.ema is None else phase.ema**k,
            }
        )
