"""Refinement of a group of lanes to the true residual, in float64, by factors of either precision.

First plainly, u += (L U)⁻¹ (f - A u), which factors in float32 bring down by 10⁻³ to 10⁻⁵ a step. A lane whose residual
falls by less than `FAST` in a step goes on with generalised conjugate residuals preconditioned by the same factors:
elimination without pivoting then errs in a few directions only, which are found one by one. Each step takes the least
‖f - A u‖ over all directions so far (Eisenstat, Elman, Schultz 1983):

    p = (L U)⁻¹ r,  q = A p,  both made orthogonal to the steps before in q,   u += α p,  r -= α q,  α = rᵀq / qᵀq.

Lanes stop one by one; a stopped lane keeps its bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fieldwright.solvers.fronts import TILE, Fronts
from fieldwright.solvers.lane_packing import pack, unpack
from fieldwright.solvers.lane_tiles import constant, converted, doubled, entry, where_positive
from fieldwright.solvers.lanes import LANES, aligned, compiled, inner, larger, load, spread, store
from fieldwright.solvers.multifrontal import factor, substitute

FAST = 0.1
DIRECTIONS = 8
# The recurrence's residual may lag the true one by rounding, so it aims a little lower than asked.
MARGIN = 0.9
# Numbers of each lane: ‖f‖, ‖r‖, ‖r‖ one step before, the ‖r‖ aimed at, 1 / ‖r‖ where a lane goes on (else 0), the
# power of two by which A was scaled, α, then 1 / qᵀq of each direction and its part in the one that is being made.
NORM, SIZE, BEFORE, GOAL, SHARE, SCALE, STEP, INVERSE = range(8)
PART = INVERSE + DIRECTIONS
NUMBERS = PART + DIRECTIONS
# Unknowns of a piece of two vectors that stays in a core's nearest cache.
PIECE = 64


class System(NamedTuple):
    """A batch: its pattern by rows (start of each row, columns, places in the coefficients) and flat arrays of numbers.

    ``guess`` may be empty; ``entries`` is the number of coefficients of a sample; ``rtol`` and ``limit`` (corrections)
    say when a lane is done or given up; ``pinned`` is the place in the coefficients of the diagonal entry that is
    doubled where constants are in the kernel, else -1.
    """

    rows_at: np.ndarray
    columns: np.ndarray
    places: np.ndarray
    coefficients: np.ndarray
    rhs: np.ndarray
    guess: np.ndarray
    entries: int
    symmetric: bool
    pinned: int
    rtol: float
    limit: int


class Answers(NamedTuple):
    """What is found for each sample."""

    values: np.ndarray
    corrections: np.ndarray
    residuals: np.ndarray


class Vectors(NamedTuple):
    """Memory of one group of lanes beside the factors: matrix entries, vectors of unknowns in C order (f, u, r), the
    right-hand side of a substitution (x) and pieces of it (y), the steps (p, q) of conjugate residuals, and numbers."""

    entries: np.ndarray
    f: np.ndarray
    u: np.ndarray
    r: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    q: np.ndarray
    numbers: np.ndarray


def vectors(fronts: Fronts, entries: int, precision: type[np.floating]) -> Vectors:
    """Memory for systems of one pattern with ``entries`` stored numbers, with factors of some precision."""
    n = len(fronts.place)
    sizes = (entries, n, n, n, n + 1, int(fronts.pivots.max()) + TILE, DIRECTIONS * n, DIRECTIONS * n, NUMBERS)
    types = (np.float64,) * 4 + (precision,) * 2 + (np.float64,) * 3
    return Vectors(*(aligned(size, dtype) for size, dtype in zip(sizes, types, strict=True)))


@inner
def _factor(fronts, system, factors, work):
    """Factors of A times a power of two near 1 / max |A|: float32 then holds A in whatever units it comes."""
    entries, pinned, scale = work.entries, system.pinned, work.numbers[SCALE * LANES : (SCALE + 1) * LANES]
    top = spread(0.0)
    for e in range(system.entries):
        value = load(entries, e)
        top = larger(larger(value, spread(0.0) - value), top)
    store(scale, 0, top)
    for lane in range(LANES):
        scale[lane] = 2.0 ** -np.ceil(np.log2(scale[lane])) if 0.0 < scale[lane] < np.inf else 1.0
    # A + d eᵢeᵢᵀ is regular, and u with A u = f, uᵢ = 0 solves it too: this pins the unknown eliminated last.
    if pinned >= 0:
        store(entries, pinned, load(entries, pinned) * spread(2.0))
    factor(fronts, system.symmetric, factors, entries, scale)
    if pinned >= 0:
        store(entries, pinned, load(entries, pinned) * spread(0.5))


@inner
def _product(system, entries, u, u0, out, out0):
    """out = A u, unknowns in C order, from entries u0 and out0 on."""
    for i in range(len(system.rows_at) - 1):
        total = spread(0.0)
        for e in range(system.rows_at[i], system.rows_at[i + 1]):
            total = total + entry(entries, system.places[e]) * load(u, u0 + system.columns[e])
        store(out, out0 + i, total)


@inner
def _residual(system, work):
    """r = f - A u and its norms."""
    square = spread(0.0)
    for i in range(len(system.rows_at) - 1):
        total = load(work.f, i)
        for e in range(system.rows_at[i], system.rows_at[i + 1]):
            total = total - entry(work.entries, system.places[e]) * load(work.u, system.columns[e])
        store(work.r, i, total)
        square = square + total * total
    store(work.numbers, SIZE, square)
    for lane in range(LANES):
        work.numbers[SIZE * LANES + lane] = np.sqrt(work.numbers[SIZE * LANES + lane])


@inner
def _scatter(work, place, share):
    """x = r / ‖r‖ in the order of the elimination; 0 in lanes whose ``share`` = 1 / ‖r‖ is not positive."""
    for i in range(len(place)):
        scaled = where_positive(share, load(work.r, i) * share, spread(0.0))
        store(work.x, place[i], converted(scaled, work.x))
    store(work.x, len(place), constant(work.x, 0.0))


@inner
def _centre(work, n):
    """Take the mean off u."""
    total = spread(0.0)
    for i in range(n):
        total = total + load(work.u, i)
    total = total * spread(1.0 / n)
    for i in range(n):
        store(work.u, i, load(work.u, i) - total)


@inner
def _dot(a, a0, b, b0, n):
    total = spread(0.0)
    for i in range(n):
        total = total + load(a, a0 + i) * load(b, b0 + i)
    return total


@inner
def _plain_step(work, place):
    """u += (L U)⁻¹ r in the lanes that go on."""
    for lane in range(LANES):
        # r over its norm was solved for, with the factors of A times ``scale``.
        work.numbers[STEP * LANES + lane] = work.numbers[SIZE * LANES + lane] * work.numbers[SCALE * LANES + lane]
    moves, size = load(work.numbers, SHARE), load(work.numbers, STEP)
    for i in range(len(place)):
        u = load(work.u, i)
        moved = u + doubled(load(work.x, place[i])) * size
        store(work.u, i, where_positive(moves, moved, u))


@inner
def _make_orthogonal(p, q, k, n, numbers):
    """Take off direction k its parts along the directions before it, in pieces of vectors that stay in the cache."""
    zero = spread(0.0)
    for j in range(k):
        store(numbers, PART + j, zero)
    for first in range(0, n, PIECE):
        last = min(first + PIECE, n)
        for j in range(k):
            total = load(numbers, PART + j)
            for i in range(first, last):
                total = total + load(q, k * n + i) * load(q, j * n + i)
            store(numbers, PART + j, total)
    for j in range(k):
        store(numbers, PART + j, load(numbers, PART + j) * load(numbers, INVERSE + j))
    for first in range(0, n, PIECE):
        last = min(first + PIECE, n)
        for j in range(k):
            part = load(numbers, PART + j)
            for i in range(first, last):
                store(p, k * n + i, load(p, k * n + i) - part * load(p, j * n + i))
                store(q, k * n + i, load(q, k * n + i) - part * load(q, j * n + i))


@inner
def _conjugate_step(system, work, place, k):
    """Step k of conjugate residuals in the lanes that go on, and the norms of r."""
    n, numbers, p, q = len(place), work.numbers, work.p, work.q
    at = k * n
    for i in range(n):
        store(p, at + i, doubled(load(work.x, place[i])))
    _product(system, work.entries, p, at, q, at)
    _make_orthogonal(p, q, k, n, numbers)
    square, share = spread(0.0), spread(0.0)
    for i in range(n):
        square = square + load(q, at + i) * load(q, at + i)
        share = share + load(q, at + i) * load(work.r, i)
    store(numbers, INVERSE + k, square)
    store(numbers, STEP, share)
    for lane in range(LANES):
        square_ = numbers[(INVERSE + k) * LANES + lane]
        inverse = 1.0 / square_ if 0.0 < square_ < np.inf else 0.0
        numbers[(INVERSE + k) * LANES + lane] = inverse
        numbers[STEP * LANES + lane] *= inverse
        # A direction with NaN, or one without a part of the residual, stops its lane.
        if not abs(numbers[STEP * LANES + lane]) > 0.0:
            numbers[SHARE * LANES + lane] = 0.0
    moves, alpha, total = load(numbers, SHARE), load(numbers, STEP), spread(0.0)
    for i in range(n):
        u, r = load(work.u, i), load(work.r, i)
        left = where_positive(moves, r - alpha * load(q, at + i), r)
        store(work.u, i, where_positive(moves, u + alpha * load(p, at + i), u))
        store(work.r, i, left)
        total = total + left * left
    store(numbers, SIZE, total)
    for lane in range(LANES):
        goes = numbers[SHARE * LANES + lane] > 0.0
        numbers[SIZE * LANES + lane] = np.sqrt(numbers[SIZE * LANES + lane]) if goes else 0.0


@inner
def _who_goes_on(work, counts, limit, conjugate):
    """Set ``SHARE`` of each lane; returns whether some lane goes on, and whether some lane is above its goal."""
    numbers, some, left = work.numbers, False, False
    for lane in range(LANES):
        size, goal = numbers[SIZE * LANES + lane], numbers[GOAL * LANES + lane]
        above = not size <= (MARGIN * goal if conjugate else goal)
        goes = above and size < np.inf and counts[lane] < limit
        if not conjugate:
            goes = goes and size < FAST * numbers[BEFORE * LANES + lane]
            numbers[BEFORE * LANES + lane] = size if goes else 0.0
        numbers[SHARE * LANES + lane] = 1.0 / size if goes else 0.0
        some, left = some or goes, left or above
    return some, left


@inner
def _solve_group(fronts, system, samples, factors, work, answers):
    """Solve the systems ``samples``, one per lane."""
    n, numbers, place = len(fronts.place), work.numbers, fronts.place
    if work.entries.ndim == 1:
        pack(system.coefficients, system.entries, samples, work.entries)
    pack(system.rhs, n, samples, work.f)
    store(numbers, NORM, _dot(work.f, 0, work.f, 0, n))
    for lane in range(LANES):
        norm = np.sqrt(numbers[NORM * LANES + lane])
        numbers[NORM * LANES + lane], numbers[GOAL * LANES + lane] = norm, system.rtol * norm
        numbers[BEFORE * LANES + lane] = np.inf
    if len(system.guess) > 0:
        pack(system.guess, n, samples, work.u)
        _residual(system, work)
    else:
        for i in range(n):
            store(work.u, i, spread(0.0))
            store(work.r, i, load(work.f, i))
        store(numbers, SIZE, load(numbers, NORM))
    counts = np.zeros(LANES, np.int64)
    factored, direction = False, -1
    while True:
        some, left = _who_goes_on(work, counts, system.limit, direction >= 0)
        if not some and left and direction < 0:
            direction = 0
            some, left = _who_goes_on(work, counts, system.limit, True)
        if not some or direction == DIRECTIONS:
            break
        # Two conditions, because the compiler drops a branch by the dimension alone.
        if work.entries.ndim == 1:  # noqa: SIM102
            if not factored:
                _factor(fronts, system, factors, work)
                factored = True
        _scatter(work, place, load(numbers, SHARE))
        substitute(fronts, system.symmetric, factors, work.x, work.y)
        for lane in range(LANES):
            counts[lane] += numbers[SHARE * LANES + lane] > 0.0
        if direction < 0:
            _plain_step(work, place)
        else:
            _conjugate_step(system, work, place, direction)
            direction += 1
        if system.pinned >= 0:
            _centre(work, n)
        if direction < 0:
            _residual(system, work)
    if direction >= 0:
        _residual(system, work)
    unpack(work.u, n, samples, answers.values)
    for lane in range(LANES):
        sample, size = samples[lane], numbers[SIZE * LANES + lane]
        answers.corrections[sample] = counts[lane]
        answers.residuals[sample] = size / numbers[NORM * LANES + lane] if size != 0.0 else 0.0


@compiled
def solve_groups(fronts, system, groups, factors, work, answers):
    """Solve the systems of ``groups`` (group, lane) and write their places in ``answers``.

    Where matrix entries and factors are arrays of single numbers (entries, 1), all lanes share them: the factors must
    be those of the matrix, scaled as ``work.numbers`` says.
    """
    for group in range(len(groups)):
        _solve_group(fronts, system, groups[group], factors, work, answers)
