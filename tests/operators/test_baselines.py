"""The plain U-Net and ResNet against their equations evaluated from the weights, and the symmetries of their walls."""

import inspect

import pytest
import torch
from torch.nn import functional

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators import ResNet, UNet, build_operator, load_operator

CLASSES = {"resnet": ResNet, "unet": UNet}
FEW = {"resnet": {"width": 6, "blocks": 2}, "unet": {"width": 4, "levels": 3}}


def small(kind: str, **settings):
    torch.manual_seed(0)
    operator = CLASSES[kind](2, 3, **{**FEW[kind], **settings}).double()
    with torch.no_grad():  # offsets that are 0 at first would hide one that is left out
        for parameter in operator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return operator


def fields(*shape: int) -> torch.Tensor:
    return torch.randn(2, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def convolve(biased, v, stride=1):
    """A periodic convolution as the sum over its nine shifts."""
    out = sum(
        torch.einsum("oi,bixy->boxy", biased.convolution.weight[:, :, a, b], v.roll((1 - a, 1 - b), (2, 3)))
        for a in range(3)
        for b in range(3)
    )
    return out[..., ::stride, ::stride] + biased.bias[:, None, None]


def normed(norm, v):
    groups = v.reshape(len(v), norm.num_groups, -1)
    groups = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, keepdim=True, correction=0) + norm.eps).sqrt()
    return groups.reshape(v.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]


def block(layer, v):
    step = v
    for norm, conv in zip(layer.norms, layer.maps, strict=True):
        step = convolve(conv, functional.gelu(normed(norm, step)))
    return v + step


def mixed(mixing, v):
    return torch.einsum("oi,bixy->boxy", mixing.weight, v) + mixing.bias[:, None, None]


def prolonged(prolongation, v):
    """Each coarse point added to the four fine ones about it, around the torus."""
    n, m = v.shape[2:]
    fine = v.new_zeros(*v.shape[:2], 2 * n, 2 * m)
    for i in range(n):
        for j in range(m):
            for a in range(4):
                for b in range(4):
                    spread = v[:, :, i, j] @ prolongation.weight[:, :, a, b]
                    fine[:, :, (2 * i + a - 1) % (2 * n), (2 * j + b - 1) % (2 * m)] += spread
    return fine


def test_resnet_equals_its_equation_on_the_torus():
    operator, x = small("resnet", boundary="periodic"), fields(6, 8)
    v = convolve(operator.lift, x)
    for layer in operator.blocks:
        v = block(layer, v)
    expected = mixed(operator.project.mix, functional.gelu(normed(operator.project.norm, v)))
    assert torch.allclose(operator(x), expected, atol=1e-11)


def test_unet_equals_its_equation_on_the_torus():
    operator, x = small("unet", boundary="periodic", levels=2), fields(6, 8)
    finest = block(operator.down[0][0], convolve(operator.enter[0], x))
    coarse = block(operator.down[1][0], convolve(operator.enter[1], finest, stride=2))
    v = mixed(operator.merge[0], torch.cat((finest, prolonged(operator.prolong[0], coarse)), 1))
    v = block(operator.up[0][0], v)
    expected = mixed(operator.project.mix, functional.gelu(normed(operator.project.norm, v)))
    assert torch.allclose(operator(x), expected, atol=1e-11)


@pytest.mark.parametrize(("kind", "shift"), [("resnet", (3, 5)), ("unet", (4, 8))])
def test_commutes_with_shifts_of_a_periodic_box(kind, shift):
    # The U-Net with those of its coarsest grid's spacing, 2^(levels - 1) points.
    operator, x = small(kind, boundary="periodic"), fields(12, 16)
    assert torch.allclose(operator(x.roll(shift, (2, 3))), operator(x).roll(shift, (2, 3)), atol=1e-11)
    walled = small(kind, boundary="dirichlet")
    assert not torch.allclose(walled(x.roll(shift, (2, 3))), walled(x).roll(shift, (2, 3)), atol=1e-2)


@pytest.mark.parametrize("centring", ["cell", "node"])
def test_a_neumann_wall_is_a_mirror(centring):
    # With symmetric stencils, a field beside its mirror image gives on its half what it gives alone.
    operator, x = small("resnet", dimension=1, boundary="neumann", centring=centring, normalise=False), fields(9)
    with torch.no_grad():
        for weight in (p for name, p in operator.named_parameters() if name.endswith("convolution.weight")):
            weight.copy_((weight + weight.flip(-1)) / 2)
    both = torch.cat((x.flip(2)[..., : 9 if centring == "cell" else 8], x), 2)
    assert torch.allclose(operator(both)[..., -9:], operator(x), atol=1e-11)


@pytest.mark.parametrize("shape", [(13,), (9, 14), (4, 4), (5, 6, 7)])
@pytest.mark.parametrize("kind", CLASSES)
def test_grids_of_any_size_and_dimension(kind, shape):
    operator = small(kind, dimension=len(shape), boundary=["periodic", "neumann", "dirichlet"][: len(shape)])
    outputs = operator(fields(*shape))
    assert outputs.shape == (2, 3, *shape)
    assert outputs.isfinite().all()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("kind", CLASSES)
def test_every_parameter_has_a_gradient_and_changes_the_output(kind, normalise):
    operator, x = small(kind, normalise=normalise), fields(12, 10)
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


@pytest.mark.parametrize("kind", CLASSES)
def test_recomputing_gives_the_same_gradients(kind):
    gradients = []
    for recompute in (False, True):
        operator = small(kind, recompute=recompute)
        operator(fields(9, 8)).square().sum().backward()
        gradients.append([p.grad for p in operator.parameters()])
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", CLASSES)
def test_overfits_one_batch(kind):
    torch.manual_seed(0)
    operator = CLASSES[kind](1, 1, **{"resnet": {"width": 16, "blocks": 3}, "unet": {"width": 12, "levels": 3}}[kind])
    x, y = torch.randn(2, 2, 1, 8, 8)
    optimizer = torch.optim.Adam(operator.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


@pytest.mark.parametrize("kind", CLASSES)
def test_built_by_name_with_the_walls_of_the_problem_stored_and_loaded(kind, tmp_path):
    walls = Boundary.parse([["neumann", "dirichlet"], "periodic", "periodic"], 3)
    operator = build_operator(kind, FEW[kind], 2, 1, 3, walls)
    assert set(operator._hub_mixin_config) == set(inspect.signature(CLASSES[kind]).parameters)
    assert operator._hub_mixin_config["boundary"] == walls.to_list()
    operator.save_pretrained(tmp_path / "model")
    x = torch.randn(1, 2, 6, 5, 7)
    assert torch.equal(operator(x), load_operator(tmp_path / "model")(x))


@pytest.mark.parametrize("kind", CLASSES)
def test_bfloat16_is_close_and_autocast_keeps_the_output_whole(kind):
    operator, x = small(kind), fields(12, 12)
    exact = operator(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed_precision = operator.float()(x.float())
    assert mixed_precision.dtype == torch.float32
    assert not torch.equal(mixed_precision, mixed_precision.bfloat16().float())
    assert (mixed_precision - exact).norm() < 0.02 * exact.norm()
    rounded = operator.bfloat16()(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("resnet", {"blocks": 0}, "blocks: 0"),
        ("unet", {"levels": 0}, "levels: 0"),
        ("unet", {"dimension": 4}, "allowed are 1, 2 and 3"),
        ("resnet", {"centring": "face"}, "allowed are node, cell"),
        ("unet", {"boundary": "open"}, "allowed are dirichlet"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(kind, settings, message):
    with pytest.raises(InputError, match=message):
        small(kind, **settings)


def test_inputs_that_cannot_be_used_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="3 levels need 4 points per axis"):
        small("unet")(fields(3, 8))
    with pytest.raises(InputError, match="lead_time"):
        small("resnet")(fields(8, 8), 1.0)
