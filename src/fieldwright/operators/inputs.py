"""What every operator asks of its arguments and of the fields it is called with."""

from torch import Tensor

from fieldwright.errors import InputError


def check_counts(**counts: int) -> None:
    """Errors: `InputError` naming the first of these arguments that is not a positive integer."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"{name}: {count!r}; it must be a positive integer")


def check_inputs(inputs: Tensor, in_channels: int, dimension: int, lead_time: Tensor | float | None) -> None:
    """Errors: `InputError` for a wrong number of axes or channels, integers, or a lead time where there is none."""
    if inputs.ndim != dimension + 2:
        raise InputError(
            f"inputs of shape {tuple(inputs.shape)}; the operator takes batch, channel and {dimension} axes of space"
        )
    if inputs.shape[1] != in_channels:
        raise InputError(f"inputs have {inputs.shape[1]} channels; the operator takes {in_channels}")
    if not inputs.is_floating_point():
        raise InputError(f"inputs of type {inputs.dtype}; the operator takes floating-point fields")
    if lead_time is not None:
        raise InputError("lead_time: this operator maps one steady field to another and takes no lead time")
