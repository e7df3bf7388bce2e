"""What a recipe names: classes, ours or in the user's own file, and the arguments of their constructors.

``darcy`` is looked up in a table; ``my_module:MyProblem`` is imported with the current directory on ``sys.path``. The
settings given for a class are checked against its constructor's signature before anything is built.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import json
import numbers
import operator
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from fieldwright.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)


def named_class(kind: str, table: Mapping[str, type], base: type, what: str) -> type:
    """The class that ``kind`` names: an entry of ``table``, or ``module:Class`` in the user's own code.

    Errors: `RecipeError` for a name that is in no table, a module that cannot be imported, or a class that is not a
    ``base``.
    """
    if ":" not in kind:
        if kind not in table:
            raise RecipeError(
                f"{what}.kind: '{kind}'; {allowed(kind, table)}, or 'module:Class' for a class in your own file"
            )
        return table[kind]
    module_name, _, class_name = kind.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way; say which and how in one sentence
        raise RecipeError(
            f"{what}.kind: '{kind}'; importing {module_name!r} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        candidates = [
            n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, base) and c is not base
        ]
        reason = "is not there" if found is None else f"is not a {base.__name__}"
        raise RecipeError(f"{what}.kind: '{kind}'; {class_name!r} {reason}; {allowed(class_name, candidates)}")
    return found


def class_name(cls: type, table: Mapping[str, type]) -> str:
    """The name under which `named_class` finds a class again."""
    for name, known in table.items():
        if known is cls:
            return name
    return f"{cls.__module__}:{cls.__qualname__}"


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Parameters of a constructor by name, and of its base classes' as far as it hands on keywords that it names not.

    The catch-all itself is among them under its own name.
    """
    found: dict[str, inspect.Parameter] = {}
    # The signatures of __init__ and not of the class: mixins that define __new__ would hide them.
    for owner in (c for c in cls.__mro__ if "__init__" in vars(c)):
        own = list(inspect.signature(owner.__init__).parameters.values())[1:]
        found = {**{p.name: p for p in own}, **found}
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in own):
            break
    return found


def checked_settings(
    cls: type, settings: Mapping[str, Any], *, path: str, supplied: Collection[str] = (), derived: Collection[str] = ()
) -> dict[str, Any]:
    """All settings of a class: those given, checked and converted to the constructor's types, and its defaults.

    A default that YAML could not hold stays with the constructor.
    ``supplied`` names the arguments that the caller passes itself and that a recipe therefore may not set, ``derived``
    those that it passes unless they are set.
    Errors: `RecipeError` for an unknown or missing setting or a value of the wrong type.
    """
    model = _constructor_model(cls, frozenset(supplied), frozenset(derived))
    checked = validate(model, settings, path=path)
    given = {name: getattr(checked, name) for name in checked.model_fields_set}
    own = inspect.signature(cls.__init__).parameters.keys() - frozenset(derived)
    defaults = {
        name: field.default
        for name, field in type(checked).model_fields.items()
        if name in own and _is_plain(field.default)  # a base class's default may not be that of this class
    }
    return {name: given.get(name, defaults.get(name)) for name in (*type(checked).model_fields, *given)
            if name in given or name in defaults}  # fmt: skip


def validate(model: type[Model], tree: Mapping[str, Any], *, path: str = "") -> Model:
    """Read a plain tree into a pydantic model by JSON's rules: no text for numbers, no booleans for integers.

    Errors: `RecipeError` with the dotted path, the value, what is allowed and the nearest right name.
    """
    # What JSON does not know, such as a date, goes in as text and is refused as text, with its path.
    text = json.dumps(tree, default=str)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecipeError(_explain(error, model, path)) from error


def allowed(wrong: str, names: Iterable[str]) -> str:
    """ "did you mean 'darcy'? allowed are darcy, poisson": the end of a sentence about a wrong name."""
    names = list(names)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    return (f"did you mean '{near[0]}'? " if near else "") + f"allowed are {', '.join(names) or 'none'}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a report in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _constructor_model(cls: type, supplied: frozenset[str], derived: frozenset[str]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    takes_any_keyword = False
    hints = _constructor_hints(cls)
    for name, parameter in constructor_parameters(cls).items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_any_keyword = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL and name not in supplied:
            default = parameter.default
            if default is inspect.Parameter.empty:
                default = None if name in derived else ...
            fields[name] = (_checkable(hints.get(name, Any), default), default)
    config = ConfigDict(
        extra="allow" if takes_any_keyword else "forbid",
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
    return create_model(cls.__name__, __config__=config, **fields)


def _constructor_hints(cls: type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    owners = [cls] if dataclasses.is_dataclass(cls) else [c for c in cls.__mro__ if "__init__" in vars(c)]
    for owner in reversed(owners):
        try:
            hints |= typing.get_type_hints(owner if dataclasses.is_dataclass(owner) else owner.__init__)
        except (NameError, TypeError):  # annotations that only a type checker can resolve: any value then
            continue
    return hints


def _checkable(hint: Any, default: Any) -> Any:
    """An annotation as far as it is to be believed: libraries write ``str = None``, ``Number`` and ``Tuple[int]``."""
    members = typing.get_args(hint)
    if default is None and type(None) not in members:
        return Any
    if hint is numbers.Number:
        return float
    if typing.get_origin(hint) is tuple and len(members) == 1:
        return tuple[members[0], ...]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, (_checkable(member, ...) for member in members))
    return list[_checkable(members[0], ...)] if typing.get_origin(hint) is list and members else hint


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _explain(error: ValidationError, model: type[BaseModel], path: str) -> str:
    """One sentence for the first of pydantic's findings."""
    first = error.errors()[0]
    # A union reports every member it tried as one more step of the path, in names that are not keys.
    steps = [str(step) for step in first["loc"] if not (isinstance(step, str) and ("[" in step or "-" in step))]
    where = ".".join(([path] if path else []) + steps) or "recipe"
    value, kind, context = first.get("input"), first["type"], first.get("ctx", {})
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 and not _is_union(error) else ""
    if kind == "extra_forbidden":
        return f"{where}: no such key; {allowed(steps[-1], _keys_beside(model, steps))}{more}"
    if kind == "missing":
        return f"{where}: missing; it has no default{more}"
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        return f"{where}: {value!r}; {allowed(str(value), expected.split(', '))}{more}"
    if kind == "value_error":
        return f"{_with_key(where, str(context.get('error', first['msg'])), model)}{more}"
    said = first["msg"].replace("Input should be", "it must be")
    for theirs, ours in _PLAIN_WORDS.items():
        said = said.replace(theirs, ours)
    return f"{where}: {_shown(value)}; {said[0].lower()}{said[1:]}{more}"


_PLAIN_WORDS = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid boolean": "true or false",
    "a valid array": "a list",
    "an object": "a mapping",
    "a valid dictionary": "a mapping",
}


def _with_key(where: str, sentence: str, model: type[BaseModel]) -> str:
    """ "training" and "optimizer 'x'; allowed are ..." as "training.optimizer: 'x'; allowed are ..."."""
    key, _, rest = sentence.partition(" ")
    key = key.rstrip(":")
    return f"{where}.{key}: {rest}" if key in model.model_fields and rest[:1] in "'\"" else f"{where}: {sentence}"


def _is_union(error: ValidationError) -> bool:
    """Whether all findings are about one value, as when every member of a union refused it."""
    return len({json.dumps(e.get("input"), default=str) for e in error.errors()}) == 1


def _keys_beside(model: type[BaseModel], steps: list[str]) -> list[str]:
    """The keys that the level of the last step has."""
    above = iter(steps[:-1])
    for step in above:
        if step.isdigit():
            continue
        annotation = model.model_fields[step].annotation
        inner = [annotation, *typing.get_args(annotation)]
        inner += [deep for a in inner for deep in typing.get_args(a)]
        models = [a for a in inner if inspect.isclass(a) and issubclass(a, BaseModel)]
        if not models:
            return []
        model = models[0]
        if typing.get_origin(annotation) is dict:
            next(above, None)  # a key of the user's own
    return list(model.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
