"""Lion-K: momentum through the subgradient of a convex function, with decoupled weight decay.

With g the gradient, m the momentum (an average of gradients), η the learning rate, λ the weight decay and K convex,

    u = β₁ m + (1 - β₁) g,     x ← (1 - ηλ) x + η ∂K(-u),     m ← β₂ m + (1 - β₂) g,

which minimises f(x) + K*(λx)/λ: weight decay makes a constraint or a penalty of K, see `fieldwright.training.kappa`.
By default weights of two or more axes have the spectral K (Muon's direction), scaled so that entries have the root mean
square of a sign, and everything else has the sign (Lion), so both share one learning rate.

Source: Chen, Liu, Liang, Liu, "Lion Secretly Solves Constrained Optimization", ICLR 2024 (section 2, table of K).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training.constraints import (
    Constraint,
    ConstraintReport,
    constraint_report,
    implied_constraints,
    lyapunov,
    stationarity,
)
from fieldwright.training.kappa import Kappa, Separable
from fieldwright.training.kappa_choice import KappaChoice, build_kappa, kappa_of
from fieldwright.training.kappa_sets import Spectral
from fieldwright.training.sign_steps import blocked_sign_step, compiled_sign_step, is_plain

MOMENTUM = "exp_avg"
"""The one tensor of state, by the name that other implementations of Lion and Adam give it."""

SIGN = Separable("sign")

Kernel = Literal["foreach", "blocked", "compiled"]


class LionK(torch.optim.Optimizer):
    """Lion-K with any K, its own for each group of parameters.

    ``lr``              η; a fifth to a half of a good AdamW rate
    ``betas``           (β₁, β₂), β₁ <= β₂; (0.95, 0.98) is the stable choice of Lion's authors
    ``weight_decay``    λ. A bound of 1/λ is out of any weight's reach for the usual 0.01 to 0.1
    ``kappa``           K by name, settings or as it is, see `fieldwright.training.kappa_choice.build_kappa`
    ``state_dtype``     of the momentum, such as torch.bfloat16 for half the memory; None: the parameter's
    ``kernel``          how parameters with the sign are moved, to the same bits: "foreach", operation by operation
                        over all; "blocked", in pieces that stay in the cache; "compiled", in one pass over memory by a
                        kernel for CPUs, which falls back to blocked for what it does not take
    ``skip_nonfinite``  leave out an update whose gradients are not all finite, and count it in ``skipped``; a NaN in a
                        momentum would stay for ever. It reads all gradients once more
    ``capturable``      keep η in a tensor, so that a step can be recorded in a CUDA graph and the rate changed after

    ``lr``, ``betas``, ``weight_decay`` and ``kappa`` may differ by group. States are exchanged with ``lion-pytorch``
    (``kappa="sign"``): the same names in the state and the groups. Of an Adam's state the first moment is taken.
    Weights in bfloat16 hardly move: keep them in float32.

    Errors: `InputError` for a rate, decay or beta out of range, ηλ >= 1, or an unknown K or kernel; `RuntimeError` for
    a sparse gradient. Warns where β₁ > β₂: the momentum's energy may then rise.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.98),
        weight_decay: float = 0.0,
        kappa: KappaChoice = "spectral+sign",
        state_dtype: torch.dtype | None = None,
        kernel: Kernel = "foreach",
        skip_nonfinite: bool = False,
        capturable: bool = False,
    ) -> None:
        if kernel not in ("foreach", "blocked", "compiled"):
            raise InputError(f"LionK: kernel '{kernel}'; allowed are foreach, blocked, compiled")
        if capturable and skip_nonfinite:
            raise InputError("LionK: skip_nonfinite looks at the gradients from the host, which capturable rules out")
        self.state_dtype, self.kernel, self.skip_nonfinite = state_dtype, kernel, skip_nonfinite
        self.capturable, self.skipped = capturable, 0
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "kappa": kappa})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own.

        Errors: `InputError` as the constructor.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            group["kappa"] = build_kappa(group["kappa"])
            _check(group)
        except InputError:
            del self.param_groups[-1]
            raise
        if self.capturable and not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient.

        Errors: `InputError` where a schedule brought ηλ to 1 or more.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        for group, parameters in groups:
            _check_rate(group["lr"], group["weight_decay"])
            for parameter in parameters:
                if parameter.grad.is_sparse:
                    raise RuntimeError(
                        "LionK: sparse gradients are not supported; make the embedding dense (sparse=False)"
                    )
        if self.skip_nonfinite and not _finite([p.grad for _, parameters in groups for p in parameters]):
            self.skipped += 1
            return loss
        for group, parameters in groups:
            by_kappa: dict[int, tuple[Kappa, list[Tensor]]] = {}
            for parameter in parameters:
                kappa = kappa_of(group["kappa"], parameter)
                by_kappa.setdefault(id(kappa), (kappa, []))[1].append(parameter)
            for kappa, members in by_kappa.values():
                self._update(kappa, members, group)
        return loss

    def _update(self, kappa: Kappa, parameters: list[Tensor], group: dict[str, Any]) -> None:
        rate, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        momenta = [self.momentum(p) for p in parameters]
        gradients: list[Tensor] = [p.grad for p in parameters]  # type: ignore[misc]
        if self.kernel != "foreach" and kappa == SIGN and not isinstance(rate, Tensor):
            triples = list(zip(parameters, gradients, momenta, strict=True))
            plain = [triple for triple in triples if is_plain(*triple)]
            moved = self.kernel == "compiled" and compiled_sign_step(plain, rate, (beta1, beta2), decay)
            if not moved:
                blocked_sign_step(plain, rate, (beta1, beta2), decay)
            if len(plain) == len(triples):
                return
            others = [triple for triple in triples if not is_plain(*triple)]
            parameters, gradients, momenta = (list(part) for part in zip(*others, strict=True))
        exact = [m.to(g.dtype) for m, g in zip(momenta, gradients, strict=True)]
        look_ahead = torch._foreach_lerp(exact, gradients, 1 - beta1)
        torch._foreach_lerp_(exact, gradients, 1 - beta2)
        if self.state_dtype is not None:
            torch._foreach_copy_(momenta, exact)
        if not kappa.odd:
            torch._foreach_neg_(look_ahead)
        directions = subgradients(kappa, look_ahead)
        if isinstance(rate, Tensor):
            torch._foreach_mul_(directions, -rate if kappa.odd else rate)
            if decay:
                torch._foreach_mul_(parameters, 1 - rate * decay)
            torch._foreach_add_(parameters, directions)
            return
        if decay:
            torch._foreach_mul_(parameters, 1 - rate * decay)
        torch._foreach_add_(parameters, directions, alpha=-rate if kappa.odd else rate)

    def momentum(self, parameter: Tensor) -> Tensor:
        """The average of gradients of a parameter, zero before its first step."""
        state = self.state[parameter]
        if not state:
            # Real dtypes for real parameters only: bfloat16 has no complex counterpart.
            dtype = None if parameter.is_complex() else self.state_dtype
            state[MOMENTUM] = torch.zeros_like(parameter, dtype=dtype)
        return state[MOMENTUM]

    @property
    def constraint(self) -> tuple[Constraint, ...]:
        """What weight decay asks of the weights, and how far they are from it."""
        return implied_constraints(self)

    def constraint_report(self, rates: Sequence[float] | None = None, *, tolerance: float = 1e-3) -> ConstraintReport:
        """See `fieldwright.training.constraints.constraint_report`."""
        return constraint_report(self, rates, tolerance=tolerance)

    @torch.no_grad()
    def lyapunov(self, loss: float) -> float:
        """See `fieldwright.training.constraints.lyapunov`."""
        return lyapunov(self, loss)

    @torch.no_grad()
    def stationarity(self, *, of: Literal["gradient", "momentum"] = "gradient") -> float:
        """See `fieldwright.training.constraints.stationarity`."""
        return stationarity(self, of=of)

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with every K as its settings: plain values and tensors."""
        packed = super().state_dict()
        for group in packed["param_groups"]:
            group["kappa"] = group["kappa"].settings()
        return packed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state of a `LionK`, of ``lion-pytorch`` or of one of torch's Adams.

        Groups that name no K, and those whose K is a function that cannot be stored, keep this optimizer's. Momenta
        are brought to ``state_dtype``.
        Errors: `InputError` for a state without a momentum, or settings as the constructor; torch's `ValueError` for
        other groups.
        """
        kept = {**state_dict, "param_groups": [dict(group) for group in state_dict["param_groups"]]}
        kept["state"] = {number: {MOMENTUM: _momentum_of(entry)} for number, entry in state_dict["state"].items()}
        for group, own in zip(kept["param_groups"], self.param_groups, strict=False):
            settings = group.get("kappa")
            group["kappa"] = own["kappa"] if settings is None or "support" in str(settings) else build_kappa(settings)
            _check(group)
        super().load_state_dict(kept)
        for group, loaded in zip(self.param_groups, kept["param_groups"], strict=True):
            group["kappa"] = loaded["kappa"]  # itself, of which torch made a copy
        if self.state_dtype is not None:
            for parameter, entry in self.state.items():
                if not parameter.is_complex():
                    entry[MOMENTUM] = entry[MOMENTUM].to(self.state_dtype)


def subgradients(kappa: Kappa, momenta: Sequence[Tensor]) -> list[Tensor]:
    """∂K of each tensor, as fresh tensors; matrices of one shape are factorised together."""
    if not isinstance(kappa, Spectral):
        return [kappa.subgradient(u) for u in momenta]
    alike: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = defaultdict(list)
    for i, u in enumerate(momenta):
        alike[u.shape, u.dtype, u.device].append(i)
    found: dict[int, Tensor] = {}
    for members in alike.values():
        found |= zip(members, kappa.subgradients([momenta[i] for i in members]), strict=True)
    return [found[i] for i in range(len(momenta))]


def _check(group: dict[str, Any]) -> None:
    """Errors: `InputError` for settings out of range. Warns where β₁ > β₂."""
    rate, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]
    if not (0 <= rate < float("inf") and 0 <= decay < float("inf")):
        raise InputError(f"LionK: lr = {rate} and weight_decay = {decay}; both have to be finite and not negative")
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise InputError(f"LionK: betas = {(beta1, beta2)}; 0 <= beta < 1 is needed of both")
    _check_rate(rate, decay)
    if beta1 > beta2:
        warnings.warn(
            f"LionK: beta1 = {beta1} > beta2 = {beta2}: the look-ahead then adds energy instead of taking it",
            stacklevel=4,
        )


def _check_rate(rate: float | Tensor, decay: float) -> None:
    if not isinstance(rate, Tensor) and rate * decay >= 1:
        raise InputError(f"LionK: lr * weight_decay = {rate:g} * {decay:g} = {rate * decay:g}; less than 1 is needed")


def _finite(gradients: Sequence[Tensor]) -> bool:
    if not gradients:
        return True
    # The largest modulus, unlike the sum of squares, does not overflow.
    return all(bool(norm.isfinite()) for norm in torch._foreach_norm(list(gradients), float("inf")))


def _momentum_of(entry: dict[str, Tensor]) -> Tensor:
    if MOMENTUM not in entry:
        raise InputError(f"LionK: a state with {', '.join(entry) or 'nothing'}; '{MOMENTUM}' is needed")
    return entry[MOMENTUM]
