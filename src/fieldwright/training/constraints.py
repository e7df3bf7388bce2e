"""What Lion-K's weight decay asks of the weights, how far they are from it, and how far they are from a minimum.

With y = λx and K* the conjugate of K (`fieldwright.training.kappa`), training has two phases. In the first the weights
come to dom K*/λ: what they exceed it by shrinks by 1 - ηλ a step at least. In the second they stay there, and

    H = f + K*(y)/λ + c (K*(y) + K(m) - λ<m, x>),     c = η'β₁ / (η'λ(1 - β₁) + 1 - β₂),   η' = η/(1 - ηλ),

falls, up to terms of η², where m is the average of -∇f. What is left to gain is bounded by

    S = K(-g) + K*(y) + λ<x, g> >= 0,

which is 0 at a minimum of f + K*(λx)/λ and only at a point that satisfies its first-order conditions; for convex f it
is λ times what is left to gain, at most.

Source: Chen, Liu, Liang, Liu, "Lion Secretly Solves Constrained Optimization", ICLR 2024 (sections 3 and 4); H and S in
this discrete form are derived from it, and checked in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.callback import Callback, Step
from fieldwright.training.kappa import Kappa, inner
from fieldwright.training.kappa_choice import kappa_of

NEAR = 0.95
"""A gauge from which on a constraint is called reached."""


@dataclass(frozen=True)
class Constraint:
    """What one K asks of the parameters of one group.

    ``text``      the condition, in x and λ; empty for a K that only adds a penalty
    ``largest``   the largest gauge: 0.01 is a hundredth of the bound, 1 the bound; nan without decay or condition
    ``excess``    how far the weights are outside, relative to the bound: 0 inside
    ``at_bound``  fraction of the conditions (one for each entry, row or singular value) from `NEAR` of the bound on
    """

    group: int
    kind: str
    weight_decay: float
    text: str
    largest: float
    excess: float
    at_bound: float

    @property
    def sentence(self) -> str:
        """The constraint and whether it is felt, for people."""
        where = f"group {self.group}, {self.kind}"
        if not self.text:
            return f"{where}: a penalty, no bound"
        if self.weight_decay == 0:
            return f"{where}: no bound, as weight_decay is 0; with λ of it {self.text}"
        state = f"{self.text} with λ = {self.weight_decay:g}"
        if self.excess > 0:
            return f"{where}: {state} is exceeded by {self.excess:.2g} of the bound"
        if self.largest < NEAR:
            return f"{where}: {state} is not active: the largest is {self.largest:.1%} of the bound"
        return f"{where}: {state} holds; {self.at_bound:.1%} are within 5 % of the bound"


@dataclass(frozen=True)
class ConstraintReport:
    """The constraints of all groups and the steps until all hold, by the rates to come; None where they do not reach.

    The steps are those in which what shrinks by 1 - ηλ a step falls below ``tolerance``: a bound from above.
    """

    constraints: tuple[Constraint, ...]
    steps_to_feasibility: int | None
    tolerance: float

    @property
    def text(self) -> str:
        """A line for each constraint, and one for the steps."""
        lines = [constraint.sentence for constraint in self.constraints]
        if any(constraint.excess > self.tolerance for constraint in self.constraints):
            steps = self.steps_to_feasibility
            found = "not within the rates to come" if steps is None else f"at most {steps:,} steps"
            lines.append(f"down to an excess of {self.tolerance:g}: {found}")
        return "\n".join(lines)


def implied_constraints(optimizer: torch.optim.Optimizer) -> tuple[Constraint, ...]:
    """The constraint of each group, one for each K in it."""
    found = []
    for number, group in enumerate(optimizer.param_groups):
        decay = group["weight_decay"]
        by_kind: dict[str, list[tuple[Kappa, Tensor]]] = {}
        for parameter in group["params"]:
            kappa = kappa_of(group["kappa"], parameter)
            by_kind.setdefault(kappa.kind, []).append((kappa, decay * _exact(parameter)))
        for kind, members in by_kind.items():
            text = members[0][0].constraint()
            gauges = torch.cat([kappa.gauges(y) for kappa, y in members]) if decay and text else torch.zeros(0)
            measured = gauges.numel() > 0
            found.append(
                Constraint(
                    number,
                    kind,
                    decay,
                    text,
                    largest=float(gauges.max()) if measured else math.nan,
                    excess=float((gauges.max() - 1).clamp_min(0)) if measured else 0.0,
                    at_bound=float((gauges >= NEAR).double().mean()) if measured else 0.0,
                )
            )
    return tuple(found)


def constraint_report(
    optimizer: torch.optim.Optimizer, rates: Sequence[float] | None = None, *, tolerance: float = 1e-3
) -> ConstraintReport:
    """The constraints, and the steps to feasibility if the learning rates to come are ``rates``; None: as it is now.

    With groups of different rates ``rates`` are those of the first, and the others keep their ratio to it.
    """
    constraints = implied_constraints(optimizer)
    leading = float(optimizer.param_groups[0]["lr"])
    worst: int | None = 0
    for constraint in constraints:
        own = float(optimizer.param_groups[constraint.group]["lr"])
        ratio = own / leading if leading else 1.0
        steps = _steps_to(
            tolerance, constraint, [own] if rates is None else [ratio * r for r in rates], for_ever=rates is None
        )
        worst = None if steps is None or worst is None else max(worst, steps)
    return ConstraintReport(constraints, worst, tolerance)


def _steps_to(tolerance: float, constraint: Constraint, rates: Sequence[float], *, for_ever: bool) -> int | None:
    if constraint.excess <= tolerance:
        return 0
    wanted = math.log(constraint.excess / tolerance)
    if for_ever:
        speed = -math.log1p(-rates[0] * constraint.weight_decay)
        return math.ceil(wanted / speed) if speed > 0 else None
    for step, rate in enumerate(rates, start=1):
        wanted += math.log1p(-rate * constraint.weight_decay)
        if wanted <= 0:
            return step
    return None


def lyapunov(optimizer: torch.optim.Optimizer, loss: float) -> float:
    """H at the weights and momenta as they are, with f = ``loss``; infinite before the constraints hold.

    An ``epsilon`` in units of the mean is taken at the momentum, so H is then one of a function that changes.
    """
    total = loss
    for group, kappa, parameter in _parameters(optimizer):
        decay, (beta1, beta2) = group["weight_decay"], group["betas"]
        implicit = float(group["lr"]) / (1 - float(group["lr"]) * decay)
        weight = implicit * beta1 / (implicit * decay * (1 - beta1) + 1 - beta2)
        x = _exact(parameter)
        momentum = optimizer.state.get(parameter, {}).get("exp_avg")
        m = -_exact(momentum) if momentum is not None else torch.zeros_like(x)
        fixed = kappa.at(m)
        penalty = float(fixed.conjugate(decay * x))
        total += weight * (penalty + float(fixed.value(m)) - decay * float(inner(m, x)))
        if decay:
            total += penalty / decay
    return total


def stationarity(optimizer: torch.optim.Optimizer, *, of: Literal["gradient", "momentum"] = "gradient") -> float:
    """S at the weights as they are, from the gradients that they hold or from their averages; infinite outside.

    Only with the gradient of the whole objective it is a certificate. Parameters without one are left out.
    """
    total = 0.0
    for group, kappa, parameter in _parameters(optimizer):
        own = parameter.grad if of == "gradient" else optimizer.state.get(parameter, {}).get("exp_avg")
        if own is None:
            continue
        x, g = _exact(parameter), _exact(own)
        fixed, decay = kappa.at(-g), group["weight_decay"]
        total += float(fixed.value(-g)) + float(fixed.conjugate(decay * x)) + decay * float(inner(x, g))
    return total


class ConstraintWatch(Callback):
    """Logs the two phases: ``constraint_excess``, how far the weights are outside what weight decay asks of them, and
    ``at_bound``, the fraction of the conditions that are within 5 % of it. For ``lion-k``.

    Errors: `InputError` with another optimizer.
    """

    columns = ("constraint_excess", "at_bound")

    def begin(self, step: Step) -> None:
        if any("kappa" not in group for group in step.optimizer.param_groups):
            raise InputError(f"callbacks: 'constraint' is for lion-k; the optimizer is {type(step.optimizer).__name__}")
        self._optimizer = step.optimizer

    def figures(self) -> Mapping[str, float]:
        constraints = implied_constraints(self._optimizer)
        felt = [constraint.at_bound for constraint in constraints if not math.isnan(constraint.largest)]
        return {
            "constraint_excess": max((constraint.excess for constraint in constraints), default=0.0),
            "at_bound": max(felt, default=0.0),
        }

    def end(self, step: Step) -> str:
        return "constraints: " + "; ".join(constraint.sentence for constraint in implied_constraints(step.optimizer))


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], Kappa, Tensor]]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield group, kappa_of(group["kappa"], parameter), parameter


def _exact(tensor: Tensor) -> Tensor:
    """Without its history, and in single precision at least."""
    tensor = tensor.detach()
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
