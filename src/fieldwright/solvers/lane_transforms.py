"""Fourier transforms of eight lines side by side, one per lane, in place: radix 4, without any reordering.

A line of n complex numbers is n pairs of vectors (real, imaginary parts). `to_scattered` takes numbers in order and
leaves their transform in digit-reversed order; `from_scattered` takes digit-reversed numbers and leaves their transform
in order. So what happens between the two (a product, point by point) never sees the order, and nothing is reordered.

    X_k = Σ_j x_j e^(-2πi jk/n)

The sum with the opposite sign is the same transform with real and imaginary parts exchanged: ``real`` says which
vector of a pair holds the real part, 0 or 1.

Source: decimation in frequency and in time; C. Van Loan, "Computational Frameworks for the FFT", 1992, 2.2 and 1.9.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types

from fieldwright.solvers.lanes import LANES, Lanes, inner, intrinsic, load, spread, store


def twiddle_table(n: int, dtype: type[np.floating]) -> np.ndarray:
    """W^k, W^2k, W^3k (real and imaginary parts, W = e^(-2πi/size)) for k < size/4, for sizes n, n/4, ... above 4."""
    parts = [np.zeros(0)]
    size = n
    while size > 4:
        angle = -2 * math.pi / size * np.outer(np.arange(size // 4), [1, 2, 3])
        parts.append(np.stack([np.cos(angle), np.sin(angle)], -1).ravel())
        size //= 4
    return np.concatenate(parts).astype(dtype)


def digit_reversed(n: int) -> np.ndarray:
    """Where each of n numbers stands in the scattered order, and then which number stands at each place: (2 n)."""
    order, size, step = np.zeros(1, dtype=np.int64), n, 1
    while size > 1:
        factor = 4 if size >= 4 else 2
        order = (order[:, None] + step * np.arange(factor)).ravel()
        step *= factor
        size //= factor
    return np.concatenate([np.argsort(order), order])


@inner
def to_scattered(line, first, n, real, table):
    """Transform the n pairs of vectors of ``line`` from pair ``first`` on; the result is in digit-reversed order."""
    imaginary = 1 - real
    size, place = n, 0
    while size > 4:
        quarter = size // 4
        for start in range(first, first + n, size):
            at = place
            for k in range(start, start + quarter):
                i0, i1, i2, i3 = 2 * k, 2 * (k + quarter), 2 * (k + 2 * quarter), 2 * (k + 3 * quarter)
                r0, r1, r2, r3 = (
                    load(line, i0 + real),
                    load(line, i1 + real),
                    load(line, i2 + real),
                    load(line, i3 + real),
                )
                m0, m1 = load(line, i0 + imaginary), load(line, i1 + imaginary)
                m2, m3 = load(line, i2 + imaginary), load(line, i3 + imaginary)
                sum_r, difference_r, cross_r = r0 + r2, r0 - r2, m1 - m3
                sum_m, difference_m, cross_m = m0 + m2, m0 - m2, r1 - r3
                other_r, other_m = r1 + r3, m1 + m3
                store(line, i0 + real, sum_r + other_r)
                store(line, i0 + imaginary, sum_m + other_m)
                wr, wm = spread(table[at]), spread(table[at + 1])
                a, b = difference_r + cross_r, difference_m - cross_m
                store(line, i1 + real, a * wr - b * wm)
                store(line, i1 + imaginary, a * wm + b * wr)
                wr, wm = spread(table[at + 2]), spread(table[at + 3])
                a, b = sum_r - other_r, sum_m - other_m
                store(line, i2 + real, a * wr - b * wm)
                store(line, i2 + imaginary, a * wm + b * wr)
                wr, wm = spread(table[at + 4]), spread(table[at + 5])
                a, b = difference_r - cross_r, difference_m + cross_m
                store(line, i3 + real, a * wr - b * wm)
                store(line, i3 + imaginary, a * wm + b * wr)
                at += 6
        place += 6 * quarter
        size = quarter
    _last(line, first, n, size, real)


@inner
def from_scattered(line, first, n, real, table):
    """Transform n pairs of vectors that are in digit-reversed order; the result is in order."""
    imaginary = 1 - real
    size, place = n, 0
    while size > 4:
        place += 6 * (size // 4)
        size //= 4
    _last(line, first, n, size, real)
    while size < n:
        quarter = size
        size *= 4
        place -= 6 * quarter
        for start in range(first, first + n, size):
            at = place
            for k in range(start, start + quarter):
                i0, i1, i2, i3 = 2 * k, 2 * (k + quarter), 2 * (k + 2 * quarter), 2 * (k + 3 * quarter)
                r0, m0 = load(line, i0 + real), load(line, i0 + imaginary)
                a, b = load(line, i1 + real), load(line, i1 + imaginary)
                wr, wm = spread(table[at]), spread(table[at + 1])
                r1, m1 = a * wr - b * wm, a * wm + b * wr
                a, b = load(line, i2 + real), load(line, i2 + imaginary)
                wr, wm = spread(table[at + 2]), spread(table[at + 3])
                r2, m2 = a * wr - b * wm, a * wm + b * wr
                a, b = load(line, i3 + real), load(line, i3 + imaginary)
                wr, wm = spread(table[at + 4]), spread(table[at + 5])
                r3, m3 = a * wr - b * wm, a * wm + b * wr
                sum_r, difference_r, cross_r = r0 + r2, r0 - r2, m1 - m3
                sum_m, difference_m, cross_m = m0 + m2, m0 - m2, r1 - r3
                other_r, other_m = r1 + r3, m1 + m3
                store(line, i0 + real, sum_r + other_r)
                store(line, i0 + imaginary, sum_m + other_m)
                store(line, i1 + real, difference_r + cross_r)
                store(line, i1 + imaginary, difference_m - cross_m)
                store(line, i2 + real, sum_r - other_r)
                store(line, i2 + imaginary, sum_m - other_m)
                store(line, i3 + real, difference_r - cross_r)
                store(line, i3 + imaginary, difference_m + cross_m)
                at += 6


@inner
def _last(line, first, n, size, real):
    """Transforms of 4 or 2 neighbours, which need no twiddle factors."""
    imaginary = 1 - real
    if size == 4:
        for k in range(2 * first, 2 * (first + n), 8):
            r0, r1, r2, r3 = (
                load(line, k + real),
                load(line, k + 2 + real),
                load(line, k + 4 + real),
                load(line, k + 6 + real),
            )
            m0, m1 = load(line, k + imaginary), load(line, k + 2 + imaginary)
            m2, m3 = load(line, k + 4 + imaginary), load(line, k + 6 + imaginary)
            sum_r, difference_r, cross_r, other_r = r0 + r2, r0 - r2, m1 - m3, r1 + r3
            sum_m, difference_m, cross_m, other_m = m0 + m2, m0 - m2, r1 - r3, m1 + m3
            store(line, k + real, sum_r + other_r)
            store(line, k + imaginary, sum_m + other_m)
            store(line, k + 2 + real, difference_r + cross_r)
            store(line, k + 2 + imaginary, difference_m - cross_m)
            store(line, k + 4 + real, sum_r - other_r)
            store(line, k + 4 + imaginary, sum_m - other_m)
            store(line, k + 6 + real, difference_r - cross_r)
            store(line, k + 6 + imaginary, difference_m + cross_m)
    else:
        for k in range(2 * first, 2 * (first + n), 4):
            r0, r1 = load(line, k + real), load(line, k + 2 + real)
            m0, m1 = load(line, k + imaginary), load(line, k + 2 + imaginary)
            store(line, k + real, r0 + r1)
            store(line, k + imaginary, m0 + m1)
            store(line, k + 2 + real, r0 - r1)
            store(line, k + 2 + imaginary, m0 - m1)


def _vector(dtype) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)


def _mask(places: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


def _pointer(context, builder, array_type, array, position):
    view = context.make_array(array_type)(context, builder, array)
    element = context.get_data_type(array_type.dtype)
    pointer = builder.gep(view.data, [position], inbounds=True, source_etype=element)
    return builder.bitcast(pointer, _vector(array_type.dtype).as_pointer())


def _part(first: int):
    """An intrinsic that takes every second of 2 `LANES` neighbouring numbers, from the first or the second on."""

    @intrinsic
    def part(typingcontext, array, position):
        def codegen(context, builder, sig, args):
            width, vector = array.dtype.bitwidth // 8, _vector(array.dtype)
            halves = [
                builder.load(
                    _pointer(
                        context, builder, sig.args[0], args[0], builder.add(args[1], ir.Constant(args[1].type, k))
                    ),
                    align=width,
                    typ=vector,
                )
                for k in (0, LANES)
            ]
            return builder.shuffle_vector(halves[0], halves[1], _mask([2 * k + first for k in range(LANES)]))

        return Lanes(array.dtype)(array, types.intp), codegen

    return part


load_real = _part(0)
load_imaginary = _part(1)


@intrinsic
def store_complex(typingcontext, array, position, real, imaginary):
    """Write `LANES` complex numbers, real and imaginary parts in turn, from flat position ``position`` on."""

    def codegen(context, builder, sig, args):
        width, half = array.dtype.bitwidth // 8, LANES // 2
        for part in range(2):
            places = [k // 2 + part * half + (LANES if k % 2 else 0) for k in range(LANES)]
            value = builder.shuffle_vector(args[2], args[3], _mask(places))
            place = builder.add(args[1], ir.Constant(args[1].type, part * LANES))
            builder.store(value, _pointer(context, builder, sig.args[0], args[0], place), align=width)
        return context.get_dummy_value()

    return types.void(array, types.intp, real, imaginary), codegen


@intrinsic
def store_row(typingcontext, array, position, value):
    """Write a vector to `LANES` neighbouring numbers, from flat position ``position`` on."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def turn_tile(typingcontext, source, place, stride, target, start, step):
    """Transpose a tile of `LANES` vectors: lane l of ``source[place + k stride]`` becomes lane k of
    ``target[start + l step]``; places and strides are counted in vectors."""

    def codegen(context, builder, sig, args):
        dtype = sig.args[0].dtype
        align, vector = LANES * dtype.bitwidth // 8, _vector(dtype)
        source, place, stride, target, start, step = args
        integer = place.type

        def address(array_type, array, first, apart, k):
            entry = builder.add(first, builder.mul(apart, ir.Constant(integer, k)))
            return _pointer(context, builder, array_type, array, builder.mul(entry, ir.Constant(integer, LANES)))

        rows = [
            builder.load(address(sig.args[0], source, place, stride, k), align=align, typ=vector) for k in range(LANES)
        ]
        # Exchange blocks of 4, 2 and 1 across the diagonal.
        apart = LANES // 2
        while apart:
            turned = list(rows)
            for k in range(LANES):
                if k & apart:
                    continue
                upper, lower = rows[k], rows[k + apart]
                first = [lane if not lane & apart else LANES + lane - apart for lane in range(LANES)]
                second = [lane + apart if not lane & apart else LANES + lane for lane in range(LANES)]
                turned[k] = builder.shuffle_vector(upper, lower, _mask(first))
                turned[k + apart] = builder.shuffle_vector(upper, lower, _mask(second))
            rows = turned
            apart //= 2
        for k in range(LANES):
            builder.store(rows[k], address(sig.args[3], target, start, step, k), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen
