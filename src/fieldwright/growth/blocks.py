"""Where a model keeps its alike blocks, and how the same model with another number of them is built.

A model of the user's takes part by a method ``growing_blocks() -> Sequence[Blocks]`` and a method
``rebuilt(**settings) -> nn.Module``. Models of Hugging Face transformers are known by what they have: a ``config`` with
``num_hidden_layers`` and a list of blocks in one of the usual places.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fieldwright.errors import InputError
from fieldwright.operators import (
    FourierOperator,
    LatentSpectralOperator,
    MultigridOperator,
    OperatorTransformer,
    ResNet,
)
from fieldwright.operators.store import StoredOperator


@dataclass(frozen=True)
class Blocks:
    """A list of blocks that can be repeated, in units of ``period`` blocks.

    ``name``     what it is called: "layers", or "level 0" of a transformer with several
    ``lists``    paths of the module or parameter lists that a block has an entry in
    ``count``    blocks of the model that can be repeated
    ``first``    blocks before them that cannot, such as one from inputs to hidden channels
    ``period``   blocks of a unit; only whole units are repeated
    ``ends``     beginnings of the names, within a block, of the tensors whose factor is one of its residual branches
    ``gains``    the parameter of `blended` operators that holds a factor for each block
    ``last_differs``  whether the last block is applied in another way than the others
    ``setting``  the constructor's argument that counts the blocks, and the ``place`` in it where it is a list
    """

    name: str
    lists: tuple[str, ...]
    count: int
    setting: str
    first: int = 0
    period: int = 1
    ends: tuple[str, ...] = ()
    gains: str = ""
    last_differs: bool = False
    place: int | None = None

    def block_of(self, name: str) -> tuple[str, int, str] | None:
        """(list, number from 0 among those that repeat, rest) of a tensor's name; None where it is in none of them."""
        for path in self.lists:
            if name.startswith(path + "."):
                number, _, rest = name[len(path) + 1 :].partition(".")
                if number.isdigit() and int(number) >= self.first:
                    return path, int(number) - self.first, rest
        return None

    def name_of(self, path: str, number: int, rest: str) -> str:
        """The inverse of `block_of`."""
        return f"{path}.{number + self.first}" + (f".{rest}" if rest else "")

    def ends_branch(self, rest: str) -> bool:
        """Whether a factor of this tensor of a block is one of a residual branch."""
        return any(rest == end or rest.startswith(end + ".") for end in self.ends)


LANGUAGE_MODELS: dict[str, tuple[str, ...]] = {
    "model.layers": ("self_attn.o_proj", "mlp.down_proj"),
    "transformer.h": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neox.layers": ("attention.dense", "mlp.dense_4h_to_h"),
    "model.decoder.layers": ("self_attn.out_proj", "fc2"),
}
"""Usual places of the blocks of language models, with the last linear maps of their residual branches."""


def growing_blocks(model: nn.Module) -> list[Blocks]:
    """The lists of blocks of a model.

    Errors: `InputError` for a model that is wrapped or compiled, or has none that is known.
    """
    check_plain(model)
    own = getattr(model, "growing_blocks", None)
    if own is not None:
        return list(own())
    settings = constructor_settings(model)
    if isinstance(model, FourierOperator):
        lists = ("spectral", "skips", "mixers", "gates")
        return [Blocks("layers", lists, len(model.spectral), "layers", gains="blend", last_differs=True)]
    if isinstance(model, MultigridOperator):
        # The first one leads from the inputs to the hidden channels and is not repeated.
        return [Blocks("layers", ("cycles", "mixing"), len(model.cycles) - 1, "layers", first=1, gains="blend")]
    if isinstance(model, LatentSpectralOperator):
        count = len(model.network.blocks)
        return [Blocks("depth", ("network.blocks",), count, "depth", period=model.scales, gains="network.blend")]
    if isinstance(model, OperatorTransformer):
        levels = len(model.residual_blocks)
        return [
            Blocks(
                f"level {level}",
                (f"encoder.layers.{level}.blocks", f"decoder.layers.{levels - 1 - level}.blocks"),
                len(model.encoder["layers"][level].blocks),  # type: ignore[index]
                "depths",
                period=2,
                ends=("layernorm_before", "layernorm_after"),
                place=level,
            )
            for level in range(levels)
        ]
    if isinstance(model, ResNet):
        return [Blocks("blocks", ("blocks",), len(model.blocks), "blocks", ends=("maps.1",))]
    if "num_hidden_layers" in settings:
        for path, ends in LANGUAGE_MODELS.items():
            try:
                found = model.get_submodule(path)
            except AttributeError:
                continue
            period = _period(settings.get("layer_types"))
            return [Blocks("layers", (path,), len(found), "num_hidden_layers", period=period, ends=ends)]  # type: ignore[arg-type]
    raise InputError(
        f"growth: {type(model).__name__} has no list of blocks that is known; give it a method growing_blocks()"
    )


def constructor_settings(model: nn.Module) -> dict[str, Any]:
    """The arguments with which a model of ours, or of Hugging Face transformers, was built; of others none."""
    if isinstance(model, StoredOperator):
        return dict(model._hub_mixin_config or {})  # type: ignore[arg-type]
    config = getattr(model, "config", None)
    if hasattr(config, "num_hidden_layers"):
        listed = config.to_dict() if hasattr(config, "to_dict") else dict(vars(config))  # type: ignore[union-attr]
        return {**listed, "num_hidden_layers": config.num_hidden_layers}  # type: ignore[union-attr]
    return {}


def rebuilt(model: nn.Module, settings: Mapping[str, Any], *, seed: int) -> nn.Module:
    """A freshly built model like this one but for some constructor arguments, on its device and in its precision.

    Errors: `InputError` for a model that does not know how it was built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if hasattr(model, "rebuilt"):
            fresh: nn.Module = model.rebuilt(**settings)  # type: ignore[operator]
        elif isinstance(model, StoredOperator):
            fresh = type(model)(**{**constructor_settings(model), **settings})  # type: ignore[assignment]
        elif constructor_settings(model):
            config = copy.deepcopy(model.config)
            for name, value in settings.items():
                setattr(config, name, value)
            fresh = type(model)(config)
            if hasattr(model, "generation_config"):
                fresh.generation_config = copy.deepcopy(model.generation_config)
        else:
            raise InputError(
                f"growth: {type(model).__name__} does not know how it was built; give it a method rebuilt()"
            )
    kept = next(model.parameters())
    return fresh.to(kept.device, kept.dtype).train(model.training)


def check_plain(model: nn.Module) -> None:
    """Errors: `InputError` for a model that is wrapped for several processes or compiled."""
    compiled = getattr(model, "_compiled_call_impl", None) is not None
    kinds = [cls.__name__ for cls in type(model).__mro__]
    wrappers = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "FSDPModule", "OptimizedModule",
                "_FabricModule")  # fmt: skip
    found = next((kind for kind in kinds if kind in wrappers), "compiled module" if compiled else None)
    if found is not None:
        raise InputError(
            f"growth: the model is wrapped ({found}); unwrap it, grow the module within, wrap the grown one and build"
            " its optimizer"
        )


def chosen(lists: Sequence[Blocks], part: str | None) -> list[Blocks]:
    """The list of this name, or all.

    Errors: `InputError` for a name that is not there.
    """
    if part is None:
        return list(lists)
    found = [blocks for blocks in lists if blocks.name == part]
    if not found:
        raise InputError(f"growth: part '{part}'; there are {', '.join(blocks.name for blocks in lists)}")
    return found


def _period(kinds: Sequence[str] | None) -> int:
    """The shortest period of a list of kinds of layers."""
    if not kinds:
        return 1
    n = len(kinds)
    return next(p for p in range(1, n + 1) if n % p == 0 and list(kinds) == list(kinds[:p]) * (n // p))
