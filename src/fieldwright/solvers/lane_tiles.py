"""Small dense products on arrays of `lanes`: C[r, s] -= Σ_k A[r, k] B[k, s] on tiles of up to 4 x 4 entries.

`subtract_products` keeps its tile in vector registers while it runs over the products, sixteen multiply-subtracts for
eight loads, which the compiler does not find by itself from loops over entries.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fieldwright.solvers.lanes import ALIGNMENT, CONTRACT, LANES, compiled, intrinsic


def _tile(rows: int, columns: int):
    """An intrinsic for C[r, s] -= Σ_{k < count} A[r, k] B[k, s] on a tile of ``rows`` x ``columns`` entries.

    C, A, B are float64 arrays of lanes with the tile's first entry and strides, all in entries: C[r, s] is entry
    c + r cr + s, A[r, k] is a + r ar + k ak, B[k, s] is b + k bk + s bs.
    """

    @intrinsic
    def tile(typingctx, C, c, cr, A, a, ar, ak, B, b, bk, bs, count):
        signature = types.void(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)

        def codegen(context, builder, signature, values):
            C, c, cr, A, a, ar, ak, B, b, bk, bs, count = values
            integer = ir.IntType(64)
            vector = ir.VectorType(ir.DoubleType(), LANES)
            bases = [
                builder.ptrtoint(context.make_array(signature.args[i])(context, builder, array).data, integer)
                for i, array in ((0, C), (3, A), (7, B))
            ]

            def at(base, entry):
                place = builder.add(base, builder.mul(entry, ir.Constant(integer, 8 * LANES)))
                return builder.inttoptr(place, vector.as_pointer())

            def along(first, stride, times):
                return builder.add(first, builder.mul(stride, ir.Constant(integer, times)))

            def load(base, entry):
                return builder.load(at(base, entry), align=ALIGNMENT, typ=vector)

            cells = [(r, s) for r in range(rows) for s in range(columns)]
            one = ir.Constant(integer, 1)
            places = [along(along(c, cr, r), one, s) for r, s in cells]
            totals = [cgutils.alloca_once(builder, vector) for _ in cells]
            for place, total in zip(places, totals, strict=True):
                builder.store(load(bases[0], place), total)
            with cgutils.for_range(builder, count, intp=integer) as loop:
                ka, kb = builder.add(a, builder.mul(loop.index, ak)), builder.add(b, builder.mul(loop.index, bk))
                left = [load(bases[1], along(ka, ar, r)) for r in range(rows)]
                right = [load(bases[2], along(kb, bs, s)) for s in range(columns)]
                for (r, s), total in zip(cells, totals, strict=True):
                    product = builder.fmul(left[r], right[s], flags=CONTRACT)
                    builder.store(builder.fsub(builder.load(total, typ=vector), product, flags=CONTRACT), total)
            for place, total in zip(places, totals, strict=True):
                builder.store(builder.load(total, typ=vector), at(bases[0], place), align=ALIGNMENT)
            return context.get_dummy_value()

        return signature, codegen

    return tile


(_tile_11, _tile_12, _tile_13, _tile_14) = (_tile(1, columns) for columns in (1, 2, 3, 4))
(_tile_21, _tile_22, _tile_23, _tile_24) = (_tile(2, columns) for columns in (1, 2, 3, 4))
(_tile_31, _tile_32, _tile_33, _tile_34) = (_tile(3, columns) for columns in (1, 2, 3, 4))
(_tile_41, _tile_42, _tile_43, _tile_44) = (_tile(4, columns) for columns in (1, 2, 3, 4))


@compiled
def subtract_products(C, c, cr, A, a, ar, ak, B, b, bk, bs, count, rows, columns):
    """C[r, s] -= Σ_{k < count} A[r, k] B[k, s] for up to 4 x 4 entries, strides as in `_tile`.

    Sizes that are not multiples of 4 are the rule (separators have 2^k - 1 points), so each size has its own tile.
    """
    if rows == 4:
        if columns == 4:
            _tile_44(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 3:
            _tile_43(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 2:
            _tile_42(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        else:
            _tile_41(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    elif rows == 3:
        if columns == 4:
            _tile_34(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 3:
            _tile_33(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 2:
            _tile_32(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        else:
            _tile_31(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    elif rows == 2:
        if columns == 4:
            _tile_24(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 3:
            _tile_23(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        elif columns == 2:
            _tile_22(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
        else:
            _tile_21(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    elif columns == 4:
        _tile_14(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    elif columns == 3:
        _tile_13(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    elif columns == 2:
        _tile_12(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
    else:
        _tile_11(C, c, cr, A, a, ar, ak, B, b, bk, bs, count)
