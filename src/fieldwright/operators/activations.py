"""Activations by name, so that an operator's configuration is plain text."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from fieldwright.errors import InputError

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": functional.tanh,
    "identity": lambda field: field,
    # Of the branch-trunk operators of DGNO, J. Comput. Phys. 538 (2025) 114137.
    "tanh_sine": lambda field: torch.tanh(torch.sin(math.pi * (field + 1))) + field,
    "silu_identity": lambda field: functional.silu(field) + field,
}


def activation(name: str) -> Activation:
    """The activation of this name.

    Errors: `InputError` for an unknown name.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"activation: '{name}'; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
