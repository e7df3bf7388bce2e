import copy
import math

import pytest
import torch
from torch import nn

from fieldwright.errors import InputError
from fieldwright.training import sign_steps
from fieldwright.training.kappa import Kappa
from fieldwright.training.kappa_choice import build_kappa
from fieldwright.training.kappa_sets import Support
from fieldwright.training.lion_k import LionK
from fieldwright.training.sign_steps import BLOCK


def test_zero_gradient_leaves_a_fresh_weight_where_it_is() -> None:
    weight = nn.Parameter(torch.ones(3, 4))
    weight.grad = torch.zeros_like(weight)
    LionK([weight], lr=0.1).step()
    assert torch.equal(weight.detach(), torch.ones(3, 4))


def test_vectors_follow_lion_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.randn(50, generator=generator))
    x, m = parameter.detach().clone(), torch.zeros(50)
    optimizer = LionK([parameter], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(20):
        gradient = torch.randn(50, generator=generator)
        parameter.grad = gradient.clone()
        optimizer.step()
        x = (1 - 0.01 * 0.1) * x - 0.01 * torch.sign(0.9 * m + 0.1 * gradient)
        m = 0.99 * m + 0.01 * gradient
    torch.testing.assert_close(parameter.detach(), x, rtol=1e-6, atol=1e-7)


def test_kernels_step_in_any_memory_format_alike() -> None:
    generator = torch.Generator().manual_seed(2)
    start, gradient = (torch.randn(8, 6, 3, 3, generator=generator) for _ in range(2))
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone(memory_format=memory_format))
        weight.grad = gradient.clone(memory_format=memory_format)
        LionK([weight], lr=0.1).step()
        results.append(weight.detach().contiguous())
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_complex_weights_find_their_target() -> None:
    target = torch.randn(4, 6, dtype=torch.cfloat, generator=torch.Generator().manual_seed(7))
    weight = nn.Parameter(torch.zeros_like(target))
    optimizer = LionK([weight], lr=0.03)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 600)
        weight.grad = weight.detach() - target
        optimizer.step()
    assert float((weight.detach() - target).abs().max()) < 0.05


def test_weight_decay_bounds_the_largest_singular_value() -> None:
    weight = nn.Parameter(5 * torch.randn(6, 10, generator=torch.Generator().manual_seed(3)))
    target = 100 * torch.ones(6, 10)
    decay, rate = 4.0, 0.02
    optimizer = LionK([weight], lr=rate, weight_decay=decay)
    for _ in range(400):
        weight.grad = weight.detach() - target
        optimizer.step()
    # The factor's singular values reach at most 1.25, so the ball has radius 1.25 √10 / λ.
    assert float(torch.linalg.matrix_norm(weight.detach(), 2)) <= 1.25 * 10**0.5 / decay + 1e-4


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7,), (4, 3, 3, 3)])
def test_a_decaying_rate_finds_the_minimum_of_an_ill_conditioned_quadratic(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    target = torch.randn(shape, generator=generator)
    curvature = torch.logspace(0, -2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = LionK([weight], lr=0.03)
    steps = 1500
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / steps)
        weight.grad = curvature * (weight.detach() - target)
        optimizer.step()
    assert float((weight.detach() - target).norm() / target.norm()) < 0.01


def test_state_goes_through_its_dictionary_bit_by_bit() -> None:
    def train(steps: list[torch.Tensor], weight: nn.Parameter, optimizer: LionK) -> None:
        for gradient in steps:
            weight.grad = gradient.clone()
            optimizer.step()

    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(4, 5, generator=generator) for _ in range(6)]
    one = nn.Parameter(torch.ones(4, 5))
    first = LionK([one], lr=0.01)
    train(gradients[:3], one, first)
    two = nn.Parameter(one.detach().clone())
    second = LionK([two], lr=0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(gradients[3:], one, first)
    train(gradients[3:], two, second)
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"weight_decay": -0.1},
        {"betas": (0.9, 1.0)},
        {"lr": math.nan},
        {"lr": 1.0, "weight_decay": 1.0},
        {"kernel": "fast"},
        {"capturable": True, "skip_nonfinite": True},
    ],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="LionK"):
        LionK([nn.Parameter(torch.ones(2))], **wrong)


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        LionK(embedding.parameters()).step()


def test_a_schedule_that_brings_the_decay_to_one_is_refused_and_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = LionK([weight], lr=0.1, weight_decay=5.0)
    optimizer.param_groups[0]["lr"] = 0.2
    weight.grad = torch.ones(2)
    with pytest.raises(InputError, match="less than 1"):
        optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(2))


def test_a_look_ahead_longer_than_the_memory_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="beta1"):
        LionK([nn.Parameter(torch.ones(2))], betas=(0.99, 0.9))


def random_steps(optimizer: LionK, parameters: list[nn.Parameter], count: int, seed: int = 11) -> None:
    draws = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for p in parameters:
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=draws).to(memory_format=torch.preserve_format)
            if p.ndim == 4:
                p.grad = p.grad.contiguous(memory_format=torch.channels_last)
        optimizer.step()


def assorted() -> list[nn.Parameter]:
    """Small and large tensors, a scalar, another type, kernels in another memory format, a transposed matrix."""
    draws = torch.Generator().manual_seed(12)
    tensors = [torch.randn(shape, generator=draws) for shape in [(), (7,), (33, 5), (BLOCK + 3,), (3, BLOCK), (9, 4)]]
    tensors[-1] = tensors[-1].mT
    tensors.append(torch.randn(50, dtype=torch.float64, generator=draws))
    tensors.append(torch.randn(4, 3, 5, 5, generator=draws).to(memory_format=torch.channels_last))
    tensors.append(torch.randn(6, dtype=torch.cfloat, generator=draws))
    return [nn.Parameter(tensor) for tensor in tensors]


@pytest.mark.parametrize("kernel", ["blocked", "compiled"])
@pytest.mark.parametrize("settings", [{"weight_decay": 0.3}, {"betas": (0.2, 0.4)}, {"state_dtype": torch.bfloat16}])
def test_every_kernel_gives_the_bits_of_the_plain_formula(kernel, settings: dict) -> None:
    results = []
    for chosen in ("foreach", kernel):
        parameters = assorted()
        optimizer = LionK(parameters, lr=0.01, kappa="sign", kernel=chosen, **settings)
        random_steps(optimizer, parameters, 4)
        results.append([*parameters, *(optimizer.momentum(p) for p in parameters)])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_the_compiled_kernel_is_there_and_is_what_runs(monkeypatch) -> None:
    assert sign_steps.has_kernel(torch.float32, torch.float32)
    parameter = nn.Parameter(torch.ones(100))
    monkeypatch.setattr("fieldwright.training.lion_k.blocked_sign_step", None)
    random_steps(LionK([parameter], kappa="sign", kernel="compiled"), [parameter], 1)
    assert not torch.equal(parameter.detach(), torch.ones(100))


def test_without_a_compiler_the_compiled_step_is_the_blocked_one(monkeypatch) -> None:
    parameters, expected = assorted(), assorted()
    random_steps(LionK(expected, kappa="sign"), expected, 3)
    monkeypatch.setattr(sign_steps, "has_kernel", lambda *_: False)
    random_steps(LionK(parameters, kappa="sign", kernel="compiled"), parameters, 3)
    assert all(torch.equal(a, b) for a, b in zip(parameters, expected, strict=True))


@pytest.mark.parametrize("kappa", ["huber", "l2", "topk", "spectral", "simplex", {"kind": "box", "centre": 2.0}])
def test_any_function_steps_as_the_equations_say(kappa) -> None:
    parameters = [nn.Parameter(torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(13)))]
    x, m = parameters[0].detach().clone(), torch.zeros(3, 5, dtype=torch.float64)
    optimizer = LionK(parameters, lr=0.1, betas=(0.9, 0.95), weight_decay=2.0, kappa=kappa)
    function = build_kappa(kappa)
    assert isinstance(function, Kappa)
    draws = torch.Generator().manual_seed(14)
    for _ in range(5):
        g = torch.randn(3, 5, dtype=torch.float64, generator=draws)
        parameters[0].grad = g.clone()
        optimizer.step()
        x = (1 - 0.1 * 2.0) * x + 0.1 * function.subgradient(-(0.9 * m + 0.1 * g))
        m = 0.95 * m + 0.05 * g
    torch.testing.assert_close(parameters[0].detach(), x)


def test_groups_have_functions_of_their_own() -> None:
    signs, sphere = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(5))
    optimizer = LionK([{"params": [signs]}, {"params": [sphere], "kappa": "l2"}], lr=0.1, kappa="sign")
    random_steps(optimizer, [signs, sphere], 1)
    assert torch.equal(signs.detach().abs(), torch.full((5,), 0.1))
    assert float(sphere.detach().square().mean().sqrt()) == pytest.approx(0.1)
    assert float(sphere.detach().std()) > 0.01


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    optimizer = LionK([nn.Parameter(torch.ones(2))])
    with pytest.raises(InputError, match="kappa"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "kappa": "hubert"})
    assert len(optimizer.param_groups) == 1


def test_complex_signs_point_at_the_phase() -> None:
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.cfloat))
    random_steps(LionK([parameter], lr=0.1, kappa="sign"), [parameter], 1)
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.detach(), -0.1 * parameter.grad / parameter.grad.abs())


def test_gradients_that_are_not_finite_are_left_out_and_counted() -> None:
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimizer = LionK(parameters, lr=0.1, kappa="sign", skip_nonfinite=True)
    random_steps(optimizer, parameters, 1)
    before = copy.deepcopy([p.detach() for p in parameters]), copy.deepcopy(optimizer.state_dict())
    parameters[0].grad, parameters[1].grad = torch.ones(3), torch.tensor([1.0, math.nan])
    optimizer.step()
    assert optimizer.skipped == 1
    assert all(torch.equal(p, q) for p, q in zip(parameters, before[0], strict=True))
    for number, entry in optimizer.state_dict()["state"].items():
        assert torch.equal(entry["exp_avg"], before[1]["state"][number]["exp_avg"])


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    weight = nn.Parameter(torch.ones(2))

    def closure() -> torch.Tensor:
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert LionK([weight], lr=0.1).step(closure) == 2.0  # type: ignore[arg-type]
    assert float(weight.detach()[0]) == pytest.approx(0.9)


def test_bfloat16_momentum_is_kept_and_resumes_in_the_same_bits() -> None:
    def start() -> tuple[nn.Parameter, LionK]:
        one = nn.Parameter(torch.ones(40))
        return one, LionK([one], lr=0.01, kappa="sign", state_dtype=torch.bfloat16)

    whole, optimizer = start()
    random_steps(optimizer, [whole], 3)
    resumed, other = start()
    resumed.data.copy_(whole.data)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert other.momentum(resumed).dtype == torch.bfloat16
    random_steps(optimizer, [whole], 3, seed=1)
    random_steps(other, [resumed], 3, seed=1)
    assert torch.equal(whole, resumed)


def lion_pytorch_step(x: torch.Tensor, m: torch.Tensor, g: torch.Tensor, lr: float, decay: float, betas) -> None:
    """Lion's published order of operations, by hand."""
    x.mul_(1 - lr * decay)
    x.add_(m.clone().mul_(betas[0]).add(g, alpha=1 - betas[0]).sign_(), alpha=-lr)
    m.mul_(betas[1]).add_(g, alpha=1 - betas[1])


def test_states_of_lion_pytorch_are_loaded_and_give_its_steps() -> None:
    x, m = torch.randn(20, generator=torch.Generator().manual_seed(15)), torch.zeros(20)
    layout = {
        "state": {0: {"exp_avg": m}},
        "param_groups": [{"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.5, "params": [0]}],
    }
    parameter = nn.Parameter(x.clone())
    optimizer = LionK([parameter], lr=1.0, kappa="sign")
    draws = torch.Generator().manual_seed(16)
    for _ in range(3):
        lion_pytorch_step(x, m, torch.randn(20, generator=draws), 0.02, 0.5, (0.9, 0.99))
    parameter.data.copy_(x)
    optimizer.load_state_dict(copy.deepcopy(layout))
    for _ in range(10):
        parameter.grad = torch.randn(20, generator=draws)
        lion_pytorch_step(x, m, parameter.grad, 0.02, 0.5, (0.9, 0.99))
        optimizer.step()
    assert torch.equal(parameter.detach(), x)
    packed = optimizer.state_dict()
    assert packed["state"][0].keys() == {"exp_avg"}
    assert layout["param_groups"][0].items() <= packed["param_groups"][0].items()


def test_states_go_both_ways_between_lion_pytorch_and_ours() -> None:
    lion_pytorch = pytest.importorskip("lion_pytorch")
    theirs, ours = nn.Parameter(torch.ones(30)), nn.Parameter(torch.ones(30))
    one = lion_pytorch.Lion([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    two = LionK([ours], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1, kappa="sign")
    random_steps(one, [theirs], 4)
    random_steps(two, [ours], 4)
    assert torch.equal(theirs, ours)
    swapped = copy.deepcopy(one.state_dict()), copy.deepcopy(two.state_dict())
    two.load_state_dict(swapped[0])
    one.load_state_dict(swapped[1])
    random_steps(one, [theirs], 4, seed=2)
    random_steps(two, [ours], 4, seed=2)
    assert torch.equal(theirs, ours)


def test_the_first_moment_of_adam_is_taken_and_a_state_without_one_refused() -> None:
    parameter = nn.Parameter(torch.ones(3))
    adam = torch.optim.AdamW([parameter], lr=0.01)
    parameter.grad = torch.ones(3)
    adam.step()
    optimizer = LionK([parameter], kappa="sign")
    optimizer.load_state_dict(adam.state_dict())
    torch.testing.assert_close(optimizer.momentum(parameter), adam.state[parameter]["exp_avg"])
    sgd = torch.optim.SGD([parameter], lr=0.01, momentum=0.9)
    sgd.step()
    with pytest.raises(InputError, match="exp_avg"):
        optimizer.load_state_dict(sgd.state_dict())


def test_stored_states_name_their_functions_and_keep_those_that_cannot_be_stored() -> None:
    parameter = nn.Parameter(torch.ones(3))
    packed = LionK([parameter], kappa={"kind": "huber", "epsilon": 0.5}).state_dict()
    other = LionK([parameter], kappa="sign")
    other.load_state_dict(packed)
    assert other.param_groups[0]["kappa"] == build_kappa({"kind": "huber", "epsilon": 0.5})
    oracle = Support(torch.sign)
    with_oracle = LionK([parameter], kappa=oracle)
    with_oracle.load_state_dict(with_oracle.state_dict())
    assert with_oracle.param_groups[0]["kappa"] is oracle


def test_capturable_takes_the_rate_from_a_tensor() -> None:
    results = []
    for capturable in (False, True):
        parameters = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4, 3))]
        optimizer = LionK(parameters, lr=0.05, weight_decay=0.1, capturable=capturable)
        assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) == capturable
        random_steps(optimizer, parameters, 3)
        results.append([p.detach() for p in parameters])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
