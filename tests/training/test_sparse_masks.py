import copy
import itertools
import math

import pytest
import torch
from task_modules import built, fourier, perceptron, sample_pairs, steps
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training import Step
from fieldwright.training.dynamic_sparse import DynamicSparse
from fieldwright.training.sparse_masks import mask_layouts
from fieldwright.training.sparsity import DROPS, GROWTHS, SparseRules


def test_large_weights_are_masked_and_nothing_else():
    module = nn.Sequential(
        nn.Conv1d(32, 32, 3, groups=32), nn.Conv1d(32, 32, 3, groups=2), nn.LayerNorm([32, 20]),
        nn.ConvTranspose1d(32, 16, 3), nn.Embedding(64, 32), nn.Linear(4, 4),
    )  # fmt: skip
    layouts = mask_layouts(module)
    assert set(layouts) == {"1.weight", "3.weight"}
    assert layouts["3.weight"].output == 1


def test_spectral_weights_are_masked_as_pairs_over_all_wavenumbers():
    layouts = mask_layouts(fourier(), smallest=64)
    layout = layouts["spectral.0.weight"]
    assert layout.shape == (1, 8, 1, 8)
    assert layout.entries_per_bit == 4 * 2
    foreign = nn.Module()
    foreign.weight = nn.Parameter(torch.randn(8, 6, 5, 5, dtype=torch.complex64))
    assert mask_layouts(foreign)["weight"].shape == (8, 6, 1, 1)


def test_tied_weights_have_one_mask_and_fused_attention_three_parts():
    module = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
    module[1].weight = module[0].weight
    assert set(mask_layouts(module)) == {"0.weight"}
    assert mask_layouts(nn.MultiheadAttention(16, 2))["in_proj_weight"].parts == 3


def test_patterns_keep_weights_dense_and_must_name_some():
    assert set(mask_layouts(perceptron(), dense=["0.*", "4.weight"])) == {"2.weight"}
    with pytest.raises(InputError, match=r"no parameter is called '0\.weigth'; did you mean '0\.weight'"):
        mask_layouts(perceptron(), dense=["0.weigth"])
    with pytest.raises(InputError, match="Linear has no weight of 512 entries"):
        mask_layouts(nn.Linear(4, 4))


def _zero_pattern(module):
    return {name: module.get_parameter(name) != 0 for name in mask_layouts(module)}


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("drop", DROPS)
def test_counts_stay_exact_through_every_exchange(growth, drop):
    module, seen = built("perceptron"), []
    watcher = DynamicSparse(sparsity=0.8, growth=growth, drop=drop, every=2, stop=1.0)
    pairs = sample_pairs("perceptron", 0)

    def watch(_):
        seen.append({name: weight.active.clone() for name, weight in watcher.steps.weights.items()})
        for name, active in seen[-1].items():
            assert not bool((module.get_parameter(name).detach()[~active] != 0).any())

    steps(module, pairs, callbacks=[watcher], watch=watch)
    for name in seen[0]:
        assert len({int(masks[name].sum()) for masks in seen}) == 1
        changes = [bool((a[name] != b[name]).any()) for a, b in itertools.pairwise(seen)]
        assert changes == [index % 2 == 0 for index in range(1, len(seen))]
    on = sum(int(active.sum()) for active in seen[0].values())
    assert on == round(0.2 * sum(active.numel() for active in seen[0].values()))


def test_gradient_growth_takes_the_largest_gradients_of_what_is_off():
    module = nn.Linear(30, 20)
    watcher = DynamicSparse(sparsity=0.5, growth="gradient", every=1, stop=1.0, exchange=0.2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    watcher.begin(Step(module, optimizer, 0, 0.0, 0.1, 1))
    before = watcher.steps.weights["weight"].active.clone()
    gradient = torch.randn(20, 30)
    module.weight.grad = gradient.clone()
    watcher.after_backward(Step(module, optimizer, 1, 0.0, 0.1, 1))
    after = watcher.steps.weights["weight"].active
    come, count = after & ~before, int((after & ~before).sum())
    assert count == 60  # a fifth of 300
    wanted = gradient.abs().masked_fill(before, -1).flatten().topk(count).indices
    assert torch.equal(come.flatten().nonzero()[:, 0].sort().values, wanted.sort().values)
    assert torch.equal(module.weight.grad, gradient * after)  # the gradient of what is on alone


def test_unfired_growth_prefers_entries_that_were_never_on():
    module = built("perceptron")
    watcher = DynamicSparse(sparsity=0.5, growth="unfired", every=1, stop=1.0, exchange=0.25, distribution="uniform")
    ever = {}

    def watch(_):
        for name, weight in watcher.steps.weights.items():
            ever.setdefault(name, []).append(int(watcher.steps.fired[name].sum()))
            assert bool((watcher.steps.fired[name] | ~weight.active).all())

    steps(module, sample_pairs("perceptron", 0), callbacks=[watcher], watch=watch, count=3)
    for name, counts in ever.items():
        size = module.get_parameter(name).numel()
        assert counts[0] == size // 2
        assert counts[1] == counts[0] + math.ceil(watcher.rules.share(1 / 3) * counts[0])  # all that came were new


def test_momentum_growth_sees_gradients_of_entries_that_are_off():
    module = nn.Linear(30, 20)
    watcher = DynamicSparse(sparsity=0.5, growth="momentum", every=3, stop=1.0, exchange=0.1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.0)
    gradients = [torch.randn(20, 30) for _ in range(4)]
    watcher.begin(Step(module, optimizer, 0, 0.0, 0.1, 1))
    before = watcher.steps.weights["weight"].active.clone()
    for index, gradient in enumerate(gradients):
        module.weight.grad = gradient.clone()
        watcher.after_backward(Step(module, optimizer, index, 0.0, 0.1, 1))
    first = sum(0.1 * 0.9 ** (3 - i) * g for i, g in enumerate(gradients))
    second = sum(0.001 * 0.999 ** (3 - i) * g.square() for i, g in enumerate(gradients))
    ratio = (first / second.sqrt()).abs()
    come = watcher.steps.weights["weight"].active & ~before
    wanted = ratio.masked_fill(before, -1).flatten().topk(int(come.sum())).indices
    assert torch.equal(come.flatten().nonzero()[:, 0].sort().values, wanted.sort().values)


def test_moments_of_what_is_off_are_zero_and_newcomers_start_with_the_median():
    module = built("perceptron")
    watcher = DynamicSparse(sparsity=0.7, every=4, stop=1.0)
    kept = {}

    def watch(optimizer):
        for name, weight in watcher.steps.weights.items():
            state = optimizer.state[weight.parameter]
            for key in ("exp_avg", "exp_avg_sq"):
                assert not bool(state[key][~weight.active].any())
            kept[name] = state

    optimizer = steps(module, sample_pairs("perceptron", 0), callbacks=[watcher], watch=watch, count=6)
    weight = next(iter(watcher.steps.weights.values()))
    old = weight.active & (torch.rand(weight.active.shape) < 0.5)
    state = optimizer.state[weight.parameter]
    expected = state["exp_avg_sq"][old].median()
    weight.mask_moments(optimizer, weight.active & ~old)
    assert bool((state["exp_avg_sq"][weight.active & ~old] == expected).all())
    assert not bool(state["exp_avg"][weight.active & ~old].any())


def test_the_largest_weights_are_kept_on_request_and_a_sparse_module_goes_on_as_it_is():
    module = built("perceptron")
    dense = copy.deepcopy(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    watcher = DynamicSparse(sparsity=0.8, start="weights", distribution="uniform")
    watcher.begin(Step(module, optimizer, 0, 0.0, 0.1, 1))
    for name, on in _zero_pattern(module).items():
        weight = dense.get_parameter(name).detach()
        assert float(weight.abs()[on].min()) >= float(weight.abs()[~on].max())
        assert torch.equal(module.get_parameter(name).detach()[on], weight[on])
    before = copy.deepcopy(module)
    DynamicSparse(sparsity=0.8, start="weights", distribution="uniform").begin(Step(module, optimizer, 0, 0.0, 0.1, 1))
    for name in mask_layouts(module):
        assert torch.equal(module.get_parameter(name), before.get_parameter(name))


def test_a_random_start_keeps_the_size_of_what_a_layer_puts_out():
    torch.manual_seed(0)
    module, x = nn.Linear(400, 300, bias=False), torch.randn(200, 400)
    dense = float(module(x).detach().std())
    DynamicSparse(sparsity=0.9).begin(Step(module, torch.optim.SGD(module.parameters(), lr=0.1), 0, 0.0, 0.1, 1))
    assert float(module(x).detach().std()) == pytest.approx(dense, rel=0.03)
    assert SparseRules().sparsity == 0.75
