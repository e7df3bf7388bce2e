import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.training.sparsity import MaskLayout, SparseRules, best, drawn_mask, dropped, layer_counts, per_bit


def _linear(outer, inner):
    return MaskLayout((outer, inner), (outer, inner))


def test_erk_densities_of_a_case_by_hand():
    # r = (10 + 10) / 100 = 1/5, (10 + 40) / 400 = 1/8; 1/5 * 100 + 1/8 * 400 = 70; 500 entries, 20 % of them are 100.
    layouts = {"small": _linear(10, 10), "large": _linear(10, 40)}
    counts = layer_counts(layouts, SparseRules(sparsity=0.8, distribution="erk"))
    assert counts["small"] in (28, 29)  # 100 * 20/70 = 28.57
    assert counts["large"] in (71, 72)  # 100 * 50/70 = 71.43
    assert sum(counts.values()) == 100


def test_erk_of_a_convolution_counts_its_kernel():
    assert MaskLayout((6, 4, 3, 3), (6, 4, 3, 3)).erdos_renyi == pytest.approx((6 + 4 + 3 + 3) / (6 * 4 * 3 * 3))


def test_layers_that_would_be_more_than_full_are_full_and_the_others_share_the_rest():
    layouts = {"tiny": _linear(4, 4), "large": _linear(100, 100)}
    counts = layer_counts(layouts, SparseRules(sparsity=0.5, distribution="erk"))
    assert counts == {"tiny": 16, "large": 5008 - 16}


def test_a_ceiling_leaves_a_part_of_every_layer_to_each_task():
    layouts = {"tiny": _linear(4, 5), "large": _linear(100, 100)}
    counts = layer_counts(layouts, SparseRules(sparsity=0.8, distribution="erk", ceiling=0.2))
    assert counts == {"tiny": 4, "large": 2000}
    with pytest.raises(InputError, match=r"sparsity: 0\.7; with a ceiling of 0\.2 it must be at least 0\.8"):
        layer_counts(layouts, SparseRules(sparsity=0.7, ceiling=0.2))


@given(
    st.lists(st.tuples(st.integers(8, 60), st.integers(8, 60)), min_size=1, max_size=6),
    st.floats(0.0, 0.9),
    st.floats(0.0, 1.0),
)
def test_counts_add_up_to_the_entry(shapes, sparsity, power):
    layouts = {str(i): _linear(*shape) for i, shape in enumerate(shapes)}
    total = sum(layout.bits for layout in layouts.values())
    counts = layer_counts(layouts, SparseRules(sparsity=sparsity, distribution=power))
    assert sum(counts.values()) == math.floor((1 - sparsity) * total + 1e-6)
    assert all(0 < counts[name] <= layouts[name].bits for name in layouts)


def test_uniform_is_the_same_density_everywhere():
    counts = layer_counts({"a": _linear(20, 50), "b": _linear(40, 10)}, SparseRules(sparsity=0.9, distribution=0.0))
    assert counts == {"a": 100, "b": 40}


def test_parts_of_a_weight_have_equal_counts():
    layout = MaskLayout((30, 10), (30, 10), parts=3)
    count = layer_counts({"qkv": layout}, SparseRules(sparsity=0.73))["qkv"]
    assert count == 81
    mask = drawn_mask(layout, count, torch.ones(30, 10, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert [int(part.sum()) for part in mask.chunk(3)] == [27, 27, 27]


def test_a_layer_without_an_entry_is_refused():
    with pytest.raises(InputError, match=r"'b' would keep 0\.4 of 40 entries, less than one"):
        layer_counts({"a": _linear(200, 50), "b": _linear(4, 10)}, SparseRules(sparsity=0.99, distribution="uniform"))


def test_every_output_has_an_entry_where_there_are_enough():
    layout = _linear(50, 200)
    draws = torch.Generator().manual_seed(1)
    mask = drawn_mask(layout, 60, torch.ones(50, 200, dtype=torch.bool), draws)
    assert int(mask.sum()) == 60
    assert bool(mask.any(1).all())


def test_a_drawn_mask_stays_within_its_candidates():
    free = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) < 0.2
    mask = drawn_mask(_linear(20, 20), 30, free, torch.Generator().manual_seed(1))
    assert int(mask.sum()) == 30
    assert not bool((mask & ~free).any())
    few = drawn_mask(_linear(20, 20), 300, free, torch.Generator().manual_seed(1))
    assert torch.equal(few, free)


def test_ties_are_broken_by_chance_and_the_count_is_exact():
    zeros, all_of = torch.zeros(1000), torch.ones(1000, dtype=torch.bool)
    one, other = (best(zeros, all_of, 100, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert int(one.sum()) == int(other.sum()) == 100
    assert int((one & other).sum()) < 40
    assert float(one[:500].sum()) == pytest.approx(50, abs=25)  # not the first by place


def test_drop_rules_take_who_matters_least():
    weight = torch.tensor([[-4.0, -0.1, 0.2, 3.0], [0.3, -0.2, 5.0, -6.0]])
    gradient = torch.tensor([[0.01, 9.0, 9.0, 0.01], [9.0, 9.0, 9.0, 9.0]])
    layout, on, draws = _linear(2, 4), torch.ones(2, 4, dtype=torch.bool), torch.Generator()
    gone = {rule: weight[dropped(weight, gradient, on, 2, layout, rule, draws)].tolist()
            for rule in ("magnitude", "set", "taylor")}  # fmt: skip
    assert sorted(map(abs, gone["magnitude"])) == pytest.approx([0.1, 0.2])
    assert gone["set"] == pytest.approx([-0.1, 0.2])
    assert gone["taylor"] == [-4.0, 3.0]


def test_set_takes_the_rest_from_the_sign_that_has_more():
    weight = torch.tensor([[1.0, 2.0, 3.0, -1.0]])
    on = torch.ones(1, 4, dtype=torch.bool)
    gone = dropped(weight, weight, on, 3, _linear(1, 4), "set", torch.Generator())
    assert sorted(weight[gone].tolist()) == [-1.0, 1.0, 2.0]


def test_bits_of_several_entries_are_summed_over_them():
    layout = MaskLayout((1, 3, 1, 2), (5, 3, 2, 2))
    values = torch.randn(5, 3, 2, 2)
    assert torch.equal(per_bit(values, layout), values.sum((0, 2), keepdim=True))
    assert layout.entries_per_bit == 10


def test_the_share_follows_the_cosine_and_stops():
    rules = SparseRules(exchange=0.5, floor=0.01, stop=0.75)
    assert rules.share(0.0) == 0.5
    assert rules.share(0.375) == pytest.approx(0.25)
    assert rules.share(0.7499) == 0.01
    assert rules.share(0.75) == 0.0
    assert [i for i in range(10) if SparseRules(every=3).due(i, 0.1)] == [3, 6, 9]
    assert not SparseRules(exchange=0.0).due(100, 0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity: 1\.0; it must lie in \[0, 1\)"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"distribution": "erdos"}, "distribution: 'erdos'; did you mean 'erk'. allowed are uniform, erk"),
        ({"distribution": 1.5}, "distribution: 1.5"),
        ({"growth": "gradients"}, "growth: 'gradients'; did you mean 'gradient'"),
        ({"drop": "size"}, "drop: 'size'"),
        ({"exchange": 1.2}, "exchange"),
        ({"ceiling": 0.0}, "ceiling"),
        ({"every": 0}, "every: 0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        SparseRules(**settings)
