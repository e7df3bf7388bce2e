"""When a surrogate has paid for itself.

A surrogate costs P seconds to prepare (generating data and training) and s seconds a sample; a solver costs c seconds
a sample at the same accuracy. After N samples both have cost the same when

    P + N s = N c,      N = P / (c - s),

and where c <= s there is no such N: the solver is faster for ever.
"""

from __future__ import annotations

import math

from fieldwright.errors import InputError


def break_even(*, preparation_seconds: float, surrogate_seconds: float, solver_seconds: float) -> int | None:
    """The number of samples from which on the surrogate is the cheaper way, or None for never.

    Errors: `InputError` for a time that is negative or not finite.
    """
    for name, value in (
        ("preparation_seconds", preparation_seconds),
        ("surrogate_seconds", surrogate_seconds),
        ("solver_seconds", solver_seconds),
    ):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"break-even: {name} = {value}; a number of seconds of at least 0 is needed")
    gain = solver_seconds - surrogate_seconds
    if gain <= 0:
        return None
    count = preparation_seconds / gain
    return math.ceil(count) if math.isfinite(count) else None
