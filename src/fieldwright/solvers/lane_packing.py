"""Samples into lanes and back: number e of eight samples' arrays side by side, by transposing blocks of 8 x 8."""

from __future__ import annotations

from llvmlite import ir
from numba import types

from fieldwright.solvers.lanes import ALIGNMENT, LANES, inner, intrinsic


def _transposed(builder, rows):
    """Eight vectors of eight numbers as a matrix, transposed by swapping blocks of 1, 2 and 4."""
    rows = list(rows)
    step = 1
    while step < LANES:
        low = [k if not k & step else LANES + k - step for k in range(LANES)]
        high = [k + step if not k & step else LANES + k for k in range(LANES)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask) for mask in (low, high)]
        for i in range(LANES):
            if not i & step:
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step *= 2
    return rows


def _pointers(context, builder, array_type, array, first):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [first], inbounds=True, source_etype=ir.DoubleType())


@intrinsic
def _pack_block(typingctx, source, count, samples, e, target):
    """Entries e .. e + 7 of ``target`` from the same numbers of each lane's sample."""

    def codegen(context, builder, signature, args):
        source, count, samples, e, target = args
        vector = ir.VectorType(ir.DoubleType(), LANES)
        chosen = context.make_array(signature.args[2])(context, builder, samples).data
        rows = []
        for lane in range(LANES):
            at = builder.gep(chosen, [ir.Constant(ir.IntType(64), lane)], source_etype=ir.IntType(64))
            first = builder.add(builder.mul(builder.load(at, typ=ir.IntType(64)), count), e)
            pointer = _pointers(context, builder, signature.args[0], source, first)
            rows.append(builder.load(builder.bitcast(pointer, vector.as_pointer()), align=8, typ=vector))
        place = builder.mul(e, ir.Constant(ir.IntType(64), LANES))
        for n, row in enumerate(_transposed(builder, rows)):
            at = builder.add(place, ir.Constant(ir.IntType(64), n * LANES))
            pointer = _pointers(context, builder, signature.args[4], target, at)
            builder.store(row, builder.bitcast(pointer, vector.as_pointer()), align=ALIGNMENT)
        return context.get_dummy_value()

    return types.void(source, types.intp, samples, types.intp, target), codegen


@intrinsic
def _unpack_block(typingctx, source, e, samples, count, target):
    """`_pack_block` the other way."""

    def codegen(context, builder, signature, args):
        source, e, samples, count, target = args
        vector = ir.VectorType(ir.DoubleType(), LANES)
        place = builder.mul(e, ir.Constant(ir.IntType(64), LANES))
        rows = []
        for n in range(LANES):
            at = builder.add(place, ir.Constant(ir.IntType(64), n * LANES))
            pointer = _pointers(context, builder, signature.args[0], source, at)
            rows.append(builder.load(builder.bitcast(pointer, vector.as_pointer()), align=ALIGNMENT, typ=vector))
        chosen = context.make_array(signature.args[2])(context, builder, samples).data
        for lane, row in enumerate(_transposed(builder, rows)):
            at = builder.gep(chosen, [ir.Constant(ir.IntType(64), lane)], source_etype=ir.IntType(64))
            first = builder.add(builder.mul(builder.load(at, typ=ir.IntType(64)), count), e)
            pointer = _pointers(context, builder, signature.args[4], target, first)
            builder.store(row, builder.bitcast(pointer, vector.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(source, types.intp, samples, types.intp, target), codegen


@inner
def pack(source, count, samples, target):
    """Entry e of ``target`` = number e of each lane's sample; sample s has ``count`` float64 from s count on."""
    whole = count - count % LANES
    for e in range(0, whole, LANES):
        _pack_block(source, count, samples, e, target)
    for e in range(whole, count):
        for lane in range(LANES):
            target[e * LANES + lane] = source[samples[lane] * count + e]


@inner
def unpack(source, count, samples, target):
    """`pack` the other way."""
    whole = count - count % LANES
    for e in range(0, whole, LANES):
        _unpack_block(source, e, samples, count, target)
    for e in range(whole, count):
        for lane in range(LANES):
            target[samples[lane] * count + e] = source[e * LANES + lane]
