"""The operator transformer against figures of the published code, against its equations, and where that code fails."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators import OperatorTransformer, parameter_count

# Sum, mean of |y|, y[0, 0, 0, 0], y[1, 1, 5, 7], y[0, -1, -1, -1] and loss of the published code in float64.
SMALL = (340.0865812941, 0.0207002557, -0.0151786072, 0.0285035147, -0.0077935985, 0.9878224328)
SIZE_T = (3036.7990936516, 0.0556499968, -0.0283468355, 0.0460125806, 0.0145391082, 0.9728150599)


def small(in_channels: int = 2, out_channels: int = 2, **settings) -> OperatorTransformer:
    torch.manual_seed(0)
    chosen = {"width": 12, "depths": [2, 2], "heads": [3, 6], "patch": 2, "window": 4, **settings}
    operator = OperatorTransformer(in_channels, out_channels, **chosen).double()
    with torch.no_grad():  # away from the start, where norms are nearly zero and skips are off
        for parameter in operator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return operator


def fields(*shape: int, channels: int = 2, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def with_golden_weights(operator: OperatorTransformer) -> OperatorTransformer:
    weights = operator.double().state_dict()
    for k, name in enumerate(sorted(weights)):
        j = torch.arange(weights[name].numel(), dtype=torch.float64)
        weights[name].copy_((0.1 * torch.sin(0.37 * j + k)).view_as(weights[name]))
    return operator


@pytest.mark.parametrize(
    ("settings", "points", "golden"),
    [({"width": 12, "depths": [2, 2], "skips": [1, 0], "window": 8}, 64, SMALL), ({"size": "T"}, 128, SIZE_T)],
)
def test_reproduces_the_published_code_with_the_same_weights(settings, points, golden):
    operator = with_golden_weights(OperatorTransformer(4, 4, **settings))
    sample, channel, i, j = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in (2, 4, points, points)), indexing="ij"
    )
    x, t = torch.sin(0.1 * i + 0.2 * j + channel + sample), torch.tensor([0.3, 0.9], dtype=torch.float64)
    with torch.no_grad():
        y, again = operator.eval()(x, t), operator(x, t)
    errors, sizes = (y - x.cos()).abs(), x.cos().abs()
    groups = [slice(0, 1), slice(1, 3), slice(3, 4)]
    loss = sum(errors[:, g].mean() / (sizes[:, g].mean() + 1e-10) for g in groups) / 3
    found = torch.stack((y.sum(), y.abs().mean(), y[0, 0, 0, 0], y[1, 1, 5, 7], y[0, -1, -1, -1], loss))
    assert torch.allclose(found, torch.tensor(golden, dtype=torch.float64), rtol=1e-7, atol=0)
    assert torch.equal(y, again)


@pytest.mark.parametrize(("size", "tensors", "numbers"), [("T", 844, 20_774_444), ("B", 1580, 157_729_988)])
def test_published_sizes_have_their_numbers_of_weights(size, tensors, numbers):
    with torch.device("meta"):
        operator = OperatorTransformer(4, 4, size=size)
    assert len(operator.state_dict()) == tensors
    assert parameter_count(operator) == numbers


def test_published_size_l_has_its_number_of_weights():
    with torch.device("meta"):
        assert parameter_count(OperatorTransformer(4, 4, size="L")) == 628_575_524


@pytest.mark.parametrize("shape", [(16, 16), (16, 32), (12, 20), (40, 8), (13, 31), (3, 5), (1, 1)])
def test_takes_grids_of_any_shape_and_returns_that_shape(shape):
    operator = small()
    outputs = operator(fields(*shape), 0.5)
    assert outputs.shape == (2, 2, *shape)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_padded_grids_are_those_of_repeated_last_values(patch):
    operator, x = small(patch=patch), fields(4 * patch + 1, 6 * patch)
    rows = torch.arange(6 * patch).clamp(max=4 * patch)
    assert torch.allclose(operator(x, 0.3), operator(x[:, :, rows], 0.3)[:, :, : 4 * patch + 1], atol=1e-12)


def test_commutes_with_the_exchange_of_the_axes_when_its_weights_are_symmetric():
    # The bias depends on offsets along both axes in the same way, and merging treats rows and columns alike.
    operator = small(skips=[1, 0])
    with torch.no_grad():
        for name, weight in operator.named_parameters():
            if name.endswith(("projection.weight", "mixup.weight", "dwconv.weight")) and weight.ndim == 4:
                weight.copy_((weight + weight.mT) / 2)
            elif name.endswith("bias_mlp.0.weight"):
                weight.copy_(weight.mean(1, keepdim=True).expand_as(weight))
            elif name.endswith("reduction.weight"):
                four = weight.unflatten(1, (2, 2, -1))
                weight.copy_(((four + four.transpose(1, 2)) / 2).flatten(1))
            elif name.endswith("upsample.upsample.weight"):
                four = weight.unflatten(0, (2, 2, -1))
                weight.copy_(((four + four.transpose(0, 1)) / 2).flatten(0, 2))
    x = fields(24, 16)
    assert torch.allclose(operator(x.mT, 0.7).mT, operator(x, 0.7), atol=1e-10)


def test_without_a_lead_time_it_is_one_and_each_sample_may_have_its_own():
    operator, x = small(), fields(16, 12)
    assert torch.equal(operator(x), operator(x, 1.0))
    assert torch.equal(operator(x), operator(x, torch.ones(2, 1)))
    both = operator(x, torch.tensor([0.25, 0.75], dtype=torch.float64))
    assert torch.allclose(both[0], operator(x, 0.25)[0], atol=1e-12)
    assert torch.allclose(both[1], operator(x, 0.75)[1], atol=1e-12)
    assert not torch.allclose(both[0], operator(x, 0.75)[0], atol=1e-3)


@pytest.mark.parametrize("settings", [{"depths": [2, 1]}, {"skips": [0, 1], "depths": [1, 1], "conditioned": False}])
def test_every_parameter_has_a_gradient_and_changes_the_output(settings):
    operator, x = small(window=3, **{"skips": [1, 0], **settings}), fields(12, 8, batch=1)
    before = operator(x)
    before.square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            saved = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(operator(x), before), name
            parameter.copy_(saved)


def test_gradients_match_finite_differences():
    operator = small(1, 1, width=3, heads=[1, 2], window=2, skips=[1, 0])
    x, t = (
        fields(8, 12, channels=1, batch=1).requires_grad_(),
        torch.tensor([0.4], dtype=torch.float64).requires_grad_(),
    )
    assert torch.autograd.gradcheck(lambda x, t: operator(x, t).sum((2, 3)), (x, t), fast_mode=True)
    weights = dict(operator.named_parameters())
    names = ["encoder.layers.0.blocks.1.attention.self.logit_scale", "decoder.layers.1.upsample.upsample.weight"]
    names[1:] = [name for name in weights if name.endswith(("bias_mlp.2.weight", "layernorm_after.bias.weight"))][:2]
    chosen = tuple(weights[name] for name in names)

    def with_weights(*values):
        return torch.func.functional_call(operator, dict(zip(names, values, strict=True)), (x.detach(), 0.4)).sum(
            (2, 3)
        )

    assert torch.autograd.gradcheck(with_weights, chosen, fast_mode=True)


def test_recomputing_gives_the_same_gradients():
    operator, again, x = small(), small(recompute=True), fields(16, 16)
    for network in (operator, again):
        network(x, 0.5).square().sum().backward()
    gradients = [p.grad for p in operator.parameters()]
    assert all(torch.allclose(a, p.grad) for a, p in zip(gradients, again.parameters(), strict=True))  # type: ignore[arg-type]


def test_evaluation_follows_every_change_of_the_weights():
    operator, x = small().eval(), fields(16, 16)
    with torch.no_grad():
        operator(x)
        for p in operator.parameters():
            p.mul_(1.1)
        kept, wide = operator(x), operator(fields(8, 16))
        fresh = small().eval()
        fresh.load_state_dict(operator.state_dict())
        assert torch.equal(kept, fresh(x))
        assert torch.equal(wide, fresh(fields(8, 16)))
        assert operator.float()(x.float()).dtype == torch.float32
    with torch.inference_mode():
        operator(x.float())
    operator.double()(x).sum().backward()
    assert torch.allclose(operator(x), kept, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
def test_large_offsets_cancel_nothing_in_float32(offset):
    operator, x = small(), fields(16, 16) + offset
    exact, rounded = operator(x, 0.5), operator.float()(x.float(), 0.5).double()
    assert (rounded - exact).norm() < 1e-4 * max(1.0, offset / 100) * exact.norm()


def test_bfloat16_is_close_to_float32_as_weights_and_under_autocast():
    torch.manual_seed(0)
    operator, x = OperatorTransformer(2, 1, width=24, depths=[2, 2], patch=2, window=4), fields(16, 24).float()
    exact = operator(x + 30, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = operator(x + 30, 0.5)
    assert mixed.dtype == torch.float32
    assert (mixed - exact).norm() < 0.05 * exact.norm()
    whole = operator.bfloat16()((x + 30).bfloat16(), 0.5)
    assert whole.dtype == torch.bfloat16
    assert whole.isfinite().all()


def test_missing_fields_are_read_as_zero_whatever_they_hold():
    operator, x = small(3, 1), fields(8, 8, channels=3)
    gone = torch.tensor([False, True, False])
    empty = x.clone()
    empty[:, 1] = 0
    broken = x.clone()
    broken[:, 1] = math.nan
    assert torch.equal(operator(broken, missing=gone), operator(empty))
    each = torch.stack((gone, ~gone & False))
    assert torch.allclose(operator(x, missing=each)[1], operator(x)[1], atol=1e-12)
    with pytest.raises(InputError, match="one truth value for each of the 3"):
        operator(x, missing=gone[:2])


def test_residual_adds_the_fields_that_inputs_and_outputs_share():
    plain, residual = small(3, 2), small(3, 2, residual=True)
    x = fields(8, 8, channels=3)
    assert torch.allclose(residual(x), plain(x) + x[:, :2])


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = OperatorTransformer(1, 1, width=24, depths=[1, 1], heads=[2, 4])
    x, y = torch.randn(2, 2, 1, 8, 8)
    optimizer = torch.optim.Adam(operator.parameters(), lr=5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "XL"}, "there are T, B, L"),
        ({"depths": []}, "depths: \\[\\]"),
        ({"depths": [2, 0]}, "an integer, 1 or more, for each of the 2 levels"),
        ({"heads": [3]}, "heads: \\[3\\]; expected .* for each of the 2 levels"),
        ({"heads": [5, 6]}, "heads: 5 on level 0 do not divide its width of 12"),
        ({"skips": [1, -1]}, "skips"),
        ({"patch": 0}, "patch: 0"),
        ({"dimension": 3}, "grids of dimension 2"),
        ({"mlp_ratio": 0}, "must be positive"),
        ({"boundary": "walls"}, "boundary: 'walls'"),
        ({"centring": "face"}, "centring: 'face'"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


@pytest.mark.parametrize(
    ("lead_time", "message"),
    [
        (-0.1, "finite and not negative"),
        (math.nan, "finite and not negative"),
        (torch.ones(3), "one for each of the 2 samples"),
        (torch.ones(2, 2), "one for each of the 2 samples"),
    ],
)
def test_impossible_lead_times_are_refused(lead_time, message):
    with pytest.raises(InputError, match=message):
        small()(fields(8, 8), lead_time)


def test_a_lead_time_is_refused_where_there_is_none():
    with pytest.raises(InputError, match="conditioned=True"):
        small(conditioned=False)(fields(8, 8), 0.5)


def test_wrong_channels_and_axes_are_refused():
    with pytest.raises(InputError, match="3 channels; the operator takes 2"):
        small()(fields(8, 8, channels=3))
    with pytest.raises(InputError, match="2 axes of space"):
        small()(fields(8))
