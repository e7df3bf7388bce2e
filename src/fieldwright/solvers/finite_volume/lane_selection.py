"""Comparisons of SIMD vectors without branches, and limited slopes made of them."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fieldwright.solvers.lanes import LANES, inner, intrinsic, spread

# In the order of `limiters.LIMITERS`.
CENTRAL, MINMOD, VAN_LEER, MONOTONIZED = range(4)


@intrinsic
def store_row(typingcontext, array, index, value):
    """Write `LANES` neighbouring numbers of one sample's array, from flat position ``index`` on."""

    def codegen(context, builder, sig, args):
        view = context.make_array(sig.args[0])(context, builder, args[0])
        element = context.get_data_type(array.dtype)
        pointer = builder.gep(view.data, [args[1]], inbounds=True, source_etype=element)
        vector = builder.bitcast(pointer, ir.VectorType(element, LANES).as_pointer())
        builder.store(args[2], vector, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def smaller(typingcontext, left, right):
    """Lane by lane the smaller number; ``right`` where ``left`` is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return left(left, right), codegen


@intrinsic
def where_positive(typingcontext, test, yes, no):
    """Lane by lane ``yes`` where ``test`` > 0, else ``no`` (also where ``test`` is NaN)."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(args[0].type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], args[2])

    return yes(test, yes, no), codegen


@intrinsic
def magnitude(typingcontext, value):
    """Lane by lane |value|."""

    def codegen(context, builder, sig, args):
        letter = "f32" if value.dtype == types.float32 else "f64"
        kind = ir.FunctionType(args[0].type, [args[0].type])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{LANES}{letter}")
        return builder.call(function, [args[0]])

    return value(value), codegen


@inner
def half_slope(limiter, below, here, above):
    """Half the limited difference over a cell, from the values of three neighbours."""
    zero, half = spread(0.0), spread(0.5)
    left, right = here - below, above - here
    if limiter == CENTRAL:
        return (left + right) * spread(0.25)
    product = left * right
    if limiter == VAN_LEER:
        return where_positive(product, product / (left + right), zero)
    size = smaller(magnitude(left), magnitude(right))
    size = half * size if limiter == MINMOD else smaller(size, magnitude(left + right) * spread(0.25))
    return where_positive(product, where_positive(left, size, zero - size), zero)
