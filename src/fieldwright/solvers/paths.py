"""Short paths through all points of a set, given their distances: compiled searches.

The shortest path is the travelling salesman's problem; these are its classical heuristics. `greedy` goes to the nearest
point not yet visited; `walk_tree` visits a minimum spanning tree depth first (at most twice the shortest path);
`improve` reverses pieces of a path (2-opt) and moves short pieces elsewhere (Or-opt) as long as that shortens it.
"""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import compiled

LONGEST_MOVED = 3


@compiled
def greedy(distance, first):
    """Indices from ``first`` on, each time to the nearest point left (the lowest index among equals)."""
    n = len(distance)
    order = np.empty(n, np.int64)
    left = np.arange(n)
    here = first
    order[0] = here
    left[first] = n - 1
    for step in range(1, n):
        row = distance[here]
        remaining = n - step
        nearest, where = np.inf, 0
        for i in range(remaining):
            candidate = left[i]
            d = row[candidate]
            if d < nearest or (d == nearest and candidate < left[where]):
                nearest, where = d, i
        here = left[where]
        order[step] = here
        left[where] = left[remaining - 1]
    return order


@compiled
def walk_tree(distance, first):
    """A minimum spanning tree (Prim) from ``first``, visited depth first, nearer children first."""
    n = len(distance)
    parent = np.full(n, -1, np.int64)
    gap = np.full(n, np.inf)
    inside = np.zeros(n, np.bool_)
    added = np.empty(n, np.int64)
    gap[first] = 0.0
    for step in range(n):
        here = -1
        for i in range(n):
            if not inside[i] and (here < 0 or gap[i] < gap[here]):
                here = i
        inside[here] = True
        added[step] = here
        for i in range(n):
            if not inside[i] and distance[here, i] < gap[i]:
                gap[i] = distance[here, i]
                parent[i] = here
    # Children as linked lists, built so that the nearest comes first off the stack.
    by_gap = np.argsort(gap)
    child = np.full(n, -1, np.int64)
    sibling = np.full(n, -1, np.int64)
    for i in by_gap:
        if parent[i] >= 0:
            sibling[i] = child[parent[i]]
            child[parent[i]] = i
    order = np.empty(n, np.int64)
    stack = np.empty(n, np.int64)
    stack[0] = first
    height, step = 1, 0
    while height > 0:
        height -= 1
        here = stack[height]
        order[step] = here
        step += 1
        c = child[here]
        while c >= 0:
            stack[height] = c
            height += 1
            c = sibling[c]
    return order


@compiled
def _reverse(order, place, i, j):
    while i < j:
        order[i], order[j] = order[j], order[i]
        place[order[i]] = i
        place[order[j]] = j
        i += 1
        j -= 1


@compiled
def _step(distance, order, i):
    """Length from place i to place i + 1; a path's ends have no step beyond them."""
    if i < 0 or i + 1 >= len(order):
        return 0.0
    return distance[order[i], order[i + 1]]


@compiled
def _gap(distance, order, i, j):
    if i < 0 or j < 0 or i >= len(order) or j >= len(order):
        return 0.0
    return distance[order[i], order[j]]


@compiled
def _two_opt(distance, neighbours, order, place, i, least):
    """Reverse the piece that shortens the path most, of those that bring the point at i beside a near neighbour."""
    here = order[i]
    best, first, last = least, -1, -1
    for near in neighbours[here]:
        d = distance[here, near]
        if d >= max(_step(distance, order, i), _step(distance, order, i - 1)):
            break
        a, b = min(i, place[near]), max(i, place[near])
        # Steps (a, a + 1) and (b, b + 1) become (a, b) and (a + 1, b + 1); then the same with the steps before.
        gain = _step(distance, order, a) + _step(distance, order, b) - d - _gap(distance, order, a + 1, b + 1)
        if gain > best and a + 1 < b:
            best, first, last = gain, a + 1, b
        gain = _step(distance, order, a - 1) + _step(distance, order, b - 1) - d - _gap(distance, order, a - 1, b - 1)
        if gain > best and a < b - 1:
            best, first, last = gain, a, b - 1
    if first < 0:
        return False
    while first < last:
        order[first], order[last] = order[last], order[first]
        place[order[first]] = first
        place[order[last]] = last
        first += 1
        last -= 1
    return True


@compiled
def _move(order, place, s, e, g, turned):
    """Put the points at s .. e between those at g and g + 1, turned round or not."""
    length = e - s + 1
    piece = order[s : e + 1].copy()
    if turned:
        piece = piece[::-1].copy()
    if g > e:
        for i in range(s, g - length + 1):
            order[i] = order[i + length]
        start = g - length + 1
    else:
        for i in range(e, g + length, -1):
            order[i] = order[i - length]
        start = g + 1
    for i in range(length):
        order[start + i] = piece[i]
    for i in range(min(s, start), max(e, start + length - 1) + 1):
        place[order[i]] = i


@compiled
def _or_opt(distance, neighbours, order, place, i, least):
    """Move a piece of up to three points that begins or ends at i beside a near neighbour of that point."""
    n = len(order)
    here = order[i]
    for length in range(1, LONGEST_MOVED + 1):
        for begins in range(2):
            s = i if begins else i - length + 1
            e = s + length - 1
            if s < 0 or e >= n:
                continue
            other = order[e] if begins else order[s]
            freed = _step(distance, order, s - 1) + _step(distance, order, e) - _gap(distance, order, s - 1, e + 1)
            for near in neighbours[here]:
                d = distance[here, near]
                if d >= freed - least:
                    break
                for before in range(2):
                    # The gap after the neighbour, or the one before it; not one that the piece itself leaves.
                    g = place[near] - before
                    beyond = g + 1 - before
                    if s - 1 <= g <= e:
                        continue
                    cost = d - _step(distance, order, g)
                    if 0 <= beyond < n:
                        cost += distance[other, order[beyond]]
                    if freed - cost > least:
                        _move(order, place, s, e, g, bool(begins) == bool(before))
                        return True
    return False


@compiled
def improve(distance, neighbours, order, passes):
    """Shorten a path in place until neither move helps, or for so many passes over all points."""
    n = len(order)
    place = np.empty(n, np.int64)
    for i in range(n):
        place[order[i]] = i
    total = 0.0
    for i in range(n - 1):
        total += distance[order[i], order[i + 1]]
    least = 1e-12 * total
    for _ in range(passes):
        changed = False
        for point in range(n):
            while _two_opt(distance, neighbours, order, place, place[point], least) or _or_opt(
                distance, neighbours, order, place, place[point], least
            ):
                changed = True
        if not changed:
            return
