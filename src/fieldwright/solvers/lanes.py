"""Eight samples side by side: a numba type for SIMD vectors, one sample per lane.

All samples of a batch share the stencil's pattern, so a solver can walk the grid once and do every operation for
`LANES` samples in one instruction. Arrays are flat, lane fastest: entry k of a field is
``array[k * LANES : (k + 1) * LANES]``.
Inside kernels a vector behaves like a number (+, -, *, /); LLVM maps it to whatever registers the machine has.

Explicit vectors, rather than inner loops left to the auto-vectoriser, because Numba cannot promise LLVM that arrays do
not overlap: the vectoriser then inserts overlap checks at every grid point, or gives up. Lanes never exchange data, so
the bits of a sample do not depend on its neighbours.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import lower_builtin, models, register_model

LANES = 8
# `contract` lets LLVM fuse a*b + c, which rounds once; nothing is reassociated, so results stay reproducible.
CONTRACT = ("contract",)
ALIGNMENT = 64

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
# How every kernel is compiled: cached on disk, without the interpreter lock, x / 0 = inf as in NumPy. Kernels that only
# other kernels call are `inner`: without an entry from Python they compile faster.
compiled = cast(Decorator, numba.njit(cache=True, nogil=True, error_model="numpy"))
# Numba's type hints do not know this option.
_inner = cast("Callable[..., Any]", numba.njit)
inner = cast(Decorator, _inner(cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True))
# Numba supplies an intrinsic's first argument itself, which type checkers cannot know.
intrinsic = cast(Decorator, numba_intrinsic)


class Lanes(types.Type):
    """`LANES` numbers of one float type."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """A vector register."""

    def __init__(self, manager, lanes) -> None:
        super().__init__(manager, lanes, _vector(lanes.dtype))


def _vector(dtype: types.Type) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)


def _operation(symbol, instruction: str) -> None:
    """Define ``symbol`` on two vectors of one type as one LLVM instruction."""

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(symbol)(Template)  # type: ignore[misc]

    @lower_builtin(symbol, Lanes, Lanes)
    def lower(context, builder, sig, args):
        return getattr(builder, instruction)(args[0], args[1], flags=CONTRACT)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operation(_symbol, _instruction)


def _address(context, builder, array_type, array, index):
    view = context.make_array(array_type)(context, builder, array)
    place = builder.mul(index, ir.Constant(index.type, LANES))
    element = context.get_data_type(array_type.dtype)
    pointer = builder.gep(view.data, [place], inbounds=True, source_etype=element)
    return builder.bitcast(pointer, _vector(array_type.dtype).as_pointer())


@intrinsic
def load(typingcontext, array, index):
    """Entry ``index`` of a field, as a vector."""
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args)
        return builder.load(pointer, align=LANES * array.dtype.bitwidth // 8, typ=_vector(array.dtype))

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingcontext, array, index, value):
    """Write a vector to entry ``index`` of a field of the same float type."""

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=LANES * array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def load_row(typingcontext, array, index):
    """`LANES` neighbouring numbers of one sample's array, from flat position ``index`` on."""

    def codegen(context, builder, sig, args):
        view = context.make_array(sig.args[0])(context, builder, args[0])
        element = context.get_data_type(array.dtype)
        pointer = builder.gep(view.data, [args[1]], inbounds=True, source_etype=element)
        return builder.load(pointer, align=array.dtype.bitwidth // 8, typ=_vector(array.dtype))

    return Lanes(array.dtype)(array, types.intp), codegen


@intrinsic
def spread(typingcontext, value):
    """The same number in every lane."""

    def codegen(context, builder, sig, args):
        vector = _vector(sig.args[0])
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), mask)

    return Lanes(value)(value), codegen


@intrinsic
def narrow(typingcontext, value):
    """float64 lanes rounded to float32."""

    def codegen(context, builder, sig, args):
        return builder.fptrunc(args[0], _vector(types.float32))

    return Lanes(types.float32)(value), codegen


@intrinsic
def widen(typingcontext, value):
    """float32 lanes as float64."""

    def codegen(context, builder, sig, args):
        return builder.fpext(args[0], _vector(types.float64))

    return Lanes(types.float64)(value), codegen


@intrinsic
def larger(typingcontext, left, right):
    """Lane by lane the larger number; ``right`` where ``left`` is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return left(left, right), codegen


@intrinsic
def reciprocal_above(typingcontext, value, least):
    """Lane by lane 1 / value, and 0 where value <= least (or is NaN)."""

    def codegen(context, builder, sig, args):
        vector = _vector(value.dtype)
        one = ir.Constant(vector, [1.0] * LANES)
        quotient = builder.fdiv(one, args[0])
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), quotient, ir.Constant(vector, [0.0] * LANES))

    return value(value, least), codegen


@intrinsic
def square_root(typingcontext, value):
    """Lane by lane √value."""

    def codegen(context, builder, sig, args):
        letter = "f32" if value.dtype == types.float32 else "f64"
        vector = _vector(value.dtype)
        kind = ir.FunctionType(vector, [vector])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}{letter}")
        return builder.call(function, [args[0]])

    return value(value), codegen


def aligned(entries: int, dtype: type[np.floating]) -> np.ndarray:
    """A flat zero array of ``entries`` vectors whose first byte lies on a cache line."""
    width = np.dtype(dtype).itemsize
    raw = np.zeros(entries * LANES + ALIGNMENT // width, dtype)
    first = (-raw.ctypes.data % ALIGNMENT) // width
    return raw[first : first + entries * LANES]
