"""What arrays mean that carry no more than a name: the user's words for them, and what the field's habits suggest.

``NAME=ROLE`` or ``NAME=ROLE:AXES`` says it: ``coeff=input``, ``u=output:nxyt``. Roles are

    input, output   fields; an output with an axis of time evolves
    initial         the state before the first stored time of the output
    parameter       a number, one per sample, one per time or one for all
    time, x, y, z   coordinates
    skip            left out

where axes have names of their own also sample and channel,

and axes a letter each: n samples, t time, x y z space, c channels, v components of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fieldwright.errors import DataError, InputError
from fieldwright.settings import allowed

FIELD_ROLES = ("input", "output", "initial")
ROLES = (*FIELD_ROLES, "parameter", "time", "x", "y", "z", "sample", "channel", "skip")

_HABITS: dict[str, str] = {
    **dict.fromkeys(("a", "coeff", "coe", "nu", "permeability", "source", "f", "input", "inputs", "c", "k"), "input"),
    **dict.fromkeys(("Kcoeff", "Kcoeff_x", "Kcoeff_y", "x_data", "forcing", "force"), "input"),
    **dict.fromkeys(("u", "sol", "solution", "tensor", "darcy", "pressure", "output", "outputs", "y_data"), "output"),
    **dict.fromkeys(("t", "time", "times", "t-coordinate"), "time"),
    **dict.fromkeys(("x-coordinate", "X"), "x"),
    **dict.fromkeys(("y-coordinate", "Y"), "y"),
    **dict.fromkeys(("z-coordinate", "Z"), "z"),
    **dict.fromkeys(("visc", "viscosity", "beta"), "parameter"),
}
_LETTERS = "ntxyzcv"


@dataclass(frozen=True)
class Assignment:
    """A role, and the axes where the user states them."""

    role: str
    axes: str = ""


def parse_map(entries: Sequence[str]) -> dict[str, str]:
    """The user's entries by name.

    Errors: `InputError` for an entry without a name or a role, or a name given twice.
    """
    found: dict[str, str] = {}
    for entry in (part.strip() for several in entries for part in several.split(",")):
        name, equals, words = entry.rpartition("=")
        if not (name and equals and words):
            raise InputError(f"--map: '{entry}'; write NAME=ROLE or NAME=ROLE:AXES, as in u=output:nxyt")
        if name in found:
            raise InputError(f"--map: '{name}' is given twice")
        assignment(words)
        found[name] = words
    return found


def assignment(words: str) -> Assignment:
    """The role and axes that ``words`` say.

    Errors: `InputError` for an unknown role or axes that are not letters of axes, each once.
    """
    role, colon, axes = words.partition(":")
    if role not in ROLES:
        raise InputError(f"--map: role '{role}'; {allowed(role, ROLES)}")
    if colon and (not axes or set(axes) - set(_LETTERS) or len(set(axes)) < len(axes) or role not in FIELD_ROLES):
        raise InputError(f"--map: axes '{axes}'; allowed are the letters {', '.join(_LETTERS)}, each once, of a field")
    return Assignment(role, axes)


def assign(names: Mapping[str, Sequence[int]], roles: Mapping[str, str], where: str) -> dict[str, Assignment]:
    """A role for every array of the given names and shapes; "skip" for those that no one knows.

    Errors: `DataError` when the user names an array that is not there.
    """
    for name in roles:
        if name not in names:
            raise DataError(f"{where}: holds no array '{name}'; {allowed(name, names)}")
    found = {}
    for name, shape in names.items():
        if name in roles:
            found[name] = assignment(roles[name])
        else:
            found[name] = Assignment(habit(name, shape))
    return found


def habit(name: str, shape: Sequence[int]) -> str:
    """The role that a name and a shape suggest; "skip" where they suggest none."""
    rank = sum(n > 1 for n in shape)
    if name in ("x", "y", "z"):
        # A line of points, or neuralop's names for inputs and outputs.
        return name if rank <= 1 else {"x": "input", "y": "output"}.get(name, "skip")
    role = _HABITS.get(name, "skip")
    if role in FIELD_ROLES and rank < 2:
        return "skip"
    if role in ("x", "y", "z", "time") and rank > 2:
        return "skip"
    return role


def deduced_axes(
    shapes: Mapping[str, Sequence[int]], *, times: int | None, dimension: int | None, time_last: bool, where: str
) -> dict[str, str]:
    """The axes of fields of which nothing but the shapes is known; the first axis is the sample's.

    ``times`` and ``dimension`` are the numbers of stored times and of axes of space, where coordinates tell. With
    ``time_last`` an axis too many is the last and time's, as in the files of the Fourier neural operator's papers.

    Errors: `DataError` where more than one reading is possible.
    """
    # An axis of length one behind the sample's is one of channels.
    ranks = {len(shape) - (len(shape) > 2 and shape[1] == 1) for shape in shapes.values()}
    if dimension is None:
        dimension = min(ranks) - 1
        # Arrays of four axes alone may be of three in space, or of two in space and one of time or channels.
        if not 1 <= dimension <= 3 or (len(ranks) == 1 and dimension == 3):
            _ask(next(iter(shapes)), next(iter(shapes.values())), where)
    space = "xyz"[:dimension]
    found = {}
    for name, shape in shapes.items():
        extra = len(shape) - 1 - dimension
        if extra == 0:
            found[name] = "n" + space
        elif extra == 1 and (time_last or (times is not None and shape[-1] == times != shape[1])):
            found[name] = "n" + space + "t"
        elif extra == 1 and shape[1] == times:
            found[name] = "nt" + space
        elif extra == 1 and shape[1] == 1:
            found[name] = "nc" + space
        else:
            _ask(name, shape, where)
    return found


def _ask(name: str, shape: Sequence[int], where: str) -> None:
    raise DataError(
        f"{where}: '{name}' of shape {tuple(shape)} does not say which axis is which;"
        f" say it by --map {name}=ROLE:AXES, as in {name}=output:ntxy or {name}=input:ncxy"
    )
