"""Optimizers, and their state by parameter name.

PyTorch numbers the parameters of an optimizer; names survive what a `prepare` transform does to an operator, so state
is kept, stored and handed on by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.settings import allowed
from fieldwright.training.kappa_choice import KappaChoice
from fieldwright.training.lion_k import Kernel, LionK

Parameters = Sequence[nn.Parameter] | Sequence[dict[str, Any]]
"""Parameters, or groups of them as torch's optimizers take them."""
OptimizerBuilder = Callable[..., torch.optim.Optimizer]
"""Of parameters, learning rate, weight decay and settings by keyword."""
NamedState = dict[str, dict[str, Tensor]]


def adamw(parameters: Parameters, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), β = (0.9, 0.999)."""
    fused = _fusible(parameters)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused, foreach=not fused)


def adam(parameters: Parameters, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015) with the decay added to the gradient, as many operator papers train."""
    fused = _fusible(parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused, foreach=not fused)


def lion_k(
    parameters: Parameters,
    learning_rate: float,
    weight_decay: float,
    *,
    kappa: KappaChoice = "spectral+sign",
    betas: Sequence[float] = (0.95, 0.98),
    state: Literal["float32", "bfloat16"] | None = None,
    kernel: Kernel = "foreach",
) -> torch.optim.Optimizer:
    """Lion-K, by default with the spectral function on kernels, see `fieldwright.training.lion_k`.

    ``state`` is the type of the momentum; None: the parameter's.
    Errors: `InputError` as `LionK`.
    """
    if state not in (None, "float32", "bfloat16"):
        raise InputError(f"optimizer 'lion-k': state '{state}'; allowed are float32, bfloat16")
    if len(betas) != 2:
        raise InputError(f"optimizer 'lion-k': betas {list(betas)}; two are needed")
    return LionK(
        parameters,
        learning_rate,
        weight_decay=weight_decay,
        kappa=kappa,
        betas=(betas[0], betas[1]),
        state_dtype=None if state is None else getattr(torch, state),
        kernel=kernel,
    )


OPTIMIZERS: dict[str, OptimizerBuilder] = {"adamw": adamw, "adam": adam, "lion-k": lion_k}
OptimizerChoice = str | dict[str, Any]
"""A name, or its ``kind`` with settings: ``{kind: lion-k, kappa: huber}``."""


def build_optimizer(
    choice: OptimizerChoice, parameters: Parameters, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer by name, or by its kind and settings.

    Errors: `InputError` for an unknown name or setting, or a value that the optimizer refuses.
    """
    settings = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kind = settings.pop("kind", None)
    if kind not in OPTIMIZERS:
        raise InputError(f"optimizer '{kind}'; {allowed(str(kind), OPTIMIZERS)}")
    known = [name for name, p in inspect.signature(OPTIMIZERS[kind]).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in settings:
        if name not in known:
            raise InputError(f"optimizer '{kind}': no setting '{name}'; {allowed(name, known)}")
    return OPTIMIZERS[kind](parameters, learning_rate, weight_decay, **settings)


def trainable(operator: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in operator.named_parameters() if p.requires_grad}


def named_state(operator: nn.Module, optimizer: torch.optim.Optimizer) -> NamedState:
    """The optimizer's state by parameter name; tensors are shared, not copied."""
    return {
        name: dict(optimizer.state[parameter])
        for name, parameter in trainable(operator).items()
        if parameter in optimizer.state
    }


def load_named_state(operator: nn.Module, optimizer: torch.optim.Optimizer, state: NamedState) -> None:
    """Give the optimizer a copy of the state of the named parameters; one that is not named starts fresh."""
    packed = optimizer.state_dict()
    # Torch numbers parameters as the optimizer was given them, which groups put into another order than the operator's.
    given = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in trainable(operator).items()}
    packed["state"] = {
        number: {key: value.clone() for key, value in state[names[id(parameter)]].items()}
        for number, parameter in enumerate(given)
        if names[id(parameter)] in state
    }
    optimizer.load_state_dict(packed)


def _fusible(parameters: Parameters) -> bool:
    """Whether one kernel can update everything: there is none for complex numbers."""
    flat = [p for entry in parameters for p in (entry["params"] if isinstance(entry, dict) else [entry])]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in flat)
