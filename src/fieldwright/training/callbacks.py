"""The callbacks that a phase can name: ``callbacks: [distance, {kind: noise-scale, every: 10}]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fieldwright.errors import InputError
from fieldwright.settings import allowed, checked_settings
from fieldwright.training.callback import Callback
from fieldwright.training.constraints import ConstraintWatch
from fieldwright.training.diffusion import DistanceMeter
from fieldwright.training.dynamic_sparse import DynamicSparse
from fieldwright.training.noise_scale import NoiseScaleMeter

CALLBACKS: dict[str, type[Callback]] = {
    "constraint": ConstraintWatch,
    "distance": DistanceMeter,
    "dynamic-sparse": DynamicSparse,
    "noise-scale": NoiseScaleMeter,
}


def build_callback(choice: str | Mapping[str, Any] | Callback) -> Callback:
    """A callback by name, from its ``kind`` and settings, or as it is.

    Errors: `InputError` for an unknown name; `RecipeError` for a setting that it does not take.
    """
    if isinstance(choice, Callback):
        return choice
    settings = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kind = settings.pop("kind", None)
    if kind not in CALLBACKS:
        raise InputError(f"callbacks: '{kind}'; {allowed(str(kind), CALLBACKS)}")
    return CALLBACKS[kind](**checked_settings(CALLBACKS[kind], settings, path=f"callbacks.{kind}"))
