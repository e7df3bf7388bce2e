import copy
import math

import pytest
import torch
from task_modules import MODULES, built, fourier, perceptron, sample_pairs, steps
from torch import nn

from fieldwright.errors import DataError, InputError
from fieldwright.growth import Modes, Stack, Widen
from fieldwright.operators import FourierOperator
from fieldwright.training.optimizers import OPTIMIZERS
from fieldwright.training.sparsity import SparseRules
from fieldwright.training.task_records import packed, unpacked
from fieldwright.training.tasks import SHARINGS, ContinualOperator

RULES = SparseRules(sparsity=0.75, every=3, ceiling=0.25)


def learned(name, *, tasks=3, optimizer="adamw", sharing="all", rules=RULES, smallest=64):
    """An operator that has learned tasks, and what each put out right after it was learned."""
    operator, outputs = ContinualOperator(built(name), smallest=smallest), {}
    for number in range(tasks):
        operator.begin_task(f"task{number}", rules, sharing=sharing)
        pairs = sample_pairs(name, number)
        steps(operator, pairs, optimizer=optimizer)
        with torch.no_grad():
            outputs[f"task{number}"] = operator(pairs[0])
    return operator, outputs


@pytest.mark.parametrize("name", MODULES)
def test_later_tasks_leave_every_bit_of_earlier_ones(name):
    operator, outputs = learned(name)
    for number, (task, before) in enumerate(outputs.items()):
        operator.use_task(task)
        operator.eval()
        inputs = sample_pairs(name, number)[0]
        with torch.no_grad():
            assert torch.equal(operator(inputs), before)
    differ = [not torch.equal(outputs["task0"], other) for task, other in outputs.items() if task != "task0"]
    assert all(differ)  # a task that is not trained would pass above


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_frozen_entries_stay_under_every_optimizer(optimizer):
    operator, _ = learned("perceptron", tasks=1, optimizer=optimizer)
    before = operator.digest("task0")
    operator.begin_task("task1", RULES, sharing="all")
    frozen = {key: weight.held.clone() for key, weight in operator.masked_weights().items()}
    owned = operator.record("task0")

    def watch(_):
        for key, weight in operator.masked_weights().items():
            assert torch.equal(torch.where(weight.blocked, weight.parameter, 0), frozen[key])

    start = {key: weight.parameter.detach().clone() for key, weight in operator.masked_weights().items()}
    steps(operator, sample_pairs("perceptron", 1), optimizer=optimizer, watch=watch)
    assert any(not torch.equal(weight.parameter, start[key]) for key, weight in operator.masked_weights().items())
    assert operator.digest("task0") == before
    assert owned is operator.record("task0")


def test_a_naive_loop_without_the_callbacks_does_forget():
    operator, outputs = learned("perceptron", tasks=1)
    module = operator.generations[0]
    steps(module, sample_pairs("perceptron", 1), callbacks=[])
    assert not torch.equal(module(sample_pairs("perceptron", 0)[0]), outputs["task0"])


def test_running_statistics_belong_to_the_task():
    operator, _ = learned("convolutions", tasks=2)
    records = [operator.record(f"task{i}").state for i in range(2)]
    assert int(records[0]["1.num_batches_tracked"]) == 12
    assert not torch.equal(records[0]["1.running_mean"], records[1]["1.running_mean"])
    operator.use_task("task0")
    operator.eval()
    inputs = sample_pairs("convolutions", 0)[0]
    with torch.no_grad():
        together, one = operator(inputs), operator(inputs[:1])
    assert torch.allclose(together[:1], one, atol=1e-6)  # no statistics of the batch are in it


@pytest.mark.parametrize("sharing", SHARINGS)
def test_what_a_task_reads_and_owns(sharing):
    operator = ContinualOperator(built("perceptron"))
    rules = SparseRules(sparsity=0.6, distribution="uniform", exchange=0.0)
    operator.begin_task("first", rules, sharing=sharing)
    first = {key: weight.active for key, weight in operator.masked_weights().items()}
    operator.begin_task("second", rules, sharing=sharing)
    for key, weight in operator.masked_weights().items():
        read, count = weight.active & weight.blocked, math.floor(0.4 * weight.active.numel() + 1e-9)
        assert torch.equal(weight.blocked, first[key])
        if sharing == "drawn":
            assert int(weight.active.sum()) == count
            assert 0 < int(read.sum()) < count
        else:
            assert int(weight.trained.sum()) == count
            assert torch.equal(read, first[key] if sharing == "all" else torch.zeros_like(read))


def test_a_mask_is_filled_up_with_what_others_own():
    operator = ContinualOperator(built("perceptron"))
    for name in ("first", "second", "third"):
        operator.begin_task(name, SparseRules(sparsity=0.6, distribution="uniform"), sharing="fill")
    for weight in operator.masked_weights().values():
        assert int(weight.active.sum()) == math.floor(0.4 * weight.active.numel() + 1e-9)
        assert int((weight.active & weight.blocked).sum()) == pytest.approx(0.2 * weight.active.numel(), abs=2)


def test_entries_grow_on_free_positions_only():
    operator, _ = learned("perceptron", tasks=3, sharing="none")
    masks = [operator._masks(f"task{i}") for i in range(3)]
    for key in masks[0]:
        assert not bool((masks[0][key] & masks[1][key] | masks[1][key] & masks[2][key]).any())


def test_entries_that_stayed_zero_are_free_again():
    operator = ContinualOperator(built("perceptron"))
    operator.begin_task("first", SparseRules(sparsity=0.5, distribution="uniform"))
    before = operator.free_share()
    with torch.no_grad():
        operator.generations[0][2].weight[:10] = 0
    operator.finish()
    assert operator.free_share() > before
    assert not bool(operator.owned()["2.weight"][:10].any())


def test_a_full_network_is_refused_and_left_as_it_was():
    operator = ContinualOperator(built("perceptron"))
    for name in ("first", "second"):
        operator.begin_task(name, SparseRules(sparsity=0.5, distribution="uniform"))
        steps(operator, sample_pairs("perceptron", 0), count=4)
    before = copy.deepcopy(operator.state_dict())
    with pytest.raises(InputError, match=r"task 'third': .* of the .* entries that it asks for are free .* grow"):
        operator.begin_task("third", SparseRules(sparsity=0.5, distribution="uniform"))
    after = operator.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert operator.open == "second"


def test_spectral_pairs_are_whole():
    operator, _ = learned("fourier", tasks=2, rules=SparseRules(ceiling=0.25, exchange=0.0))
    weight = operator.generations[0].get_parameter("spectral.0.weight").detach()
    on = weight != 0
    assert torch.equal(on.any(0).any(1), on.all(0).all(1))
    assert 0 < int(on.all(0).all(1).sum()) < on[0, :, 0].numel()


def test_old_tasks_are_the_same_after_the_network_has_grown():
    operator, outputs = learned("perceptron", tasks=3)
    torch.manual_seed(1)
    operator.grow(perceptron(72))
    operator.begin_task("wide", RULES, sharing="all")
    steps(operator, sample_pairs("perceptron", 9))
    assert operator.generations[1][2].weight.shape == (72, 72)
    for number, (task, before) in enumerate(outputs.items()):
        operator.use_task(task)
        operator.eval()
        with torch.no_grad():
            assert torch.equal(operator(sample_pairs("perceptron", number)[0]), before)
    operator.use_task("wide")
    for key, weight in operator.masked_weights().items():
        corner = tuple(slice(n) for n in operator.layouts[0][key].weight)
        assert bool(weight.blocked[corner].any())
        outside = weight.blocked.clone()
        outside[corner] = False
        assert not bool(outside.any())  # earlier masks are zero on what is new
    assert all(operator.identical().values())


def test_a_fourier_operator_grows_in_width_and_layers():
    operator, outputs = learned("fourier", tasks=2)
    operator.grow(FourierOperator(1, 1, modes=6, width=12, layers=3, dimension=1))
    operator.begin_task("wide", RULES)
    steps(operator, sample_pairs("fourier", 9), count=4)
    operator.use_task("task0")
    operator.eval()
    with torch.no_grad():
        assert torch.equal(operator(sample_pairs("fourier", 0)[0]), outputs["task0"])


@pytest.mark.parametrize("growth", [Widen(width=16, how="zero"), Stack(2)])
def test_plans_of_the_growth_room_make_the_larger_module(growth):
    operator, outputs = learned("fourier", tasks=2)
    operator.grow(growth)
    operator.begin_task("larger", RULES)
    steps(operator, sample_pairs("fourier", 9), count=3)
    assert sum(map(torch.numel, operator.generations[1].parameters())) > 1.5 * sum(
        map(torch.numel, operator.generations[0].parameters())
    )
    operator.use_task("task1")
    operator.eval()
    with torch.no_grad():
        assert torch.equal(operator(sample_pairs("fourier", 1)[0]), outputs["task1"])


def test_wavenumbers_cannot_be_added_to_masked_pairs():
    operator, _ = learned("fourier", tasks=1)
    with pytest.raises(InputError, match=r"grow: 'spectral\.0\.weight' is \(4, 8, 2, 8\)"):
        operator.grow(Modes(modes=10))


def test_a_module_that_does_not_contain_the_present_one_is_refused():
    operator, _ = learned("perceptron", tasks=1)
    with pytest.raises(InputError, match=r"grow: '0\.weight' is \(40, 16\), which the larger module must contain"):
        operator.grow(perceptron(30))
    with pytest.raises(InputError, match=r"it has none"):
        operator.grow(nn.Sequential(nn.GELU(), nn.Linear(40, 40)))


def test_a_changed_task_is_noticed_when_the_next_one_begins():
    operator, _ = learned("perceptron", tasks=2)
    owned = operator.owned()["2.weight"] & operator._masks("task0")["2.weight"]
    with torch.no_grad():
        operator.store["2.weight"][owned] += 1e-7
    assert operator.identical() == {"task0": False}
    with pytest.raises(DataError, match="tasks task0 are not what they were"):
        operator.begin_task("task2", RULES)


def test_a_finished_task_cannot_be_trained():
    operator, _ = learned("perceptron", tasks=2)
    operator.use_task("task0")
    with pytest.raises(InputError, match="task 'task0' is finished and later tasks may rely on it"):
        steps(operator, sample_pairs("perceptron", 0))
    operator.use_task("task1")
    steps(operator, sample_pairs("perceptron", 1))  # the last one can go on


def test_names_and_sharing_are_checked():
    operator = ContinualOperator(built("perceptron"))
    with pytest.raises(InputError, match="no task is in use"):
        operator(torch.zeros(1, 16))
    operator.begin_task("first")
    for name in ("first", "with space", "dot.ted"):
        with pytest.raises(InputError, match=f"task '{name}': a new name"):
            operator.begin_task(name)
    with pytest.raises(InputError, match="sharing: 'some'"):
        operator.begin_task("second", sharing="some")
    with pytest.raises(InputError, match="task 'frist'; did you mean 'first'"):
        operator.use_task("frist")


def test_the_unmasked_state_starts_afresh_or_from_another_task():
    operator, _ = learned("perceptron", tasks=1)
    fresh = built("perceptron")
    operator.begin_task("afresh", RULES)
    assert torch.equal(operator.generations[0][0].bias, fresh[0].bias)
    operator.begin_task("follower", RULES, state_of="task0")
    assert torch.equal(operator.generations[0][0].bias, operator.record("task0").state["0.bias"])
    assert not torch.equal(operator.generations[0][0].bias, fresh[0].bias)


def test_bits_are_packed_and_unpacked():
    for shape in ((1,), (8,), (3, 7), (5, 1, 2, 4)):
        mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5
        assert packed(mask).numel() == -(-mask.numel() // 8)
        assert torch.equal(unpacked(packed(mask), shape), mask)


def test_tied_weights_are_one():
    module = nn.Sequential(nn.Linear(30, 30), nn.GELU(), nn.Linear(30, 30))
    module[2].weight = module[0].weight
    operator = ContinualOperator(module)
    operator.begin_task("first", RULES)
    pairs = torch.randn(4, 30), torch.randn(4, 30)
    steps(operator, pairs)
    before = operator(pairs[0]).detach()
    operator.begin_task("second", RULES)
    steps(operator, (pairs[1], pairs[0]))
    operator.use_task("first")
    assert torch.equal(operator(pairs[0]), before)
    assert operator.generations[0][0].weight is operator.generations[0][2].weight


def test_the_same_seed_draws_the_same_masks():
    masks = []
    for seed in (0, 0, 1):
        operator = ContinualOperator(fourier(), smallest=64, seed=seed)
        operator.begin_task("first", RULES)
        masks.append(operator.owned()["spectral.1.weight"])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
