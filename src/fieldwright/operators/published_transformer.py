"""Published checkpoints of the operator transformer, read without the library that wrote them.

A checkpoint is a directory of ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``. Its configuration
calls the model "swinv2"; what it is says ``architectures``.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fieldwright.errors import DataError

CLASS = "ScOT"
CONFIG, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"

# Our setting for each of theirs that shapes the network.
SETTINGS = {
    "num_channels": "in_channels",
    "num_out_channels": "out_channels",
    "embed_dim": "width",
    "depths": "depths",
    "num_heads": "heads",
    "skip_connections": "skips",
    "patch_size": "patch",
    "window_size": "window",
    "mlp_ratio": "mlp_ratio",
    "use_conditioning": "conditioned",
    "learn_residual": "residual",
    "layer_norm_eps": "eps",
}
# Choices that their code offers and no published model makes otherwise.
FIXED: dict[str, Any] = {
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "use_mask_token": False,
    "residual_model": "convnext",
}


def holds_published(directory: Path) -> bool:
    """Whether the directory's configuration is one of theirs, and not one that we have saved."""
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and ("architectures" in config or "model_type" in config)


def read_published(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(settings of our class, weights by name) of a published checkpoint.

    Errors: `DataError` for another model, a variant that is not supported, a missing field or file, damaged weights.
    """
    place = directory / CONFIG
    config = json.loads(place.read_text(encoding="utf-8"))
    architectures = config.get("architectures") or []
    if CLASS not in architectures:
        named = ", ".join(map(str, architectures)) or config.get("model_type")
        raise DataError(f"{place}: describes the model {named}; the operator transformer's checkpoints say {CLASS}")
    missing = [name for name in SETTINGS if name not in config]
    if missing:
        raise DataError(f"{place}: lacks {', '.join(missing)}")
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise DataError(f"{place}: {name} is {config[name]!r}; supported is {value!r}")
    if any(config.get("pretrained_window_sizes") or ()):
        raise DataError(f"{place}: pretrained_window_sizes is {config['pretrained_window_sizes']}; supported are zeros")
    settings = {ours: config[theirs] for theirs, ours in SETTINGS.items()}
    return settings, _read_weights(directory)


def _read_weights(directory: Path) -> dict[str, Tensor]:
    safe, pickled = directory / SAFE, directory / PICKLED
    if not safe.exists() and not pickled.exists():
        raise DataError(f"{directory}: holds neither {SAFE} nor {PICKLED}")
    if safe.exists():
        try:
            return load_file(safe)
        except (SafetensorError, OSError) as error:
            raise DataError(f"{safe}: not readable as safetensors ({error})") from error
    try:
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0].strip() or type(error).__name__
        raise DataError(f"{pickled}: not readable as weights alone ({reason})") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise DataError(f"{pickled}: holds something else than named weights")
    return tensors
