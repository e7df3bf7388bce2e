"""Newton's method of `newton` on a line of cells, compiled: one sample after the other, each as long as it needs."""

from __future__ import annotations

import numpy as np

from fieldwright.solvers.lanes import compiled, inner

LINEAR, POWER, THRESHOLD = range(3)


@compiled
def solve_lines(b, guess, tau, face, wall, family, number, positive, damped, limits, states, potentials, converged):
    """Solve u + τ A w(u) = b for every row of ``b`` with one A for all; what fails is left as it is.

    ``face`` (cell) conductances to the upper neighbour, the last one zero; ``wall`` (cell); ``limits`` holds the
    largest numbers of iterations and halvings, the tolerance, the rounding and the least share of `newton`. Returns the
    largest number of iterations made.
    """
    batch, n = b.shape
    iterations, halvings, tolerance, rounding, least = int(limits[0]), int(limits[1]), limits[2], limits[3], limits[4]
    fields = np.empty((8, n))
    u, trial, step, w, k, r, ratio, diagonal = (
        fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7]
    )  # fmt: skip
    for i in range(n):
        diagonal[i] = wall[i] + face[i] + (face[i - 1] if i > 0 else 0.0)
    most = 0
    for sample in range(batch):
        t, p = tau[sample], number[sample]
        size = 0.0
        for i in range(n):
            u[i] = guess[sample, i]
            size += abs(b[sample, i])
        norm = _defect(u, b[sample], t, face, wall, family, p, w, k, r)
        count = 0
        while True:
            largest = 0.0
            for i in range(n):
                largest += abs(t * diagonal[i] * w[i])
            if norm <= tolerance * size + rounding * largest:
                converged[sample] = True
                for i in range(n):
                    later = b[sample, i] - t * _flux(w, face, wall, i)
                    states[sample, i] = max(later, 0.0) if positive else later
                    potentials[sample, i] = w[i]
                break
            if count == iterations or not np.isfinite(norm):
                break
            count += 1
            _direction(k, r, t, face, diagonal, least, ratio, step)
            for i in range(n):
                trial[i] = r[i] - t * _flux(step, face, wall, i)
            step, trial = trial, step
            share, before = 1.0, norm
            for halving in range(halvings + 1):
                for i in range(n):
                    trial[i] = u[i] + share * step[i]
                    if positive and trial[i] < 0.0:
                        trial[i] = 0.0
                norm = _defect(trial, b[sample], t, face, wall, family, p, w, k, r)
                if not damped or norm < before or halving == halvings:
                    break
                share /= 2
            u, trial = trial, u
        most = max(most, count)
    return most


@inner
def _flux(w, face, wall, i):
    """(A w)_i."""
    total = wall[i] * w[i]
    if i < len(w) - 1:
        total += face[i] * (w[i] - w[i + 1])
    if i > 0:
        total -= face[i - 1] * (w[i - 1] - w[i])
    return total


@inner
def _defect(u, b, tau, face, wall, family, number, w, k, r):
    """Write w(u), k(u) and b - u - τ A w, and return Σ |b - u - τ A w|."""
    n = len(u)
    if family == POWER:
        for i in range(n):
            k[i] = u[i] ** number if u[i] > 0.0 else 0.0
            w[i] = u[i] * k[i] / (number + 1.0)
    elif family == THRESHOLD:
        for i in range(n):
            k[i] = 1.0 if u[i] >= number else 0.0
            w[i] = max(u[i] - number, 0.0)
    else:
        for i in range(n):
            k[i] = number
            w[i] = number * u[i]
    norm = 0.0
    for i in range(n):
        r[i] = b[i] - u[i] - tau * _flux(w, face, wall, i)
        norm += abs(r[i])
    return norm


@inner
def _direction(k, r, tau, face, diagonal, least, ratio, x):
    """Solve (diag(1 / k) + τ A) x = r by elimination, with 1 / k = τ A_ii / max(τ A_ii k, least)."""
    n = len(r)
    for i in range(n):
        weight = tau * diagonal[i]
        pivot = weight / max(weight * k[i], least) + weight
        source = r[i]
        if i > 0:
            below = -tau * face[i - 1]
            pivot -= below * ratio[i - 1]
            source -= below * x[i - 1]
        ratio[i] = -tau * face[i] / pivot
        x[i] = source / pivot
    for i in range(n - 2, -1, -1):
        x[i] -= ratio[i] * x[i + 1]
