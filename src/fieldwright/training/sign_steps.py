"""Lion's step on CPUs in fewer passes over memory, to the bits of the step that goes operation by operation:

    u = lerp(m, g, 1 - β₁),   m ← lerp(m, g, 1 - β₂),   x ← (1 - ηλ) x,   x ← x - η sign(u).

A step is bound by memory, and operation by operation it reads and writes each tensor several times. Here tensors are
gone through in pieces that fit the cache, or by one kernel that takes the addresses of all. They stay where they are:
parameters need no common buffer, and gradients are not copied together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from fieldwright.solvers.lanes import compiled, inner, intrinsic

BLOCK = 1 << 16
"""Entries of a piece: the four arrays of a step in float32 are then a megabyte. Smaller ones spend more on calls than
they save (measured with 10 million weights: 2^15 is half as fast again)."""

Triple = tuple[Tensor, Tensor, Tensor]
"""A parameter, its gradient and its momentum."""


def is_plain(parameter: Tensor, gradient: Tensor, momentum: Tensor) -> bool:
    """Whether the three are real tensors on a CPU whose entries lie side by side in one order."""
    strides = parameter.stride()
    return (
        parameter.dtype in (torch.float32, torch.float64)
        and gradient.dtype == parameter.dtype
        and momentum.dtype in (parameter.dtype, torch.bfloat16)
        and parameter.device.type == "cpu"
        and gradient.stride() == strides
        and momentum.stride() == strides
        and (parameter.is_contiguous() or _channels_last(parameter))
    )


def blocked_sign_step(triples: Iterable[Triple], rate: float, betas: tuple[float, float], decay: float) -> None:
    """Move plain parameters and their momenta, in pieces of `BLOCK` entries: large tensors cut, small ones gathered."""
    small: list[Triple] = []
    entries = 0
    for triple in triples:
        if triple[0].numel() > BLOCK:
            _piecewise(triple, rate, betas, decay)
            continue
        if small and (entries >= BLOCK or small[0][2].dtype != triple[2].dtype):
            _together(small, rate, betas, decay)
            small, entries = [], 0
        small.append(triple)
        entries += triple[0].numel()
    if small:
        _together(small, rate, betas, decay)


def _piecewise(triple: Triple, rate: float, betas: tuple[float, float], decay: float) -> None:
    room = torch.empty(BLOCK, dtype=triple[0].dtype)  # one for all pieces
    for x, g, m in zip(*(_flat(t).split(BLOCK) for t in triple), strict=True):
        exact = m.to(g.dtype)
        signs = torch.lerp(exact, g, 1 - betas[0], out=room[: x.numel()])
        exact.lerp_(g, 1 - betas[1])
        if exact is not m:
            m.copy_(exact)
        if decay:
            x.mul_(1 - rate * decay)
        x.add_(signs.sign_(), alpha=-rate)


def _together(triples: Sequence[Triple], rate: float, betas: tuple[float, float], decay: float) -> None:
    parameters, gradients, momenta = (list(part) for part in zip(*triples, strict=True))
    exact = [m.to(g.dtype) for m, g in zip(momenta, gradients, strict=True)]
    signs = torch._foreach_lerp(exact, gradients, 1 - betas[0])
    torch._foreach_lerp_(exact, gradients, 1 - betas[1])
    if exact[0] is not momenta[0]:
        torch._foreach_copy_(momenta, exact)
    torch._foreach_sign_(signs)
    if decay:
        torch._foreach_mul_(parameters, 1 - rate * decay)
    torch._foreach_add_(parameters, signs, alpha=-rate)


def compiled_sign_step(triples: Sequence[Triple], rate: float, betas: tuple[float, float], decay: float) -> bool:
    """Move plain parameters and their momenta in one pass; False, with nothing moved, where there is no kernel.

    There is none where it cannot be compiled or does not give torch's bits on this processor, which is tried once.
    """
    kinds = {(p.dtype, m.dtype) for p, _, m in triples}
    if not all(has_kernel(*kind) for kind in kinds):
        return False
    for parameter_dtype, momentum_dtype in kinds:
        chosen = [t for t in triples if (t[0].dtype, t[2].dtype) == (parameter_dtype, momentum_dtype)]
        _launch(chosen, parameter_dtype, momentum_dtype, rate, betas, decay)
    return True


@functools.cache
def has_kernel(parameter_dtype: torch.dtype, momentum_dtype: torch.dtype) -> bool:
    """Whether the kernel for these types compiles and agrees with torch in all bits."""
    if parameter_dtype == torch.float64 and momentum_dtype != torch.float64:
        return False
    draws = torch.Generator().manual_seed(0)
    for betas, decay in (((0.95, 0.98), 0.1), ((0.3, 0.4), 0.0)):
        ours, torchs = [], []
        for size in (1, 37, 1000):
            triple = tuple(
                torch.randn(size, generator=draws).to(dtype)
                for dtype in (parameter_dtype, parameter_dtype, momentum_dtype)
            )
            ours.append(triple)
            torchs.append(tuple(t.clone() for t in triple))
        try:
            _launch(ours, parameter_dtype, momentum_dtype, 0.01, betas, decay)
        except Exception:  # whatever keeps a compiler from working here, the step goes on without it
            return False
        blocked_sign_step(torchs, 0.01, betas, decay)
        pairs = zip(ours, torchs, strict=True)
        if not all(torch.equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)):
            return False
    return True


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().as_strided((tensor.numel(),), (1,))


def _channels_last(tensor: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.ndim in formats and tensor.is_contiguous(memory_format=formats[tensor.ndim])


def _launch(
    triples: Sequence[Triple],
    parameter_dtype: torch.dtype,
    momentum_dtype: torch.dtype,
    rate: float,
    betas: tuple[float, float],
    decay: float,
) -> None:
    addresses = np.array([[t.data_ptr() for t in triple] for triple in triples], dtype=np.int64)
    sizes = np.array([triple[0].numel() for triple in triples], dtype=np.int64)
    number = np.float32 if parameter_dtype == torch.float32 else np.float64
    # torch's lerp starts from the nearer end: m + w (g - m) below one half, g + (w - 1) (g - m) from there on.
    weights = [1 - beta for beta in betas]
    from_end = [weight >= 0.5 for weight in weights]
    factors = [number(w) - number(1) if late else number(w) for w, late in zip(weights, from_end, strict=True)]
    kernel = _step if momentum_dtype == parameter_dtype else _narrow_step
    kernel(addresses, sizes, *factors, *from_end, number(1 - rate * decay), number(rate))


@intrinsic
def _array_at(typingctx: Any, address: Any, like: Any) -> Any:
    """The pointer to entries of the type of ``like`` at an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(address, like), build


@intrinsic
def _fused(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once, as torch's vectors do it."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return a(a, a, a), build


@intrinsic
def _bits_as_float(typingctx: Any, bits: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), build


@intrinsic
def _float_as_bits(typingctx: Any, number: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), build


@inner
def _moved(
    x: Any, g: Any, m: Any, blend: Any, forget: Any, blend_from_end: Any, forget_from_end: Any, keep: Any, rate: Any
) -> Any:
    """A weight and its momentum after a step; ``keep`` is 1 without decay, which leaves all bits."""
    zero = rate - rate
    difference = g - m
    u = _fused(blend, difference, g if blend_from_end else m)
    step = rate if u > zero else (-rate if u < zero else zero)
    return x * keep - step, _fused(forget, difference, g if forget_from_end else m)


@compiled
def _step(
    addresses: Any, sizes: Any, blend: Any, forget: Any, blend_from_end: Any, forget_from_end: Any, keep: Any, rate: Any
) -> None:
    for k in range(sizes.size):
        x = numba.carray(_array_at(addresses[k, 0], rate), sizes[k])
        g = numba.carray(_array_at(addresses[k, 1], rate), sizes[k])
        m = numba.carray(_array_at(addresses[k, 2], rate), sizes[k])
        for i in range(sizes[k]):
            x[i], m[i] = _moved(x[i], g[i], m[i], blend, forget, blend_from_end, forget_from_end, keep, rate)


@compiled
def _narrow_step(
    addresses: Any, sizes: Any, blend: Any, forget: Any, blend_from_end: Any, forget_from_end: Any, keep: Any, rate: Any
) -> None:
    """The step with momenta in bfloat16, the upper half of a float32, rounded to the nearest, ties to even."""
    for k in range(sizes.size):
        x = numba.carray(_array_at(addresses[k, 0], rate), sizes[k])
        g = numba.carray(_array_at(addresses[k, 1], rate), sizes[k])
        m = numba.carray(_array_at(addresses[k, 2], np.uint16(0)), sizes[k])
        for i in range(sizes[k]):
            momentum = _bits_as_float(np.uint32(m[i]) << np.uint32(16))
            x[i], momentum = _moved(x[i], g[i], momentum, blend, forget, blend_from_end, forget_from_end, keep, rate)
            bits = _float_as_bits(momentum)
            odd = (bits >> np.uint32(16)) & np.uint32(1)
            m[i] = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
