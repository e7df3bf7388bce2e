"""DeepONet and MultiONet against their equations evaluated point by point, as functions of the point, and on disk."""

import inspect
import itertools
import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators import DeepONet, MultiONet, build_operator, load_operator

SMALL = {"sensors": 5, "modes": 4, "branch_width": 12, "latent": 6, "width": 7, "layers": 4}


def small(cls=MultiONet, **settings):
    torch.manual_seed(0)
    operator = cls(2, 3, **{**SMALL, **({"combined": 3} if cls is MultiONet else {}), **settings}).double()
    with torch.no_grad():  # offsets and weights that are 0 or 1 at first would hide a term that is left out
        for parameter in operator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return operator


def fields(*shape: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def sigma(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.sin(math.pi * (x + 1))) + x


def naive(operator, beta: torch.Tensor, point: list[float], combined: int) -> torch.Tensor:
    """u(x; β) of one latent at one point in the unit square, layer by layer from the weights by name."""
    decoder, s = operator.fields.decoder, [2 * x - 1 for x in point]

    def layers(network, v):
        seen = []
        for linear in network.maps:
            v = sigma(linear.weight @ v + linear.bias)
            seen.append(v)
        return seen[-combined:]

    def features(axis):
        if decoder.periodic[axis]:
            return [math.cos(math.pi * s[axis]), math.sin(math.pi * s[axis])]
        return [s[axis]]

    if decoder.separable:
        each = [layers(t, beta.new_tensor(features(axis))) for axis, t in enumerate(decoder.trunks)]
        trunk = [math.prod(k[1:], start=k[0]) for k in zip(*each, strict=True)]
    else:
        trunk = layers(decoder.trunks[0], beta.new_tensor([f for axis in range(len(s)) for f in features(axis)]))
    total = []
    for c in range(decoder.out_channels):
        if decoder.tokens:
            value = decoder.mix.bias[c]
            for d, component in enumerate(beta):
                pairs = zip(trunk, layers(decoder.branch, component[None]), strict=True)
                value = value + decoder.mix.weight[c, d] * sum(t @ b for t, b in pairs) / combined
        else:
            value, h = decoder.bias[c], decoder.width
            for k, (t, b) in enumerate(zip(trunk, layers(decoder.branch, beta), strict=True)):
                value = value + decoder.weights[k, c] * (t @ b[c * h : (c + 1) * h]) / combined
        total.append(value)
    return torch.stack(total)


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("outputs", ["split", "tokens"])
@pytest.mark.parametrize(("cls", "combined"), [(DeepONet, 1), (MultiONet, 3)])
def test_fields_equal_the_sum_over_layers_at_every_point(cls, combined, outputs, separable):
    operator = small(cls, outputs=outputs, separable=separable, boundary=["periodic", "dirichlet"])
    x = fields(4, 3)
    betas, on_grid = operator.fields.encoder(x), operator(x)
    for n, (i, j) in itertools.product(range(2), itertools.product(range(4), range(3))):
        expected = naive(operator, betas[n], [(i + 0.5) / 4, (j + 0.5) / 3], combined)
        assert torch.allclose(on_grid[n, :, i, j], expected, atol=1e-12)


def test_one_combined_layer_is_deeponet_weight_for_weight():
    one, deep = small(combined=1), small(DeepONet)
    deep.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one(fields(6, 5)), deep(fields(6, 5)))


def test_trunk_network_of_the_paper_has_the_published_number_of_parameters():
    # 6 layers of 100, the last 5 combined, β of 128: 2·100+100 + 5·10100, 128·100+100 + 5·10100, 5 weights, 1 offset.
    decoder = MultiONet(1, 1, width=100, layers=6, combined=5, latent=128).fields.decoder
    assert sum(p.numel() for p in decoder.parameters()) == 300 + 12900 + 2 * 50500 + 6


@pytest.mark.parametrize("shape", [(9,), (5, 6), (4, 3, 5)])
@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("centring", ["cell", "node", "periodic"])
def test_grid_axes_and_points_give_the_same_fields(shape, separable, centring):
    box = {"lower": [-1.0, 2.0, 0.0][: len(shape)], "upper": [1.0, 5.0, 0.5][: len(shape)]}
    boundary = "periodic" if centring == "periodic" else ["dirichlet"] * len(shape)
    operator = small(
        dimension=len(shape), separable=separable, centring=centring, boundary=boundary, vanish_at_walls=True, **box
    )
    x = fields(*shape)
    axes = operator.fields.domain.axes(shape, dtype=torch.float64, device=torch.device("cpu"))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
    grid = operator(x)
    assert torch.allclose(operator.on_axes(x, axes), grid, atol=1e-12)
    assert torch.allclose(operator.at(x, points).mT.reshape(grid.shape), grid, atol=1e-12)
    own = points.expand(2, -1, -1)
    assert torch.allclose(operator.at(x, own).mT.reshape(grid.shape), grid, atol=1e-12)


def test_points_of_each_sample_are_its_own():
    operator, x = small(), fields(5, 5)
    points = torch.rand(2, 7, 2, dtype=torch.float64)
    each = torch.cat([operator.at(x[n : n + 1], points[n]) for n in range(2)])
    assert torch.allclose(operator.at(x, points), each, atol=1e-12)


@pytest.mark.parametrize("separable", [False, True])
def test_derivatives_with_respect_to_the_points_are_exact_to_second_order(separable):
    operator = small(separable=separable, waves=2, vanish_at_walls=True, boundary=["dirichlet", "periodic"])
    x, points = fields(5, 5), torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: operator.at(x, p), points)
    assert torch.autograd.gradgradcheck(lambda p: operator.at(x, p), points)


def test_functional_transforms_give_the_derivatives_of_autograd():
    operator, x, points = small(), fields(5, 5), torch.rand(3, 2, dtype=torch.float64, requires_grad=True)

    def first_field(point: torch.Tensor) -> torch.Tensor:
        return operator.at(x[:1], point[None], check=False)[0, 0, 0]

    hessians = torch.func.vmap(torch.func.hessian(first_field))(points)
    (gradient,) = torch.autograd.grad(operator.at(x[:1], points)[0, :, 0].sum(), points, create_graph=True)
    for axis in range(2):
        (row,) = torch.autograd.grad(gradient[:, axis].sum(), points, retain_graph=True)
        assert torch.allclose(hessians[:, axis], row, atol=1e-11)


def test_recomputing_keeps_less_for_the_same_gradients():
    x = fields(32, 32)
    kept, gradients = {}, {}
    for recompute in (False, True):
        operator, sizes = small(recompute=recompute), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            loss = operator(x).square().sum()
        loss.backward()
        kept[recompute] = sum(sizes)
        gradients[recompute] = [p.grad for p in operator.parameters()]
    assert kept[True] < 0.75 * kept[False]
    assert all(torch.equal(a, b) for a, b in zip(gradients[False], gradients[True], strict=True))


def test_fields_repeat_along_periodic_axes_and_vanish_on_dirichlet_walls():
    operator = small(boundary=["periodic", "dirichlet"], waves=2, vanish_at_walls=True)
    x, y = fields(5, 5), torch.rand(6, dtype=torch.float64)
    here = torch.stack((torch.full_like(y, 0.3), y), -1)
    beyond = here + torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert torch.allclose(operator.at(x, here), operator.at(x, beyond), atol=1e-12)
    walls = torch.stack((y, torch.tensor([0.0, 1.0] * 3, dtype=torch.float64)), -1)
    assert operator.at(x, walls).abs().max() == 0
    assert operator.at(x, here).abs().min() > 0


@pytest.mark.parametrize("separable", [False, True])
def test_a_lead_time_each_gives_what_each_lead_time_gives_alone(separable):
    operator = small(max_lead_time=2.0, separable=separable)
    x, times, points = fields(5, 6), torch.tensor([0.5, 2.0], dtype=torch.float64), torch.rand(4, 2).double()
    alone = torch.cat([operator(x[n : n + 1], float(times[n])) for n in range(2)])
    assert torch.allclose(operator(x, times), alone, atol=1e-12)
    alone = torch.cat([operator.at(x[n : n + 1], points, float(times[n])) for n in range(2)])
    assert torch.allclose(operator.at(x, points, times), alone, atol=1e-12)
    assert not torch.allclose(operator(x, 0.5), operator(x, 2.0), atol=1e-3)


@pytest.mark.parametrize("outputs", ["split", "tokens"])
@pytest.mark.parametrize("branch", ["mlp", "convolution", "fourier"])
@pytest.mark.parametrize("separable", [False, True])
def test_every_parameter_has_a_gradient_and_changes_the_output(branch, outputs, separable):
    operator, x = small(branch=branch, outputs=outputs, separable=separable, max_lead_time=1.0), fields(6, 7)
    before = operator(x, 0.3)
    before.square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        with torch.no_grad():
            saved = parameter.clone()
            parameter.add_(0.1 * torch.randn_like(parameter))
            assert not torch.equal(operator(x, 0.3), before), name
            parameter.copy_(saved)


def test_the_kept_trunk_follows_the_weights():
    operator, x = small().eval(), fields(6, 6)
    with torch.no_grad():
        first = operator(x)
        kept = operator.fields._kept
        operator(x.flip(0))
        assert operator.fields._kept is kept
        for weight in operator.fields.decoder.trunks.parameters():
            weight.mul_(1.5)
        assert not torch.allclose(operator(x), first, atol=1e-3)
        changed = operator(x)
    assert torch.allclose(operator(x), changed, atol=1e-12)
    operator.train()(x)
    assert operator.fields._kept is None


def test_autograd_is_not_cut_off_by_what_was_kept_in_inference_mode():
    operator, x = small().eval(), fields(6, 6)
    with torch.inference_mode():
        operator(x)
    operator(x).sum().backward()
    assert all(p.grad is not None for p in operator.parameters())


@pytest.mark.parametrize("branch", ["mlp", "convolution", "fourier"])
def test_overfits_one_batch(branch):
    torch.manual_seed(0)
    operator = MultiONet(1, 1, branch=branch, sensors=6, modes=6, branch_width=32, latent=16, width=48, layers=4)
    x, y = torch.randn(2, 2, 1, 6, 6)
    optimizer = torch.optim.Adam(operator.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


@pytest.mark.parametrize("kind", ["deeponet", "multionet"])
def test_built_by_name_with_the_walls_of_the_problem_stored_and_loaded(kind, tmp_path):
    walls = Boundary.parse([["neumann", "dirichlet"], "periodic", "periodic"], 3)
    operator = build_operator(kind, {**SMALL, "branch": "convolution", "sensors": [6, 5, 7]}, 2, 1, 3, walls)
    x, points = torch.randn(2, 2, 6, 5, 7), torch.rand(3, 3)
    operator.save_pretrained(tmp_path / "model")
    loaded = load_operator(tmp_path / "model")
    assert torch.equal(operator(x), loaded(x))
    assert torch.equal(operator.at(x, points), loaded.at(x, points))
    assert set(operator._hub_mixin_config) == set(inspect.signature(type(operator)).parameters)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_stays_close_to_float64(dtype):
    operator, x = small(sensors=8), fields(8, 8)
    exact = operator(x)
    rounded = operator.to(dtype)(x.to(dtype))
    assert rounded.dtype == dtype
    assert (rounded.double() - exact).norm() < 8 * torch.finfo(dtype).eps * exact.norm()


def test_autocast_does_not_round_the_last_product():
    operator, x = MultiONet(2, 1, **SMALL), fields(8, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = operator(x)
    assert outputs.dtype == torch.float32
    assert not torch.equal(outputs, outputs.bfloat16().float())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"branch": "transformer"}, "allowed are mlp, convolution, fourier"),
        ({"sensors": [4, 4, 4]}, "one for each of the 2 axes"),
        ({"branch": "fourier", "modes": 0}, "modes: 0"),
        ({"combined": 5}, "there are 4 layers to combine"),
        ({"outputs": "both"}, "allowed are split, tokens"),
        ({"waves": -1}, "waves: -1"),
        ({"max_lead_time": 0.0}, "positive number, or None"),
        ({"lower": [0.0]}, "one number for each of the 2 axes"),
        ({"lower": [0.0, 2.0]}, "axis y runs from 2.0 to 1.0"),
        ({"dimension": 4}, "allowed are 1, 2 and 3"),
        ({"centring": "face"}, "allowed are node"),
        ({"sensors": 1, "centring": "node"}, "at least 2 per axis"),
        ({"activation": "sine"}, "tanh_sine"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message) as raised:
        small(**settings)
    assert "\n" not in str(raised.value)


def test_points_outside_the_domain_are_refused_in_one_sentence():
    operator, x = small(upper=[1.0, 2.0]), fields(5, 5)
    points = torch.tensor([[0.5, 1.0], [0.2, 2.1]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"y runs from 1 to 2\.1; the operator knows y from 0 to 2"):
        operator.at(x, points)
    with pytest.raises(InputError, match="the operator knows x"):
        operator.on_axes(x, [torch.tensor([-0.1, 0.5]).double(), torch.tensor([0.5]).double()])
    with pytest.raises(InputError, match="y runs from nan"):
        operator.at(x, torch.tensor([[0.5, math.nan]], dtype=torch.float64))
    for shape in ((3, 3), (3, 4, 2), (1, 2, 4, 2)):
        with pytest.raises(InputError, match=r"takes \(point, 2\) for all samples"):
            operator.at(x, torch.rand(*shape).double())
    with pytest.raises(InputError, match="axes: 1 given"):
        operator.on_axes(x, [torch.rand(3).double()])


@pytest.mark.parametrize(
    ("lead_time", "message"),
    [(None, "missing; the operator needs one from 0 to 2"), (3.0, "knows times from 0 to 2"), ([0.1] * 3, "3 values")],
)
def test_lead_times_that_cannot_be_used_are_refused(lead_time, message):
    operator, x = small(max_lead_time=2.0), fields(5, 5)
    with pytest.raises(InputError, match=message):
        operator(x, torch.tensor(lead_time) if isinstance(lead_time, list) else lead_time)
    with pytest.raises(InputError, match="steady"):
        small()(x, 1.0)
