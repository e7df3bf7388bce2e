"""Operators by name: built for a problem, saved and loaded again."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fieldwright.errors import DataError, InputError
from fieldwright.grids import Boundary
from fieldwright.operators.fourier import FourierOperator
from fieldwright.operators.multigrid import MultigridOperator
from fieldwright.operators.store import StoredOperator, read_model, restore
from fieldwright.settings import first_line, named_class

OPERATORS: dict[str, type[nn.Module]] = {"multigrid": MultigridOperator, "fourier": FourierOperator}


def build_operator(
    kind: str,
    settings: Mapping[str, Any],
    in_channels: int,
    out_channels: int,
    dimension: int,
    walls: Boundary,
) -> nn.Module:
    """The operator named ``kind``, one of `OPERATORS` or "my_module:MyNet", with fresh weights.

    ``settings`` go to its constructor. So do ``in_channels``, ``out_channels``, ``dimension`` and ``boundary`` (as
    lists of words), as far as its signature has them and the settings do not name them.

    Errors: `RecipeError` for an unknown name; `InputError` when the constructor refuses its arguments.
    """
    cls = named_class(kind, OPERATORS, nn.Module, "operator")
    known = inspect.signature(cls).parameters
    derived = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "dimension": dimension,
        "boundary": walls.to_list(),
    }
    arguments = {name: value for name, value in derived.items() if name in known} | dict(settings)
    try:
        return cls(**arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"operator '{kind}' cannot be built from {arguments}: {first_line(error)}") from error


def save_operator(operator: nn.Module, directory: Path) -> None:
    """Save one of ours: see `StoredOperator.save_pretrained`."""
    if not isinstance(operator, StoredOperator):
        raise InputError(f"{type(operator).__name__} has no save_pretrained; only operators of {list(OPERATORS)} have")
    operator.save_pretrained(directory)


def load_operator(directory: Path, *, device: str = "cpu") -> nn.Module:
    """The operator saved in a directory, whichever of `OPERATORS` it is, in evaluation mode.

    Errors: `DataError` when the directory holds none of them or is damaged.
    """
    config, metadata, tensors = read_model(directory, device=device)
    classes = {cls.__name__: cls for cls in OPERATORS.values()}
    name = metadata.get("operator")
    if name not in classes:
        raise DataError(f"{directory}: holds the operator {name!r}; known are {', '.join(classes)}")
    return restore(classes[name], config, tensors, directory)


def parameter_count(operator: nn.Module) -> int:
    """How many real numbers are trained; a complex one counts as two."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in operator.parameters() if p.requires_grad)
