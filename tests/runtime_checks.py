"""The run-time checker of shapes that `conftest` hands to jaxtyping's import hook.

Only annotations of arrays are checked: what else a function is given wrongly it must answer itself, in one sentence,
and the tests of bad input see to that.
"""

import re
import types
from collections.abc import Callable
from typing import Any

from beartype import beartype

ARRAY = re.compile(r"\b(Shaped|Num|Inexact|Real|Float|Complex|Integer|Int|UInt|Bool)\d*\[")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its array annotations checked at every call."""
    if not isinstance(function, types.FunctionType):
        return function
    arrays = {name: hint for name, hint in function.__annotations__.items() if ARRAY.search(str(hint))}
    if not arrays:
        return function
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__module__, copy.__qualname__, copy.__annotations__ = function.__module__, function.__qualname__, arrays
    return beartype(copy)
