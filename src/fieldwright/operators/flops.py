"""Floating-point operations of an operator, counted while it runs.

| what | operations |
| --- | --- |
| matrix product (m, k) (k, n) | 2 m n k, a multiplication and an addition each |
| convolution | 2 for each weight and each point that it meets |
| attention of q queries and k keys of e channels to values of v | 2 q k (e + v) |
| Fourier transform of n numbers | 5 n log₂ n, from or to real numbers half as many |

Complex products count four times. Everything done number by number (activations, sums, norms, interpolation) is left
out: it is bound by memory and not by arithmetic. PyTorch's own counter, which this one builds on, leaves out Fourier
transforms and counts complex products as real ones, which would favour Fourier operators.

Source of the transform's count: Frigo and Johnson, "The Design and Implementation of FFTW3", Proc. IEEE 2005, section
5.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


@contextmanager
def counted_flops() -> Iterator[Callable[[], int]]:
    """Count what runs inside; what it yields tells the sum so far.

    with counted_flops() as count:
        operator(inputs).sum().backward()
    print(count())
    """
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        yield lambda: round(counter.get_total_flops())


def forward_flops(operator: nn.Module, *inputs: Tensor) -> int:
    """Operations of one forward pass on these inputs.

    Errors: what the operator raises for inputs that it cannot take.
    """
    with torch.no_grad(), counted_flops() as count:
        operator(*inputs)
    return count()


def step_flops(operator: nn.Module, *inputs: Tensor) -> int:
    """Operations of a forward pass on these inputs and of the backward pass to all weights.

    Errors: what the operator raises for inputs that it cannot take.
    """
    # A copy: the counted step's gradients, and what a foreign module notes in its buffers, leave no trace.
    module = copy.deepcopy(operator)
    with torch.enable_grad(), counted_flops() as count:
        module(*inputs).square().sum().backward()
    return count()


def _product(a: Tensor, b: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return (8 if out_val.is_complex() else 2) * out_val.numel() * a.shape[-1]


def _sum_and_product(_added: Tensor, a: Tensor, b: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    return _product(a, b, out_val=out_val)


def _convolution(x: Tensor, weight: Tensor, *rest: Any, out_val: Tensor, **_: Any) -> int:
    transposed = rest[4]
    return _meetings(weight, x if transposed else out_val)


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any, out_val: Sequence[Tensor | None], **_: Any
) -> int:
    transposed, wanted = rest[4], rest[7]
    return _meetings(weight, x if transposed else gradient) * (bool(wanted[0]) + bool(wanted[1]))


def _meetings(weight: Tensor, met: Tensor) -> int:
    return (8 if met.is_complex() else 2) * met.numel() * math.prod(weight.shape[1:])


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * (query.shape[-1] + value.shape[-1])


def _attention_backward(_gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    # The scores again, then a product for each of the gradients to scores, values, queries and keys.
    pairs = math.prod(query.shape[:-1]) * key.shape[-2]
    return 2 * pairs * (3 * query.shape[-1] + 2 * value.shape[-1])


def _transform(longer: Tensor, axes: Sequence[int], *, share: float) -> float:
    return share * longer.numel() * sum(math.log2(longer.shape[axis]) for axis in axes)


def _complex_transform(x: Tensor, axes: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> float:
    return _transform(x, axes, share=5.0)


def _from_real(x: Tensor, axes: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> float:
    return _transform(x, axes, share=2.5)


def _to_real(x: Tensor, axes: Sequence[int], *_: Any, out_val: Tensor, **__: Any) -> float:
    return _transform(out_val, axes, share=2.5)


def _raw(formula: Callable[..., float]) -> Callable[..., float]:
    """Marks a formula that wants tensors and not only their shapes."""
    formula._get_raw = True  # type: ignore[attr-defined]
    return formula


FORMULAS: dict[Any, Callable[..., float]] = {
    aten.mm: _raw(_product),
    aten.bmm: _raw(_product),
    aten.addmm: _raw(_sum_and_product),
    aten.baddbmm: _raw(_sum_and_product),
    aten.convolution: _raw(_convolution),
    aten.convolution_overrideable: _raw(_convolution),
    aten.convolution_backward: _raw(_convolution_backward),
    aten._scaled_dot_product_flash_attention_for_cpu: _raw(_attention),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _raw(_attention_backward),
    aten._fft_c2c: _raw(_complex_transform),
    aten._fft_r2c: _raw(_from_real),
    aten._fft_c2r: _raw(_to_real),
}
