"""Small dense products on arrays of `lanes`: tiles of 4 x 4 entries, kept in vector registers while a sum runs.

Sixteen multiply-subtracts for eight loads, which the compiler does not find by itself from loops over entries. Arrays
are float64 or float32; places and strides count entries (vectors), not numbers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fieldwright.solvers.fronts import TILE
from fieldwright.solvers.lanes import CONTRACT, LANES, Lanes, intrinsic

_CELLS = [(r, s) for r in range(TILE) for s in range(TILE)]
_INTEGER = ir.IntType(64)


class _Vectors:
    """Loads and stores of an array of lanes in LLVM's terms."""

    def __init__(self, context, builder, array_type, array) -> None:
        single = array_type.dtype == types.float32
        self.vector = ir.VectorType(ir.FloatType() if single else ir.DoubleType(), LANES)
        self._builder, self._align = builder, LANES * (4 if single else 8)
        data = context.make_array(array_type)(context, builder, array).data
        self._data = builder.bitcast(data, self.vector.as_pointer())

    def _at(self, entry):
        return self._builder.gep(self._data, [entry], inbounds=True, source_etype=self.vector)

    def load(self, entry):
        return self._builder.load(self._at(entry), align=self._align, typ=self.vector)

    def store(self, entry, value) -> None:
        self._builder.store(value, self._at(entry), align=self._align)


def _steps(builder, first, stride):
    """first, first + stride, ... for the entries of a tile's side."""
    places = [first]
    for _ in range(TILE - 1):
        places.append(builder.add(places[-1], stride))
    return places


def _subtract(builder, totals, vector, count, left, right) -> None:
    """totals[r, s] -= Σ_{k < count} left(k)[r] right(k)[s], the totals being local variables."""
    with cgutils.for_range(builder, count, intp=_INTEGER) as loop:
        rows, columns = left(loop.index), right(loop.index)
        for (r, s), total in zip(_CELLS, totals, strict=True):
            product = builder.fmul(rows[r], columns[s], flags=CONTRACT)
            builder.store(builder.fsub(builder.load(total, typ=vector), product, flags=CONTRACT), total)


@intrinsic
def subtract_product(typingctx, C, c, cr, cs, A, a, ar, ak, B, b, bk, bs, count):
    """C[r, s] -= Σ_{k < count} A[r, k] B[k, s] on one tile.

    C[r, s] is entry c + r cr + s cs of its array, A[r, k] is a + r ar + k ak, B[k, s] is b + k bk + s bs.
    """
    signature = types.void(C, c, cr, cs, A, a, ar, ak, B, b, bk, bs, count)

    def codegen(context, builder, signature, values):
        C, c, cr, cs, A, a, ar, ak, B, b, bk, bs, count = values
        result, first, second = (
            _Vectors(context, builder, signature.args[i], array) for i, array in ((0, C), (4, A), (8, B))
        )
        rows = _steps(builder, c, cr)
        places = [_steps(builder, row, cs) for row in rows]
        totals = [cgutils.alloca_once(builder, result.vector) for _ in _CELLS]
        for (r, s), total in zip(_CELLS, totals, strict=True):
            builder.store(result.load(places[r][s]), total)

        def left(k):
            return [first.load(place) for place in _steps(builder, builder.add(a, builder.mul(k, ak)), ar)]

        def right(k):
            return [second.load(place) for place in _steps(builder, builder.add(b, builder.mul(k, bk)), bs)]

        _subtract(builder, totals, result.vector, count, left, right)
        for (r, s), total in zip(_CELLS, totals, strict=True):
            result.store(places[r][s], builder.load(total, typ=result.vector))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def update_of_leaf(typingctx, S, s0, width, A, a, B, b, count):
    """S[r, s] = -Σ_{k < count} A[r, k] B[k, s] on one tile; S[r, s] is entry s0 + r width + s, A and B as packed tiles
    (entry a + 4 k + r, b + 4 k + s)."""
    signature = types.void(S, s0, width, A, a, B, b, count)

    def codegen(context, builder, signature, values):
        S, s0, width, A, a, B, b, count = values
        result, first, second = (
            _Vectors(context, builder, signature.args[n], array) for n, array in ((0, S), (3, A), (5, B))
        )
        zero = ir.Constant(result.vector, [0.0] * LANES)
        _update(builder, result, s0, width, [zero] * len(_CELLS), first, a, second, b, count)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def update_of_parent(typingctx, S, s0, width, A, a, B, b, count, below, top1, width1, top2, width2, take1, take2, i, j):
    """`update_of_leaf` plus what two children's updates hold for the tile.

    Child 1 adds its entry top1 + take1[i + r] width1 + take1[j + s] of ``below``, and child 2 likewise.
    """
    signature = types.void(S, s0, width, A, a, B, b, count, below, top1, width1, top2, width2, take1, take2, i, j)

    def codegen(context, builder, signature, values):
        S, s0, width, A, a, B, b, count, below, top1, width1, top2, width2, take1, take2, i, j = values
        result, first, second, lower = (
            _Vectors(context, builder, signature.args[n], array) for n, array in ((0, S), (3, A), (5, B), (8, below))
        )
        one = ir.Constant(_INTEGER, 1)
        parts = []
        for n, top, step, take in ((13, top1, width1, take1), (14, top2, width2, take2)):
            index = context.make_array(signature.args[n])(context, builder, take).data

            def taken(first, index=index):
                return [
                    builder.load(builder.gep(index, [at], inbounds=True, source_etype=_INTEGER), typ=_INTEGER)
                    for at in _steps(builder, first, one)
                ]

            rows = [builder.add(top, builder.mul(row, step)) for row in taken(i)]
            columns = taken(j)
            parts.append([lower.load(builder.add(rows[r], columns[s])) for r, s in _CELLS])
        start = [builder.fadd(one, other, flags=CONTRACT) for one, other in zip(*parts, strict=True)]
        _update(builder, result, s0, width, start, first, a, second, b, count)
        return context.get_dummy_value()

    return signature, codegen


def _update(builder, result, s0, width, start, first, a, second, b, count) -> None:
    """Store start - A B, with A and B packed tiles."""
    one, four = ir.Constant(_INTEGER, 1), ir.Constant(_INTEGER, TILE)
    totals = [cgutils.alloca_once(builder, result.vector) for _ in _CELLS]
    for value, total in zip(start, totals, strict=True):
        builder.store(value, total)

    def entries(array, place):
        return lambda k: [array.load(x) for x in _steps(builder, builder.add(place, builder.mul(k, four)), one)]

    _subtract(builder, totals, result.vector, count, entries(first, a), entries(second, b))
    rows = _steps(builder, s0, width)
    for (r, s), total in zip(_CELLS, totals, strict=True):
        at = builder.add(rows[r], ir.Constant(_INTEGER, s))
        result.store(at, builder.load(total, typ=result.vector))


@intrinsic
def entry(typingctx, array, place):
    """An entry of an array of lanes; of an array (entries, 1) of single numbers the number in every lane."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        if kind.ndim == 1:
            return _Vectors(context, builder, kind, args[0]).load(args[1])
        element = ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()
        data = context.make_array(kind)(context, builder, args[0]).data
        number = builder.load(builder.gep(data, [args[1]], inbounds=True, source_etype=element), typ=element)
        return _everywhere(builder, number)

    return Lanes(array.dtype)(array, types.intp), codegen


def _everywhere(builder, number):
    """A number in every lane."""
    vector = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


@intrinsic
def converted(typingctx, value, like):
    """float64 lanes in the float type of the array ``like``."""

    def codegen(context, builder, signature, args):
        if like.dtype == types.float64:
            return args[0]
        return builder.fptrunc(args[0], ir.VectorType(ir.FloatType(), LANES))

    return Lanes(like.dtype)(value, like), codegen


@intrinsic
def doubled(typingctx, value):
    """Lanes of either float type as float64."""

    def codegen(context, builder, signature, args):
        if value.dtype == types.float64:
            return args[0]
        return builder.fpext(args[0], ir.VectorType(ir.DoubleType(), LANES))

    return Lanes(types.float64)(value), codegen


@intrinsic
def where_positive(typingctx, mask, value, other):
    """Lane by lane ``value`` where mask > 0, else ``other``."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], args[2])

    return value(mask, value, other), codegen


@intrinsic
def constant(typingctx, like, number):
    """The same float64 number in every lane, in the float type of the array ``like``."""

    def codegen(context, builder, signature, args):
        single = like.dtype == types.float32
        return _everywhere(builder, builder.fptrunc(args[1], ir.FloatType()) if single else args[1])

    return Lanes(like.dtype)(like, types.float64), codegen
