"""Operators by name: ours, and any module of the user's named ``my_module:MyNet``."""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import DataError, InputError
from fieldwright.grids import Boundary
from fieldwright.operators.baselines import ResNet, UNet
from fieldwright.operators.deeponet import DeepONet, MultiONet
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
    kind: str, settings: Mapping[str, Any], in_channels: int, out_channels: int, dimension: int, walls: Boundary
) -> nn.Module:
    """An operator for fields of these channels, on grids of this dimension with these walls.

    ``kind`` is a name in `OPERATORS` or ``module:Class`` of the user's own, found as if by ``python`` started in the
    working directory. ``settings`` are constructor arguments; they win over what the other arguments say.

    Errors: `InputError` for an unknown kind or setting, and for a class that is not an `nn.Module`.
    """
    if ":" in kind:
        return ForeignOperator(kind, dict(settings), in_channels, out_channels, dimension)
    if kind not in OPERATORS:
        raise InputError(f"operator '{kind}'; there are {', '.join(OPERATORS)}, and 'my_module:MyNet' for your own")
    cls = OPERATORS[kind]
    known = inspect.signature(cls).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"operator {kind}: no setting '{name}'; there are {', '.join(known)}")
    given = {"in_channels": in_channels, "out_channels": out_channels, "dimension": dimension}
    try:
        return cls(**{**given, "boundary": walls.to_list(), **settings})
    except TypeError as error:
        raise InputError(f"operator {kind}: a setting has the wrong type ({error})") from error


class ForeignOperator(nn.Module, StoredOperator):
    """A user's `nn.Module`, called and saved like ours.

    Its class is called with ``settings`` and with those of ``in_channels``, ``out_channels`` and ``dimension`` that its
    constructor names. Its ``forward`` takes the inputs, and a lead time if it has an argument of that name.

    Errors: `InputError` when the class cannot be imported, is not an `nn.Module` or does not take the settings.
    """

    def __init__(
        self, kind: str, settings: dict[str, Any], in_channels: int, out_channels: int, dimension: int
    ) -> None:
        super().__init__()
        cls = import_module_class(kind)
        given = {"in_channels": in_channels, "out_channels": out_channels, "dimension": dimension}
        named = inspect.signature(cls).parameters
        try:
            self.module = cls(**{name: value for name, value in given.items() if name in named}, **settings)
        except TypeError as error:
            raise InputError(f"operator {kind}: cannot be built from the settings {settings} ({error})") from error
        self.takes_lead_time = "lead_time" in inspect.signature(self.module.forward).parameters

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space_out"]:
        if self.takes_lead_time:
            return self.module(inputs, lead_time=lead_time)
        if lead_time is not None:
            raise InputError("lead_time: this operator's forward has no such argument")
        return self.module(inputs)

    def parameter_groups(self) -> dict[str, list[str]]:
        """Those of the user's module; where it has none, all parameters are one group, "all"."""
        rule = getattr(self.module, "parameter_groups", None)
        groups = {"all": [name for name, _ in self.module.named_parameters()]} if rule is None else rule()
        return {group: [f"module.{name}" for name in names] for group, names in groups.items()}


def import_module_class(kind: str) -> type[nn.Module]:
    """The `nn.Module` class named ``module:Class``, with the working directory on the import path.

    Errors: `InputError` when there is no such module or class, or it is something else.
    """
    module_name, _, class_name = kind.partition(":")
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise InputError(f"operator {kind}: module '{module_name}' cannot be imported ({error})") from error
    cls = getattr(module, class_name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"operator {kind}: '{module_name}' has no torch module class '{class_name}'")
    return cls


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
