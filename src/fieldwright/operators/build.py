"""Operators by name: ours, and any module of the user's named ``my_module:MyNet``."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fieldwright.errors import DataError, InputError
from fieldwright.grids import Boundary
from fieldwright.operators.baselines import ResNet, UNet
from fieldwright.operators.deeponet import DeepONet, MultiONet
from fieldwright.operators.foreign import ForeignOperator
from fieldwright.operators.fourier import FourierOperator
from fieldwright.operators.latent_spectral import LatentSpectralOperator
from fieldwright.operators.latent_spectral_points import LatentSpectralPointOperator
from fieldwright.operators.mesh_network import MeshNetwork
from fieldwright.operators.moving_mesh import MovingMeshOperator
from fieldwright.operators.multigrid import MultigridOperator
from fieldwright.operators.spatiotemporal import SpatiotemporalFourierOperator
from fieldwright.operators.store import StoredOperator, read_model, restore
from fieldwright.operators.transformer import OperatorTransformer

OPERATORS: dict[str, type[nn.Module]] = {
    "multigrid": MultigridOperator,
    "fourier": FourierOperator,
    "spatiotemporal_fourier": SpatiotemporalFourierOperator,
    "latent_spectral": LatentSpectralOperator,
    "deeponet": DeepONet,
    "multionet": MultiONet,
    "transformer": OperatorTransformer,
    "moving_mesh": MovingMeshOperator,
    "resnet": ResNet,
    "unet": UNet,
}

# On scattered points, which no recipe's problem has; they are stored and loaded like the others.
POINT_OPERATORS: dict[str, type[nn.Module]] = {"latent_spectral_points": LatentSpectralPointOperator}

# From a monitor to a mesh, trained by an objective of their own; stored and loaded like the others too.
MESH_OPERATORS: dict[str, type[nn.Module]] = {"mesh_network": MeshNetwork}


def build_operator(
    kind: str,
    settings: Mapping[str, Any],
    in_channels: int,
    out_channels: int,
    dimension: int,
    walls: Boundary,
    *,
    centring: str | None = None,
    shape: Sequence[int] | None = None,
) -> nn.Module:
    """An operator for fields of these channels, on grids of this dimension with these walls.

    ``kind``      a name in `OPERATORS`, or ``module:Class`` of the user's own or of a library, found as if by
                  ``python`` started in the working directory
    ``settings``  constructor arguments; they win over what the other arguments say
    ``centring``  of the grid; None for the operator's own default
    ``shape``     of the grid it will be trained on, for foreign classes that ask for it

    Errors: `InputError` for an unknown kind or setting, and for a class that is not an `nn.Module`.
    """
    centred = {} if centring is None else {"centring": centring}
    if ":" in kind:
        size = None if shape is None else list(shape)
        return ForeignOperator(
            kind, dict(settings), in_channels, out_channels, dimension, boundary=walls.to_list(), shape=size, **centred
        )
    if kind not in OPERATORS:
        raise InputError(f"operator '{kind}'; there are {', '.join(OPERATORS)}, and 'my_module:MyNet' for your own")
    cls = OPERATORS[kind]
    known = inspect.signature(cls).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"operator {kind}: no setting '{name}'; there are {', '.join(known)}")
    given = {"in_channels": in_channels, "out_channels": out_channels, "dimension": dimension}
    try:
        return cls(**{**given, **centred, "boundary": walls.to_list(), **settings})
    except TypeError as error:
        raise InputError(f"operator {kind}: a setting has the wrong type ({error})") from error


def save_operator(operator: nn.Module, directory: str | Path) -> None:
    """Save an operator made by `build_operator`, or any of ours, into a directory; see `store`.

    Errors: `InputError` for a module that does not know how it was built; `StorageError` when writing fails.
    """
    if not isinstance(operator, StoredOperator):
        raise InputError(f"{type(operator).__name__} cannot be saved as it is; make it with build_operator")
    operator.save_pretrained(directory)


def load_operator(directory: str | Path, *, device: str | torch.device = "cpu") -> nn.Module:
    """The operator of any class that `save_operator` left in a directory, in evaluation mode.

    Errors: `DataError` when the directory is not there or damaged, or a foreign class cannot be imported.
    """
    place = Path(directory)
    config, metadata, tensors = read_model(place, device=str(device))
    classes = {
        cls.__name__: cls
        for cls in (*OPERATORS.values(), *POINT_OPERATORS.values(), *MESH_OPERATORS.values(), ForeignOperator)
    }
    kind = metadata.get("operator", "")
    if kind not in classes:
        raise DataError(f"{place}: its weights name the operator '{kind}'; there are {', '.join(classes)}")
    return restore(classes[kind], config, tensors, place).to(device)


def parameter_count(operator: nn.Module) -> int:
    """Trainable real numbers of an operator."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in operator.parameters() if p.requires_grad)
