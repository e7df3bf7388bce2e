"""How well an error estimate tracks the true error, and whether an error bound holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

SLACK = 1e-5
"""A bound counts as violated beyond this relative excess: truths are stored in float32."""


@dataclass(frozen=True)
class EstimateQuality:
    """An estimate η of the error e and a bound B of an error E, perhaps in another norm, over ``count`` samples.

    ``correlation``      Pearson's, of log η and log e; None below three samples or where one of them does not vary
    ``within_factor_2``  share of samples with e/2 <= η <= 2 e
    ``median_ratio``     median of η / e: above 1 the estimate is cautious
    ``bounded``          samples for which a finite bound B is given
    ``violations``       samples with E > B; a bound that deserves its name has none
    ``median_bound``     median of B / E over the bounded samples, the price of the guarantee; None without any
    """

    count: int
    correlation: float | None
    within_factor_2: float
    median_ratio: float
    bounded: int
    violations: int
    median_bound: float | None


def estimate_quality(
    estimate: Float[Tensor, " batch"],
    bound: Float[Tensor, " batch"],
    error: Float[Tensor, " batch"],
    bounded_error: Float[Tensor, " batch"] | None = None,
) -> EstimateQuality | None:
    """Compare an estimate and a bound with the true errors, sample by sample.

    ``error`` is what the estimate is of, ``bounded_error`` what the bound is of (default: the same).

    None where no estimate is given (NaN); a bound that is infinite is no bound.
    """
    tiny = 1e-150  # keeps logarithms and ratios finite where a prediction is exact
    limited = error if bounded_error is None else bounded_error
    eta, upper, e, most = (
        np.maximum(t.detach().double().cpu().numpy(), tiny) for t in (estimate, bound, error, limited)
    )
    if not np.isfinite(eta).all():
        return None
    ratio = eta / e
    bounded = np.isfinite(upper)
    return EstimateQuality(
        count=len(e),
        correlation=_correlation(np.log(eta), np.log(e)),
        within_factor_2=float(np.mean((ratio >= 0.5) & (ratio <= 2))),
        median_ratio=float(np.median(ratio)),
        bounded=int(bounded.sum()),
        violations=int(np.sum(most > upper * (1 + SLACK))),
        median_bound=float(np.median((upper / most)[bounded])) if bounded.any() else None,
    )


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    value = float(np.corrcoef(x, y)[0, 1])
    return value if math.isfinite(value) else None
