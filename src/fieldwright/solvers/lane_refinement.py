"""Refinement of a group of lanes to the true residual, in float64, by factors of either precision.

Plainly, u += (L U)⁻¹ (f - A u): factors in float32 bring the residual down by 10⁻³ to 10⁻⁵ a step. Elimination without
exchange of rows may err more, but then in a few directions only. A lane whose residual falls by less than `SLOW` in a
step therefore goes on with generalised conjugate residuals, which take the least ‖f - A u‖ over all directions so far
(Eisenstat, Elman, Schultz 1983) and so find those directions one by one:

    p_k = (L U)⁻¹ r,   q_k = A p_k made orthogonal to all earlier q,   r -= α_k q_k,   α_k = rᵀq_k / q_kᵀq_k,

where u += Σ y_k p_k is left to the end: with q_k = A p_k - Σ_j β_kj q_j the y solve y_k = α_k - Σ_{m>k} β_mk y_m.

Plain and conjugate lanes share every substitution. Lanes stop one by one and never see each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fieldwright.solvers.fronts import TILE, Fronts
from fieldwright.solvers.lane_packing import pack, unpack
from fieldwright.solvers.lane_tiles import constant, converted, doubled, entry, where_positive
from fieldwright.solvers.lanes import LANES, aligned, compiled, inner, larger, load, spread, store
from fieldwright.solvers.multifrontal import factor, substitute

SLOW = 1e-3
# Steps between two looks at the true residual, and how often that is looked at.
STEPS, CYCLES = 10, 3
# The residual of the recurrence may lag the true one by rounding, so it aims a little lower than asked.
MARGIN = 0.9
# Numbers of each lane: ‖f‖, ‖r‖, ‖r‖ one step before, the ‖r‖ aimed at, 1 / ‖r‖ where a lane goes on (else 0), the
# power of two by which A was scaled, the step's length, whether a lane is conjugate, then α, y, 1 / qᵀq of each step
# and its β with each step before.
NORM, SIZE, BEFORE, GOAL, SHARE, SCALE, LENGTH, CONJUGATE, ALPHA = range(9)
SUM = ALPHA + STEPS
INVERSE = SUM + STEPS
BETA = INVERSE + STEPS
NUMBERS = BETA + STEPS * STEPS
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
    """Memory of one group of lanes beside the factors: matrix entries, vectors of unknowns in C order (f, u, r, v), the
    right-hand side of a substitution (x) and pieces of it (y), the steps p (in the order of the elimination) and q, and
    numbers."""

    entries: np.ndarray
    f: np.ndarray
    u: np.ndarray
    r: np.ndarray
    v: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    q: np.ndarray
    numbers: np.ndarray


def vectors(fronts: Fronts, entries: int, precision: type[np.floating]) -> Vectors:
    """Memory for systems of one pattern with ``entries`` stored numbers, with factors of some precision."""
    n = len(fronts.place)
    sizes = (entries, n, n, n, n, n + 1, int(fronts.pivots.max()) + TILE, STEPS * n, STEPS * n, NUMBERS)
    types = (np.float64,) * 5 + (precision,) * 3 + (np.float64,) * 2
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
def _product(system, work, q0):
    """q = A v from entry q0 of ``work.q`` on, unknowns in C order."""
    for i in range(len(system.rows_at) - 1):
        total = spread(0.0)
        for e in range(system.rows_at[i], system.rows_at[i + 1]):
            total = total + entry(work.entries, system.places[e]) * load(work.v, system.columns[e])
        store(work.q, q0 + i, total)


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
    _roots(work.numbers, SIZE)


@inner
def _roots(numbers, which):
    for lane in range(which * LANES, (which + 1) * LANES):
        numbers[lane] = np.sqrt(numbers[lane])


@inner
def _who_goes_on(numbers, counts, limit, k):
    """Set ``SHARE`` and ``CONJUGATE`` before step k; (whether a lane goes on, is conjugate, has become so)."""
    some = conjugate = turned = False
    for lane in range(LANES):
        size, before = numbers[SIZE * LANES + lane], numbers[BEFORE * LANES + lane]
        # The first residual of a cycle is the true one.
        goal = numbers[GOAL * LANES + lane] * (1.0 if k == 0 else MARGIN)
        goes = not size <= goal and size < np.inf and counts[lane] < limit
        slow = k > 0 and size > SLOW * before
        if goes and slow and numbers[CONJUGATE * LANES + lane] == 0.0:
            numbers[CONJUGATE * LANES + lane] = 1.0
            turned = turned or k == 1
            # Later steps than the first are not kept for lanes that did not seem to need them.
            for j in range(0 if k > 1 else 1, STEPS):
                numbers[(INVERSE + j) * LANES + lane] = 0.0
        numbers[SHARE * LANES + lane] = 1.0 / size if goes else 0.0
        numbers[BEFORE * LANES + lane] = size
        some, conjugate = some or goes, conjugate or (goes and numbers[CONJUGATE * LANES + lane] > 0.0)
    return some, conjugate, turned


@inner
def _scatter(work, place):
    """x = r / ‖r‖ in the order of the elimination, in the lanes that go on; 0 in the others."""
    share = load(work.numbers, SHARE)
    for i in range(len(place)):
        scaled = where_positive(share, load(work.r, i) * share, spread(0.0))
        store(work.x, place[i], converted(scaled, work.x))
    store(work.x, len(place), constant(work.x, 0.0))


@inner
def _make_orthogonal(q, k, n, numbers):
    """Take off q_k its parts along the q before it in conjugate lanes, in pieces of vectors that stay in the cache."""
    for j in range(k):
        store(numbers, BETA + k * STEPS + j, spread(0.0))
    for first in range(0, n, PIECE):
        last = min(first + PIECE, n)
        for j in range(k):
            total = load(numbers, BETA + k * STEPS + j)
            for i in range(first, last):
                total = total + load(q, k * n + i) * load(q, j * n + i)
            store(numbers, BETA + k * STEPS + j, total)
    for j in range(k):
        part = load(numbers, BETA + k * STEPS + j) * load(numbers, INVERSE + j)
        store(numbers, BETA + k * STEPS + j, where_positive(load(numbers, CONJUGATE), part, spread(0.0)))
    for first in range(0, n, PIECE):
        last = min(first + PIECE, n)
        for j in range(k):
            part = load(numbers, BETA + k * STEPS + j)
            for i in range(first, last):
                store(q, k * n + i, load(q, k * n + i) - part * load(q, j * n + i))


@inner
def _set_length(work, k, at, n):
    """α of step k in conjugate lanes, 1 (in units of x) in plain ones; it is added to ``ALPHA`` in the former."""
    numbers, square, part = work.numbers, spread(0.0), spread(0.0)
    for i in range(n):
        square = square + load(work.q, at + i) * load(work.q, at + i)
        part = part + load(work.q, at + i) * load(work.r, i)
    store(numbers, INVERSE + k, square)
    store(numbers, LENGTH, part)
    for lane in range(LANES):
        square_ = numbers[(INVERSE + k) * LANES + lane]
        inverse = 1.0 / square_ if 0.0 < square_ < np.inf else 0.0
        numbers[(INVERSE + k) * LANES + lane] = inverse
        if numbers[CONJUGATE * LANES + lane] > 0.0:
            length = numbers[LENGTH * LANES + lane] * inverse
            numbers[(ALPHA + k) * LANES + lane] += length if numbers[SHARE * LANES + lane] > 0.0 else 0.0
        else:
            # r over its norm was solved for, with the factors of A times ``SCALE``.
            length = numbers[SIZE * LANES + lane] * numbers[SCALE * LANES + lane]
        numbers[LENGTH * LANES + lane] = length


@inner
def _move(work, at, n):
    """r -= length q and, in plain lanes, u += length v; the norms of r."""
    numbers, total = work.numbers, spread(0.0)
    goes, length, conjugate = load(numbers, SHARE), load(numbers, LENGTH), load(numbers, CONJUGATE)
    for i in range(n):
        r, u = load(work.r, i), load(work.u, i)
        left = where_positive(goes, r - length * load(work.q, at + i), r)
        moved = where_positive(conjugate, u, u + length * load(work.v, i))
        store(work.r, i, left)
        store(work.u, i, where_positive(goes, moved, u))
        total = total + left * left
    store(numbers, SIZE, total)
    _roots(numbers, SIZE)


@inner
def _move_again(work, n):
    """In lanes that become conjugate after a plain first step, the rest of what its direction is good for."""
    numbers, part, total = work.numbers, spread(0.0), spread(0.0)
    for i in range(n):
        part = part + load(work.q, i) * load(work.r, i)
    part = part * load(numbers, INVERSE)
    part = where_positive(
        load(numbers, CONJUGATE), where_positive(load(numbers, SHARE), part, spread(0.0)), spread(0.0)
    )
    store(numbers, ALPHA, part)
    for i in range(n):
        left = load(work.r, i) - part * load(work.q, i)
        store(work.r, i, left)
        total = total + left * left
    store(numbers, SIZE, total)
    _roots(numbers, SIZE)
    for lane in range(LANES):
        size = numbers[SIZE * LANES + lane]
        if numbers[SHARE * LANES + lane] > 0.0:
            numbers[SHARE * LANES + lane] = 1.0 / size if size > 0.0 else 0.0


@inner
def _add_steps(work, place, steps, kept):
    """u += Σ y_k p_k in conjugate lanes."""
    n, numbers = len(place), work.numbers
    for k in range(steps - 1, -1, -1):
        total = load(numbers, ALPHA + k)
        for m in range(k + 1, steps):
            total = total - load(numbers, BETA + m * STEPS + k) * load(numbers, SUM + m)
        store(numbers, SUM + k, total)
    conjugate = load(numbers, CONJUGATE)
    for k in range(steps):
        y = load(numbers, SUM + k)
        if kept[k]:
            for i in range(n):
                u = load(work.u, i)
                store(work.u, i, where_positive(conjugate, u + y * doubled(load(work.p, k * n + place[i])), u))


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
def _begin(system, samples, work, n):
    """The group's numbers side by side, the guess, its residual, and the goal."""
    numbers = work.numbers
    if work.entries.ndim == 1:
        pack(system.coefficients, system.entries, samples, work.entries)
    pack(system.rhs, n, samples, work.f)
    square = spread(0.0)
    for i in range(n):
        square = square + load(work.f, i) * load(work.f, i)
    store(numbers, NORM, square)
    _roots(numbers, NORM)
    for lane in range(LANES):
        numbers[GOAL * LANES + lane] = system.rtol * numbers[NORM * LANES + lane]
    if len(system.guess) > 0:
        pack(system.guess, n, samples, work.u)
        _residual(system, work)
    else:
        for i in range(n):
            store(work.u, i, spread(0.0))
            store(work.r, i, load(work.f, i))
        store(numbers, SIZE, load(numbers, NORM))


@inner
def _solve_group(fronts, system, samples, factors, work, answers):
    """Solve the systems ``samples``, one per lane."""
    n, numbers, place = len(fronts.place), work.numbers, fronts.place
    _begin(system, samples, work, n)
    counts = np.zeros(LANES, np.int64)
    factored = False
    for _ in range(CYCLES):
        numbers[CONJUGATE * LANES : (CONJUGATE + 1) * LANES] = 0.0
        numbers[ALPHA * LANES : SUM * LANES] = 0.0
        steps, kept, any_conjugate = 0, np.zeros(STEPS, np.bool_), False
        while steps < STEPS:
            some, conjugate, turned = _who_goes_on(numbers, counts, system.limit, steps)
            if not some:
                break
            # Two conditions, because the compiler drops a branch by the dimension alone.
            if work.entries.ndim == 1:  # noqa: SIM102
                if not factored:
                    _factor(fronts, system, factors, work)
                    factored = True
            if turned:
                _move_again(work, n)
            _scatter(work, place)
            substitute(fronts, system.symmetric, factors, work.x, work.y)
            for i in range(n):
                store(work.v, i, doubled(load(work.x, place[i])))
            if steps == 0 or conjugate:
                for i in range(n):
                    store(work.p, steps * n + i, load(work.x, i))
                kept[steps] = True
                any_conjugate = any_conjugate or conjugate
            _product(system, work, steps * n)
            if conjugate:
                _make_orthogonal(work.q, steps, n, numbers)
            _set_length(work, steps, steps * n, n)
            _move(work, steps * n, n)
            for lane in range(LANES):
                counts[lane] += numbers[SHARE * LANES + lane] > 0.0
            steps += 1
        if steps == 0:
            break
        if any_conjugate:
            _add_steps(work, place, steps, kept)
        if system.pinned >= 0:
            _centre(work, n)
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
