"""The similarity sort: permutations, short paths, the curve and the searches that they are made of."""

import itertools

import numpy as np
import pytest
import torch
from assembled import fields, two_phase

from fieldwright.errors import InputError
from fieldwright.solvers import ordering
from fieldwright.solvers.hilbert import hilbert_index, hilbert_index_of_cells
from fieldwright.solvers.ordering import ORDERINGS, distances, path_length, similarity_order
from fieldwright.solvers.paths import greedy, improve, walk_tree

RNG = np.random.default_rng


def parameters(name):
    smooth = two_phase((16, 16), 60, 0, 4.0) + 0.1 * fields((16, 16), 60, 1, 2.0)
    return {
        "positive fields": smooth,
        "signed fields": smooth - smooth.mean(),
        "vectors": RNG(0).standard_normal((60, 5)),
        "scalars": RNG(0).random(60),
        "field and scalar": (smooth, RNG(0).random(60)),
        "lines": RNG(0).standard_normal((60, 40)).cumsum(1),
        "boxes": two_phase((14, 14, 14), 30, 0, 4.0),
    }[name]


NAMES = ["positive fields", "signed fields", "vectors", "scalars", "field and scalar", "lines", "boxes"]


@pytest.mark.parametrize("method", ORDERINGS)
@pytest.mark.parametrize("name", NAMES)
def test_an_order_holds_every_sample_once_and_shortens_the_path(name, method):
    some = parameters(name)
    order = similarity_order(some, method=method)
    count = len(some[0] if isinstance(some, tuple) else some)
    assert sorted(order) == list(range(count))
    if method != "published-boxes":  # with a hundred half-boxes for a few samples it promises nothing
        assert path_length(some, order) <= path_length(some, np.arange(count))
    assert np.array_equal(order, similarity_order(some, method=method))


def test_improving_shortens_what_greedy_found():
    some = parameters("positive fields")
    lengths = {method: path_length(some, similarity_order(some, method=method)) for method in ORDERINGS}
    assert lengths["improved"] <= lengths["greedy"] < 0.8 * lengths["none"]
    assert lengths["auto"] == lengths["improved"]


def test_scalars_are_sorted_outright():
    some = RNG(0).standard_normal(50)
    order = similarity_order(some, method="improved")
    assert path_length(some, order) == pytest.approx(np.ptp(some))


def test_greedy_is_the_papers_algorithm():
    some = RNG(1).standard_normal((25, 4, 4))
    todo, order = list(range(1, 25)), [0]
    while todo:
        order.append(min(todo, key=lambda j: np.linalg.norm(some[order[-1]] - some[j])))
        todo.remove(order[-1])
    assert similarity_order(some, method="greedy").tolist() == order
    assert similarity_order(some, method="published").tolist() == order


def test_the_published_distance_of_a_field_and_a_wavenumber_is_their_sum():
    field, k = RNG(1).random((20, 3, 3)), RNG(2).random(20)
    todo, order = list(range(1, 20)), [0]
    while todo:
        here = order[-1]
        order.append(min(todo, key=lambda j: np.linalg.norm(field[here] - field[j]) + abs(k[here] - k[j])))
        todo.remove(order[-1])
    assert similarity_order((field, k), method="published").tolist() == order


def test_positive_fields_are_compared_by_ratio():
    # 1 -> 10 -> 100 is two equal steps in ratio; in difference 10 is nearer to 1 by far.
    some = np.array([[1.0], [100.0], [9.0], [1000.0]])
    assert path_length(some, [0, 1]) == pytest.approx(np.log(100))
    assert path_length(-some, [0, 1]) == pytest.approx(99)


def test_the_parts_of_a_combination_count_alike_whatever_their_units():
    field, k = parameters("field and scalar")
    in_other_units = similarity_order((field, 1e6 * k))
    assert np.array_equal(in_other_units, similarity_order((field, k)))


def test_grouped_keeps_to_its_blocks_and_works_on_many(monkeypatch):
    monkeypatch.setattr(ordering, "BLOCK", 50)
    some = RNG(0).standard_normal((1003, 3))
    order = similarity_order(some)
    assert sorted(order) == list(range(1003))
    assert path_length(some, order) < 0.3 * path_length(some, np.arange(1003))


def test_results_do_not_depend_on_how_many_samples_are_read_at_a_time(monkeypatch):
    some = parameters("field and scalar")
    whole = similarity_order(some, method="grouped"), path_length(some, np.arange(60))
    monkeypatch.setattr(ordering, "CHUNK", 7)
    assert np.array_equal(similarity_order(some, method="grouped"), whole[0])
    assert path_length(some, np.arange(60)) == pytest.approx(whole[1], rel=1e-12)


def test_distances_are_those_of_the_pairs():
    rows = RNG(0).standard_normal((12, 5)) + 100
    pairs = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert np.allclose(distances(rows), pairs, atol=1e-6)


def shortest(distance):
    n = len(distance)
    return min(sum(distance[a, b] for a, b in itertools.pairwise(p)) for p in itertools.permutations(range(n)))


def length(distance, order):
    return sum(distance[a, b] for a, b in itertools.pairwise(order))


@pytest.mark.parametrize("seed", range(12))
def test_searches_are_near_the_shortest_path_of_a_few_points(seed):
    distance = distances(RNG(seed).standard_normal((7, 2)))
    best = shortest(distance)
    neighbours = np.argsort(distance, axis=1)[:, 1:].copy()
    for search in (greedy, walk_tree):
        order = search(distance, 0)
        before = length(distance, order)
        improve(distance, neighbours, order, 50)
        assert sorted(order) == list(range(7))
        assert best - 1e-12 <= length(distance, order) <= before + 1e-12
        assert length(distance, order) <= 1.25 * best
    assert length(distance, walk_tree(distance, 0)) <= 2 * best


@pytest.mark.parametrize("seed", range(5))
def test_improving_never_lengthens_and_sorts_points_on_a_line(seed):
    x = RNG(seed).random(40)
    distance = np.abs(x[:, None] - x)
    neighbours = np.argsort(distance, axis=1)[:, 1:11].copy()
    order = RNG(seed + 1).permutation(40)
    last = length(distance, order)
    for _ in range(60):
        improve(distance, neighbours, order, 1)
        assert length(distance, order) <= last + 1e-12
        last = length(distance, order)
    assert sorted(order) == list(range(40))
    start = greedy(distance, int(np.argmin(x)))
    improve(distance, neighbours, start, 50)
    assert length(distance, start) == pytest.approx(np.ptp(x))


@pytest.mark.parametrize(("axes", "bits"), [(1, 4), (2, 4), (3, 3), (4, 2), (7, 1)])
def test_the_hilbert_curve_visits_every_cell_by_single_steps(axes, bits):
    cells = np.stack(np.meshgrid(*[np.arange(2**bits)] * axes, indexing="ij"), -1).reshape(-1, axes)
    index = hilbert_index_of_cells(cells, bits)
    assert sorted(index) == list(range(2 ** (bits * axes)))
    steps = np.abs(np.diff(cells[np.argsort(index)], axis=0)).sum(1)
    assert np.all(steps == 1)


def test_hilbert_places_of_points_are_those_of_their_cells():
    points = np.array([[0.0, 0.0], [0.9, 0.1], [1.0, 1.0], [0.1, 0.9]])
    assert hilbert_index(points, bits=1).tolist() == [0, 3, 2, 1] or hilbert_index(points, bits=1).tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert hilbert_index(np.ones((3, 2))).tolist() == [0, 0, 0]
    assert hilbert_index(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize(
    ("some", "method", "message"),
    [
        (np.ones((3, 2)), "best", "no method 'best'"),
        (np.array([[1.0], [np.nan], [1.0]]), "auto", "sample 1 are not finite"),
        ((np.ones((3, 2)), np.ones(4)), "auto", "of 3, 4 samples"),
        (np.array(["a", "b"]), "auto", "arrays of numbers"),
        (np.float64(1.0), "auto", "arrays of numbers"),
        (np.zeros((20_000, 1)), "greedy", "above 16384 use 'grouped'"),
    ],
)
def test_what_cannot_be_sorted_is_refused_in_one_line(some, method, message):
    with pytest.raises(InputError, match=message) as caught:
        similarity_order(some, method=method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("points", "bits"), [(np.array([[np.nan]]), None), (np.ones((2, 8)), 8), (np.ones((2, 2)), 0)])
def test_points_without_a_place_on_the_curve_are_refused(points, bits):
    with pytest.raises(InputError, match="hilbert"):
        hilbert_index(points, bits=bits)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_samples_have_an_order(count):
    for method in ORDERINGS:
        assert sorted(similarity_order(torch.ones(count, 4, 4), method=method)) == list(range(count))


def test_equal_samples_have_an_order():
    for method in ORDERINGS:
        assert sorted(similarity_order(np.ones((30, 4)), method=method)) == list(range(30))
