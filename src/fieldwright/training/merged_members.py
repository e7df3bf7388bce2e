"""A phase that begins with operators of other runs, merged: ``prepare: {kind: merge, members: [runs/a, runs/b]}``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt
from torch import nn

from fieldwright.datasets import Normalizer
from fieldwright.errors import DataError, InputError
from fieldwright.growth.alignment import Units, in_units
from fieldwright.growth.merge import Cross, merge
from fieldwright.operators import load_operator
from fieldwright.training.carried import Carried, Preparation


class MergeMembers(Preparation):
    """Give the phase's operator the weights of trained ones of an M-th of its width, see `fieldwright.growth.merge`.

    ``members``    directories of runs, surrogates or operators, two or more; the phase's operator has as many times
                   their channels. Members in other units than the first are brought to its; the run's data should be
                   those of the first
    ``templates``  templates of each member from which the wider weights are made; None: plain weights
    ``cross``      weights between members: "zero", "orthogonal", "copy" or "random", times ``scale``

    Errors: `InputError` as `merge`; `DataError` for a directory without an operator.
    """

    kind: Literal["merge"] = "merge"
    members: Annotated[tuple[str, ...], Field(strict=False, min_length=2)]
    templates: PositiveInt | None = None
    cross: Cross = "zero"
    scale: float = 1.0

    def __call__(self, carried: Carried) -> Carried:
        operators = aligned_members([Path(member) for member in self.members])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # likeness is said once, where the merge is asked for
            merged = merge(operators, carried.operator, templates=self.templates, cross=self.cross, scale=self.scale)
        return Carried(merged.operator)


def aligned_members(directories: list[Path]) -> list[nn.Module]:
    """The operators in these directories, in the units of the first.

    Errors: `DataError` for a directory without an operator; `InputError` where the units cannot be made the same.
    """
    places = [path / "surrogate" if (path / "surrogate").is_dir() else path for path in directories]
    operators = [load_operator(place) for place in places]
    normalizers = [_normalizers(place) for place in places]
    aligned = [operators[0]]
    for operator, own in zip(operators[1:], normalizers[1:], strict=True):
        if own is None or normalizers[0] is None:
            aligned.append(operator)
            continue
        inputs, outputs = (_units(theirs, ours) for theirs, ours in zip(own, normalizers[0], strict=True))
        # x_theirs = inputs(x_ours) goes in, and what comes out is in their units.
        back = Units(1 / outputs.factor, -outputs.shift / outputs.factor)
        aligned.append(in_units(operator, inputs, back))
    return aligned


def _units(theirs: Normalizer, ours: Normalizer) -> Units:
    """From fields normalised by ``ours`` to fields normalised by ``theirs``."""
    if theirs.mean.shape != ours.mean.shape or ours.mode != "channel":
        raise InputError("merge: members are normalised per point or have other channels; per channel is needed")
    same = bool((theirs.mean == ours.mean).all() and (theirs.std == ours.std).all())
    ones = ours.std.double() * 0 + 1
    if same:
        return Units(ones, 0 * ones)
    return Units(
        ours.std.double() / theirs.std.double(), (ours.mean.double() - theirs.mean.double()) / theirs.std.double()
    )


def _normalizers(place: Path) -> tuple[Normalizer, Normalizer] | None:
    file = place / "surrogate.json"
    if not file.exists():
        return None
    try:
        facts: dict[str, Any] = json.loads(file.read_text())["normalizers"]
        return Normalizer.from_dict(facts["inputs"]), Normalizer.from_dict(facts["outputs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not the description of a surrogate ({type(error).__name__})") from error
