"""When to grow: how much of the budget the shallow network gets, and whether it has had enough.

    ratio rule   the base gets 5 to 10 % of all training operations
    law          log₁₀ d = 0.88 log₁₀ N + 163.27 / log₁₀ C - 5.74,  d tokens for the base, N parameters of the target,
                 C operations; fitted to language models with 0.4 to 3 billion parameters
    slope rule   grow once the base's loss falls more slowly, per operation, than the target's is expected to

The law is evaluated between 1e8 and 1e11 parameters and 1e19 and 1e24 operations alone; at a million parameters it
would ask for 1e11 tokens.

Source: Du et al., "Stacking Your Transformers", NeurIPS 2024, section 4; the ratio is what the law gives there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldwright.errors import InputError

LEAST_SHARE, SHARE, MOST_SHARE = 0.05, 0.075, 0.10
"""Of all operations for the base: the ratio rule's bounds and what is taken where nothing else is known."""

PARAMETERS, OPERATIONS = (1e8, 1e11), (1e19, 1e24)
"""Where the law is evaluated; its authors go to 70 billion parameters themselves."""


@dataclass(frozen=True)
class Advice:
    """Whether to grow by now, the rule that says so, and a sentence why."""

    grow: bool
    rule: str
    sentence: str


def base_tokens(parameters: float, operations: float) -> float:
    """Tokens that the law gives the base.

    Errors: `InputError` outside the range of the law.
    """
    for what, value, (least, most) in (
        ("parameters", parameters, PARAMETERS),
        ("operations", operations, OPERATIONS),
    ):
        if not least <= value <= most:
            raise InputError(
                f"growth: {what} {value:.3g}; the law holds from {least:.0e} to {most:.0e}; use the ratio rule, 5 to"
                " 10 % of all operations for the base"
            )
    return 10 ** (0.88 * math.log10(parameters) + 163.27 / math.log10(operations) - 5.74)


def base_operations(total: float, share: float = SHARE) -> float:
    """Operations that the ratio rule gives the base.

    Errors: `InputError` for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise InputError(f"growth: share {share}; it must lie between 0 and 1")
    return share * total


def when_to_grow(curve: Sequence[tuple[float, float]], total: float, *, cost_ratio: float) -> Advice:
    """Whether a base with this curve of (operations, loss) has had enough of ``total`` operations.

    The slope is that of a power law loss = a C^-b fitted to the later half of the curve. The target, ``cost_ratio``
    times as dear a step, is expected to learn as much a step as the base did on its way, over the same number of steps
    but at its own price: so grow where the base's slope is below that of its curve from start to here over
    ``cost_ratio``. Never before `LEAST_SHARE` of the operations, always by `MOST_SHARE`.

    Errors: `InputError` for a curve that does not rise in operations, or a ratio below 1.
    """
    if cost_ratio < 1 or any(not math.isfinite(v) or v <= 0 for point in curve for v in point):
        raise InputError("growth: cost_ratio must be 1 or more, operations and losses positive numbers")
    if any(b <= a for (a, _), (b, _) in itertools.pairwise(curve)):
        raise InputError("growth: the curve's operations must rise")
    share = curve[-1][0] / total if curve else 0.0
    if share < LEAST_SHARE:
        return Advice(
            False, "ratio", f"the base had {share:.1%} of all operations; it should have {LEAST_SHARE:.0%} at least"
        )
    if share >= MOST_SHARE:
        return Advice(
            True, "ratio", f"the base had {share:.1%} of all operations; more than {MOST_SHARE:.0%} does not pay"
        )
    if len(curve) < 4:
        return Advice(
            share >= SHARE, "ratio", f"the base had {share:.1%} of all operations; its curve is too short for a slope"
        )
    later = np.log(np.array(curve[len(curve) // 2 :]))
    exponent = float(np.polyfit(later[:, 0], later[:, 1], 1)[0])
    slope = -exponent * curve[-1][1] / curve[-1][0]
    expected = (curve[0][1] - curve[-1][1]) / (curve[-1][0] - curve[0][0]) / cost_ratio
    sentence = f"the base's loss falls by {slope:.2g} an operation, the target's is expected to by {expected:.2g}"
    return Advice(slope < expected, "slope", sentence)
