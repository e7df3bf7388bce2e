"""Other people's modules as operators: any `nn.Module` from fields to fields, called, checked and saved like ours."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.operators.coordinates import with_coordinates
from fieldwright.operators.store import StoredOperator
from fieldwright.settings import constructor_parameters, first_line

MOST_MODES, HIDDEN_CHANNELS = 16, 32
"""What `ForeignOperator` fills in for `n_modes` and `hidden_channels`, as for our `FourierOperator`."""


@dataclass(frozen=True)
class GridNeeds:
    """What a module asks of the grid, as far as its class says so by attributes of these names.

    ``least_points``       points per axis that it needs
    ``points_multiple``    a number that divides the points of every axis
    ``wants_coordinates``  the coordinates of the points, in 0..1, are appended to its input channels
    ``grid_bound``         on another grid than the trained one it is another operator, or cannot run: a surrogate
                           brings its inputs to the trained grid
    """

    least_points: int = 1
    points_multiple: int = 1
    wants_coordinates: bool = False
    grid_bound: bool = False

    @classmethod
    def of(cls, module: type[nn.Module]) -> GridNeeds:
        """The needs that a class states."""
        return cls(**{name: getattr(module, name) for name in cls.__dataclass_fields__ if hasattr(module, name)})

    def check(self, shape: Sequence[int], kind: str) -> None:
        """Errors: `InputError` for a grid of another size, with what it may be."""
        if min(shape) < self.least_points or any(n % self.points_multiple for n in shape):
            demands = [f"at least {self.least_points} points per axis"] if self.least_points > 1 else []
            demands += [f"a multiple of {self.points_multiple} points per axis"] if self.points_multiple > 1 else []
            raise InputError(
                f"operator {kind}: a grid of {' x '.join(map(str, shape))} points; it takes {' and '.join(demands)}"
            )


class ForeignOperator(nn.Module, StoredOperator):
    """An `nn.Module` of another library or of the user's, by the name ``module:Class``.

    Its class is called with ``settings`` and with what its constructor names of ``in_channels``, ``out_channels``,
    ``dimension``, ``boundary`` and ``centring``. An argument without a default that the settings leave out is filled in
    where it has a usual name: ``n_modes`` (16 waves per axis, or as many as the grid has), ``hidden_channels`` (32) and
    ``default_in_shape`` (the grid's). So ``neuralop.models:FNO`` needs no settings at all. Names that a constructor
    hands on to its base class as ``**keywords`` count as its own.

    Its ``forward`` takes the inputs alone, or inputs and ``lead_time``. ``needs`` are those of its class, see
    `GridNeeds`; ``in_channels`` counts the coordinates where it wants them.

    Errors: `InputError` when the class cannot be imported, is not an `nn.Module`, does not take the settings or takes
    more than fields, and for a grid that it says it cannot take.
    """

    def __init__(
        self,
        kind: str,
        settings: dict[str, Any],
        in_channels: int,
        out_channels: int,
        dimension: int,
        boundary: Sequence[Sequence[str]] | None = None,
        centring: str = "cell",
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        cls = import_module_class(kind)
        self.kind, self.centring, self.needs = kind, centring, GridNeeds.of(cls)
        self.grid_bound = self.needs.grid_bound
        self.bfloat16_pays = getattr(cls, "bfloat16_pays", False)
        channels = in_channels + (dimension if self.needs.wants_coordinates else 0)
        named = constructor_parameters(cls)
        required = {name for name, parameter in named.items() if parameter.default is inspect.Parameter.empty}
        given: dict[str, Any] = {"in_channels": channels, "out_channels": out_channels, "dimension": dimension}
        derived = {"boundary": boundary, "centring": centring} if boundary is not None else {}
        filled = {name: value for name, value in {**given, **derived}.items() if name in named}
        filled |= {name: value for name, value in _usual(dimension, shape).items() if name in required}
        try:
            self.module = cls(**{**filled, **settings})
        except Exception as error:  # a module of others' may refuse in any way
            said = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"operator {kind}: cannot be built from the settings of the recipe ({said})") from error
        self.takes_lead_time = "lead_time" in inspect.signature(self.module.forward).parameters
        _check_call(self.module, kind)
        # Some libraries keep notes beside the weights, which no file of weights can hold.
        self.register_state_dict_post_hook(_tensors_alone)

    def forward(
        self, inputs: Float[Tensor, "batch channel *space"], lead_time: Tensor | float | None = None
    ) -> Float[Tensor, "batch output *space_out"]:
        self.needs.check(inputs.shape[2:], self.kind)
        if self.needs.wants_coordinates:
            inputs = with_coordinates(inputs, self.centring)
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


@torch.no_grad()
def grid_taken_instead(operator: nn.Module, channels: int, shape: Sequence[int]) -> tuple[int, ...] | None:
    """A larger grid nearby that an operator does take: the next multiple of 2, 4, ... 64 points on every axis."""
    for divisor in (2, 4, 8, 16, 32, 64):
        larger = tuple(-(-n // divisor) * divisor for n in shape)
        try:
            found = operator(torch.zeros(1, channels, *larger))
        except Exception:  # a module of others' may fail in any way
            continue
        if larger != tuple(shape) and tuple(getattr(found, "shape", ()))[2:] == larger:
            return larger
    return None


def _usual(dimension: int, shape: Sequence[int] | None) -> dict[str, Any]:
    """Arguments of usual names; those of a grid only where there is one."""
    if shape is None:
        return {"n_modes": (MOST_MODES,) * dimension, "hidden_channels": HIDDEN_CHANNELS}
    modes = tuple(max(1, min(MOST_MODES, n // 2)) for n in shape)
    return {"n_modes": modes, "hidden_channels": HIDDEN_CHANNELS, "default_in_shape": tuple(shape)}


def _check_call(module: nn.Module, kind: str) -> None:
    parameters = list(inspect.signature(module.forward).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wanted = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    further = [name for name in wanted[1:] if name != "lead_time"]
    if further:
        raise InputError(
            f"operator {kind}: its forward takes {', '.join(wanted)}; an operator of a recipe is called with fields on"
            " a grid alone"
        )


def _tensors_alone(_module: nn.Module, state: dict[str, Any], _prefix: str, _metadata: object) -> None:
    for name in [name for name, value in state.items() if not isinstance(value, Tensor)]:
        del state[name]
