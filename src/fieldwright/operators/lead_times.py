"""The lead times of a batch, from what an operator is called with."""

import torch
from jaxtyping import Float
from torch import Tensor

from fieldwright.errors import InputError


def lead_times(
    lead_time: Tensor | float | None, inputs: Float[Tensor, "batch *rest"], *, conditioned: bool
) -> Float[Tensor, " batch"] | None:
    """One lead time for each sample: those given, 1 for None, and none at all for an operator without them.

    Errors: `InputError` for a lead time that is negative or not finite, not one number or one for each sample, or given
    to an operator that is not ``conditioned``.
    """
    if not conditioned:
        if lead_time is not None:
            raise InputError("lead_time: this operator is not conditioned on one; build it with conditioned=True")
        return None
    batch = len(inputs)
    dtype = inputs.dtype if inputs.dtype == torch.float64 else torch.float32
    times = torch.as_tensor(1.0 if lead_time is None else lead_time, dtype=dtype, device=inputs.device)
    if times.ndim == 2 and times.shape[1] == 1:
        times = times[:, 0]
    if times.ndim > 1 or (times.ndim == 1 and len(times) not in (1, batch)):
        raise InputError(
            f"lead_time: shape {tuple(times.shape)}; expected a number, or one for each of the {batch} samples"
        )
    # A compiled or exported operator cannot stop over a value.
    if not torch.compiler.is_compiling() and not bool((times.isfinite() & (times >= 0)).all()):
        raise InputError(f"lead_time: {times.tolist()}; lead times are finite and not negative")
    return times.expand(batch)
