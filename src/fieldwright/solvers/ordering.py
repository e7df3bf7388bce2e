"""The similarity sort of systems: an order in which neighbours have near parameters, so that recycling pays.

The order is a short path through the samples' parameters (coefficient fields, vectors, scalars, or several of them).
Distances are Euclidean between fields; for positive parameters, between their logarithms, because a matrix changes by
ratios of its coefficients.

| method            | path                                                                                           |
| ----------------- | ---------------------------------------------------------------------------------------------- |
| "auto"            | "improved" up to `BLOCK` samples, "grouped" beyond                                             |
| "greedy"          | to the nearest sample left, on the whole fields (Gram matrix by one product)                   |
| "improved"        | greedy, then shortened by reversing and moving pieces (2-opt and Or-opt)                       |
| "spanning-tree"   | the minimum spanning tree, depth first                                                         |
| "truncated"       | greedy on the 12 x 12 lowest cosine modes, reduced to 7 principal components                   |
| "grouped"         | blocks of `BLOCK` along a Hilbert curve through these components, each "improved" on the modes |
| "published"       | greedy on the parameters as they are; of several, the distances add up                         |
| "published-boxes" | 12 x 12 Fourier block, 7 components, 2⁷ half-boxes in Gray-code order, greedy inside each      |
| "none"            | the order as it is                                                                             |

Source: H. Wang et al., "Accelerating data generation for neural operators via Krylov subspace recycling", ICLR 2024,
algorithm 1 and appendix; "improved" and "grouped" with its Hilbert curve and blocks are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64

from fieldwright.errors import InputError
from fieldwright.solvers.hilbert import hilbert_index
from fieldwright.solvers.paths import greedy, improve, walk_tree
from fieldwright.transforms import basis

Ordering = Literal[
    "auto", "greedy", "improved", "spanning-tree", "truncated", "grouped", "published", "published-boxes", "none"
]
ORDERINGS: tuple[str, ...] = get_args(Ordering)

BLOCK = 2048
# Beyond so many samples the matrix of distances would take more than 2 GiB.
LARGEST_MATRIX = 16_384
# The lowest cosine modes that stand for a field: 12 along each axis in 2D, as published, and about as many in 3D.
MODES = 144
COMPONENTS = 7
NEIGHBOURS = 10
PASSES = 50
# Samples whose parameters are turned into features at a time: what is held in memory besides the features.
CHUNK = 1024

Parameters = Any
"""An array or tensor (sample, ...), or a sequence of them with one first axis."""

Order = Int64[np.ndarray, " sample"]
Features = Float64[np.ndarray, "sample feature"]
Distances = Float64[np.ndarray, "sample sample"]


def similarity_order(parameters: Parameters, *, method: str = "auto") -> Order:
    """An order of the samples along a short path through ``parameters``, starting with sample 0 where it is greedy.

    ``parameters`` is an array (sample, ...) or, for a field beside a scalar, a tuple of arrays, each of which then
    counts in units of its own spread over the samples. The order depends on nothing but the values.

    Errors: `InputError` for an unknown method, NaN, arrays of different lengths, or a set too large for the method.
    """
    if method not in ORDERINGS:
        raise InputError(f"ordering: no method '{method}'; there are {', '.join(ORDERINGS)}")
    parts = _parts(parameters)
    count = len(parts[0])
    if method == "auto":
        method = "improved" if count <= BLOCK else "grouped"
    if method == "none" or count <= 2:
        return np.arange(count)
    if method in ("greedy", "improved", "spanning-tree", "published") and count > LARGEST_MATRIX:
        raise InputError(
            f"ordering: '{method}' compares every pair of {count} samples; above {LARGEST_MATRIX} use 'grouped'"
        )
    return _METHODS[method](parts)


def path_length(parameters: Parameters, order: Sequence[int] | Order) -> float:
    """Σ_t of the distances between neighbours of an order, as the sort measures them (logarithms where positive)."""
    parts = _parts(parameters)
    order = np.asarray(order)
    total = 0.0
    scale = _scales(parts)
    for start in range(0, len(order) - 1, CHUNK):
        here, there = order[start : start + CHUNK], order[start + 1 : start + CHUNK + 1]
        rows = _whole(parts, np.concatenate([here, there[-1:]]), scale)
        total += float(np.linalg.norm(np.diff(rows, axis=0), axis=1).sum())
    return total


def _parts(parameters: Parameters) -> list[np.ndarray]:
    """The parameters as arrays (sample, ...) of floating-point numbers, checked but not copied."""
    several = isinstance(parameters, (tuple, list))
    parts = [p.detach().cpu().numpy() if isinstance(p, torch.Tensor) else np.asarray(p) for p in
             (parameters if several else [parameters])]  # fmt: skip
    if not parts or any(p.ndim == 0 or p.dtype.kind not in "fiu" for p in parts):
        raise InputError("ordering: parameters must be arrays of numbers with one entry or field for each sample")
    if len({len(p) for p in parts}) > 1:
        raise InputError(
            f"ordering: parameters of {', '.join(str(len(p)) for p in parts)} samples; all must be as long"
        )
    for part in parts:
        for start in range(0, len(part), CHUNK):
            finite = np.isfinite(part[start : start + CHUNK].reshape(min(CHUNK, len(part) - start), -1)).all(1)
            if not finite.all():
                raise InputError(f"ordering: the parameters of sample {start + int(np.argmin(finite))} are not finite")
    return parts


def _logarithmic(part: np.ndarray) -> bool:
    """Whether a parameter is positive throughout."""
    return (
        len(part) > 0
        and part.size > 0
        and min(float(part[s : s + CHUNK].min()) for s in range(0, len(part), CHUNK)) > 0
    )


def _read(part: np.ndarray, samples: np.ndarray | slice, logarithm: bool) -> Float64[np.ndarray, "sample *space"]:
    values = part[samples].astype(np.float64)
    return np.log(values) if logarithm else values


def _scales(parts: list[np.ndarray]) -> list[tuple[bool, float]]:
    """For every part, whether its logarithm is taken, and one over its spread (1 where there is a single part)."""
    found = []
    for part in parts:
        logarithm = _logarithmic(part)
        spread = 1.0
        if len(parts) > 1:
            mean = sum(_read(part, slice(s, s + CHUNK), logarithm).sum(0) for s in range(0, len(part), CHUNK)) / len(
                part
            )
            squares = sum(
                float(np.square(_read(part, slice(s, s + CHUNK), logarithm) - mean).sum())
                for s in range(0, len(part), CHUNK)
            )
            spread = np.sqrt(squares / len(part))
        found.append((logarithm, 1.0 / spread if spread > 0 else 0.0))
    return found


def _whole(parts: list[np.ndarray], samples: np.ndarray | slice, scales: list[tuple[bool, float]]) -> Features:
    """All entries of some samples, one row each."""
    rows = [
        scale * _read(part, samples, logarithm).reshape(-1, int(np.prod(part.shape[1:], dtype=int)))
        for part, (logarithm, scale) in zip(parts, scales, strict=True)
    ]
    return np.concatenate(rows, axis=1)


def _modes(parts: list[np.ndarray]) -> Features:
    """The lowest `MODES` cosine modes of every part, as many along each axis; all entries of vectors and scalars."""
    columns = []
    for part, (logarithm, scale) in zip(parts, _scales(parts), strict=True):
        kept = _modes_along_axis(part)
        matrices = [basis("dct2", n)[:kept].numpy() for n in part.shape[1:]] if part.ndim > 2 else []
        chunks = []
        for start in range(0, len(part), CHUNK):
            values = scale * _read(part, slice(start, start + CHUNK), logarithm)
            for axis, matrix in enumerate(matrices):
                values = np.moveaxis(np.moveaxis(values, axis + 1, -1) @ matrix.T, -1, axis + 1)
            chunks.append(values.reshape(len(values), -1))
        columns.append(np.concatenate(chunks))
    return np.concatenate(columns, axis=1)


def _modes_along_axis(part: np.ndarray) -> int:
    return round(MODES ** (1 / max(1, part.ndim - 1)))


def _principal(features: Features, count: int) -> Float64[np.ndarray, "sample component"]:
    """The first principal components, by the eigenvectors of the covariance (signs fixed by the largest entry)."""
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    chosen = vectors[:, ::-1][:, : min(count, len(values))]
    signs = np.sign(chosen[np.abs(chosen).argmax(0), np.arange(chosen.shape[1])])
    return centred @ (chosen * np.where(signs == 0, 1.0, signs))


def distances(rows: Float[np.ndarray, "sample feature"]) -> Distances:
    """‖x_i - x_j‖ for all pairs, by one product: |x_i|² + |x_j|² - 2 x_i·x_j."""
    rows = rows - rows.mean(0)
    gram = rows @ rows.T
    squares = np.diagonal(gram).copy()
    gram *= -2.0
    gram += squares[:, None]
    gram += squares
    np.maximum(gram, 0.0, out=gram)
    np.sqrt(gram, out=gram)
    np.fill_diagonal(gram, 0.0)
    return gram


def _shortened(distance: Distances, order: Order) -> Order:
    near = min(NEIGHBOURS, len(distance) - 1)
    neighbours = np.argpartition(distance + np.diag(np.full(len(distance), np.inf)), near - 1, axis=1)[:, :near]
    by_distance = np.argsort(np.take_along_axis(distance, neighbours, 1), axis=1, kind="stable")
    improve(distance, np.ascontiguousarray(np.take_along_axis(neighbours, by_distance, 1)), order, PASSES)
    return order


def _greedy(parts: list[np.ndarray]) -> Order:
    return greedy(distances(_whole(parts, slice(None), _scales(parts))), 0)


def _improved(parts: list[np.ndarray]) -> Order:
    distance = distances(_whole(parts, slice(None), _scales(parts)))
    return _shortened(distance, greedy(distance, 0))


def _spanning_tree(parts: list[np.ndarray]) -> Order:
    return walk_tree(distances(_whole(parts, slice(None), _scales(parts))), 0)


def _truncated(parts: list[np.ndarray]) -> Order:
    return greedy(distances(_principal(_modes(parts), COMPONENTS)), 0)


def _grouped(parts: list[np.ndarray]) -> Order:
    modes = _modes(parts)
    along = np.argsort(hilbert_index(_principal(modes, COMPONENTS)), kind="stable")
    pieces = []
    last: np.ndarray | None = None
    for block in np.array_split(along, max(1, -(-len(along) // BLOCK))):
        distance = distances(modes[block])
        # Each block begins at the sample nearest to where the one before it ended.
        first = 0 if last is None else int(np.linalg.norm(modes[block] - last, axis=1).argmin())
        order = _shortened(distance, greedy(distance, first))
        pieces.append(block[order])
        last = modes[pieces[-1][-1]]
    return np.concatenate(pieces)


def _published(parts: list[np.ndarray]) -> Order:
    """Frobenius distances of the parameters as they are; the wavenumber's is added to the field's."""
    total = np.zeros((len(parts[0]),) * 2)
    for part in parts:
        total += distances(part.reshape(len(part), -1).astype(np.float64))
    return greedy(total, 0)


def _published_boxes(parts: list[np.ndarray]) -> Order:
    """Low-frequency Fourier block, principal components scaled to the unit box, half-boxes in Gray-code order."""
    columns = []
    for part in parts:
        flat = (part.reshape(len(part), -1) if part.ndim < 3 else part).astype(np.float64)
        kept = MODES if part.ndim < 3 else _modes_along_axis(part)
        axes = tuple(range(1, flat.ndim))
        spectrum = np.fft.fftshift(np.fft.fftn(flat, axes=axes), axes=axes)
        for axis in axes:
            n = spectrum.shape[axis]
            low = max(0, n // 2 - kept // 2)
            spectrum = spectrum.take(range(low, min(n, low + kept)), axis=axis)
        spectrum = spectrum.reshape(len(part), -1)
        columns += [spectrum.real, spectrum.imag]
    address = _principal(np.concatenate(columns, axis=1), COMPONENTS)
    span = address.max(0) - address.min(0)
    upper = (address - address.min(0)) / np.where(span > 0, span, 1.0) >= 0.5
    gray = (upper * 2 ** np.arange(upper.shape[1])).sum(1)
    place = gray.copy()
    for shift in (1, 2, 4, 8):
        place ^= place >> shift
    pieces = []
    for box in np.unique(place):
        members = np.flatnonzero(place == box)
        inside = distances(address[members])
        pieces.append(members[greedy(inside, 0)])
    return np.concatenate(pieces)


_METHODS: dict[str, Callable[[list[np.ndarray]], Order]] = {
    "greedy": _greedy,
    "improved": _improved,
    "spanning-tree": _spanning_tree,
    "truncated": _truncated,
    "grouped": _grouped,
    "published": _published,
    "published-boxes": _published_boxes,
}
