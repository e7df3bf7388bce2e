"""Functions K by name, and which parameter gets which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.settings import allowed
from fieldwright.training.kappa import PROFILES, Group, Kappa, Norm, Separable, TopK
from fieldwright.training.kappa_sets import Box, Simplex, Spectral, Support

KAPPAS: dict[str, Callable[..., Kappa]] = {
    **{name: partial(Separable, name) for name in PROFILES},
    "l1": partial(Separable, "sign"),
    "lp": Norm,
    "l2": partial(Norm, 2.0),
    "linf": partial(Norm, math.inf),
    "group": Group,
    "topk": TopK,
    "spectral": Spectral,
    "simplex": Simplex,
    "box": Box,
    "support": Support,
}


@dataclass(frozen=True)
class ByAxes:
    """One K for parameters of two or more axes, another for the rest: ``spectral+sign``."""

    matrices: Kappa
    vectors: Kappa

    def settings(self) -> dict[str, Any]:
        """What `build_kappa` makes it of again."""
        return {"matrices": self.matrices.settings(), "vectors": self.vectors.settings()}


KappaChoice = str | Mapping[str, Any] | Kappa | ByAxes


def build_kappa(choice: KappaChoice) -> Kappa | ByAxes:
    """A K from its name, from two names joined by "+" (matrices + vectors), from settings, or as it is.

    Settings are ``{kind: huber, epsilon: 0.5}``, or ``{matrices: ..., vectors: ...}`` with a choice for each.

    Errors: `InputError` for an unknown kind or a setting that it does not take.
    """
    if isinstance(choice, Kappa | ByAxes):
        return choice
    if isinstance(choice, str):
        matrices, plus, vectors = choice.partition("+")
        return build_kappa({"matrices": matrices, "vectors": vectors} if plus else {"kind": choice})
    settings = dict(choice)
    if settings.keys() == {"matrices", "vectors"}:
        return ByAxes(*(_one(settings[part]) for part in ("matrices", "vectors")))
    kind = settings.pop("kind", None)
    if kind not in KAPPAS:
        raise InputError(f"kappa: '{kind}'; {allowed(str(kind), KAPPAS)}, or two of them such as 'spectral+sign'")
    try:
        return KAPPAS[kind](**settings)
    except TypeError as error:
        raise InputError(f"kappa '{kind}': {error}") from error


def kappa_of(kappa: Kappa | ByAxes, parameter: Tensor) -> Kappa:
    """The K that a parameter gets."""
    if isinstance(kappa, ByAxes):
        return kappa.matrices if parameter.ndim >= 2 else kappa.vectors
    return kappa


def _one(choice: Any) -> Kappa:
    kappa = build_kappa(choice)
    if isinstance(kappa, ByAxes):
        raise InputError("kappa: matrices and vectors have one K each")
    return kappa
