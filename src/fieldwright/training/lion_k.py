"""Lion-K: momentum through the subgradient of a convex function, with decoupled weight decay.

With g the gradient, m the momentum (an average of gradients), η the learning rate, λ the weight decay and K convex,

    u = β₁ m + (1 - β₁) g,     x ← (1 - ηλ) x - η ∂K(u),     m ← β₂ m + (1 - β₂) g,

which minimises f(x) + K*(λx)/λ. Two functions K are here, one for each kind of parameter:

* ``spectral``: K(Z) = nuclear norm of a matrix, ∂K(Z) = U Vᵀ of its singular value decomposition (Muon's direction),
  for weights of two or more axes, flattened to (first axis, all others) and scaled by √max(rows, columns), so that
  its entries have the same root mean square as a sign;
* ``sign``: K(z) = Σ|z_i|, ∂K(z) = sign(z) (Lion), for everything else.

Both therefore share one learning rate.

Source: Chen, Liu, Liang, Liu, "Lion Secretly Solves Constrained Optimization", ICLR 2024 (section 2, table of K); the
spectral K: Chen, Li, Liu 2025; the iteration for U Vᵀ: Jordan et al. 2024 (Muon).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor

# Odd polynomial a σ + b σ³ + c σ⁵ that sends (0, 1] into about [0.7, 1.2] after five rounds (Jordan et al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)


class LionK(torch.optim.Optimizer):
    """Lion-K with the spectral K on matrices and kernels, the sign on the rest.

    ``lr``            η; a fifth to a half of a good AdamW rate
    ``betas``         (β₁, β₂), β₁ <= β₂; (0.95, 0.98) is the stable choice of Lion's authors
    ``weight_decay``  λ; it bounds the largest singular value of a flattened weight by √max(rows, columns) / λ
    ``rounds``        Newton-Schulz rounds for U Vᵀ

    Errors: `ValueError` for a rate, decay or beta out of range; `RuntimeError` for a sparse gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.98),
        weight_decay: float = 0.0,
        rounds: int = 5,
    ) -> None:
        if not lr >= 0 or not weight_decay >= 0:
            raise ValueError(f"LionK: lr = {lr} and weight_decay = {weight_decay}; neither may be negative")
        if not 0 <= betas[0] <= betas[1] < 1:
            raise ValueError(f"LionK: betas = {betas}; 0 <= beta1 <= beta2 < 1 is needed")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "rounds": rounds})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_dense_gradient(p) for p in parameters]
        momenta = [self._momentum(p) for p in parameters]
        beta1, beta2 = group["betas"]
        look_ahead = torch._foreach_lerp(momenta, gradients, 1 - beta1)
        torch._foreach_lerp_(momenta, gradients, 1 - beta2)

        direction: dict[int, Tensor] = {}
        alike: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = defaultdict(list)
        for i, (p, u) in enumerate(zip(parameters, look_ahead, strict=True)):
            if p.ndim < 2:
                direction[i] = u.sgn()
            else:
                alike[p.shape, p.dtype, p.device].append(i)
        for (shape, _, _), members in alike.items():
            stacked = torch.stack([look_ahead[i].reshape(shape[0], -1) for i in members])
            scale = math.sqrt(max(stacked.shape[1:]))
            for i, factor in zip(members, orthogonal_factor(stacked, rounds=group["rounds"]) * scale, strict=True):
                direction[i] = factor.reshape(shape)

        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, [direction[i] for i in range(len(parameters))], alpha=-group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        return state["exp_avg"]


def orthogonal_factor(
    matrices: Inexact[Tensor, "batch rows columns"], *, rounds: int = 5
) -> Inexact[Tensor, "batch rows columns"]:
    """U Vᴴ of each real or complex matrix, approximately: every singular value is moved to about 1 (0.7 to 1.2).

    The rounds X ← (a I + b X Xᴴ + c (X Xᴴ)²) X act from the left, and all their factors are polynomials of the first
    Gram matrix. So they run on square matrices of the shorter side alone, and X is touched twice: for its Gram matrix
    and for the last product. A zero matrix stays zero.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    size = x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)[:, None, None]
    x = x / size
    gram = x @ x.mH
    identity = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
    total = identity
    a, b, c = QUINTIC
    for _ in range(rounds):
        factor = a * identity + (b * identity + c * gram) @ gram
        total = factor @ total
        gram = factor @ gram @ factor
    x = total @ x
    return x if wide else x.mH


def _dense_gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    if parameter.grad.is_sparse:
        raise RuntimeError("LionK: sparse gradients are not supported; make the embedding dense (sparse=False)")
    return parameter.grad
