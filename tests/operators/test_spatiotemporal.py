"""The spatiotemporal Fourier operator: any frames in, any times out, the same map on every grid; bad input."""

import math

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.grids import Boundary
from fieldwright.operators import SpatiotemporalFourierOperator, build_operator, load_operator, roll_out, save_operator


def same(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-12) -> bool:
    """Equal to this share of the largest value, and nowhere only because it is large there."""
    return torch.allclose(a, b, rtol=0, atol=atol * float(b.detach().abs().max()))


def small(in_channels=1, out_channels=1, **settings) -> SpatiotemporalFourierOperator:
    torch.manual_seed(0)
    given = {"modes": 6, "time_modes": 5, "latent_steps": 4, "width": 5, "layers": 3, "channel_mlp": 2.0}
    return SpatiotemporalFourierOperator(in_channels, out_channels, **{**given, **settings}).double()


def with_bias(operator: SpatiotemporalFourierOperator) -> SpatiotemporalFourierOperator:
    torch.nn.init.normal_(operator.output_layer.bias)
    return operator


def flow(n: int, frames: int, window: float = 1.0) -> torch.Tensor:
    """A field of two waves in space and one in the time of a window that ends at 0: (1, frames, 1, n, n)."""
    x = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    times = (torch.arange(frames, dtype=torch.float64) - (frames - 1)) * window / frames
    turn = (2 * math.pi * times / window)[:, None, None]
    return (torch.sin(x)[:, None] * torch.cos(2 * x) + torch.cos(x[:, None] - turn))[None, :, None]


@pytest.mark.parametrize("frames", [1, 3, 10])
@pytest.mark.parametrize("shape", [(13,), (12, 9), (5, 6, 7)])
def test_any_number_of_frames_gives_states_at_any_times_on_any_grid(frames, shape):
    operator = small(3, 2, dimension=len(shape))
    inputs = torch.randn(2, frames, 3, *shape, dtype=torch.float64)
    times = torch.tensor([0.05, 0.3, 0.31, 1.0])
    outputs = operator(inputs, times, spacing=0.07)
    assert outputs.shape == (2, 4, 2, *shape)
    assert outputs.isfinite().all()


def test_the_state_at_a_time_does_not_depend_on_the_other_times_asked_for():
    operator, inputs = with_bias(small()), torch.randn(2, 5, 1, 12, 10, dtype=torch.float64)
    many = operator(inputs, torch.arange(1, 41) / 40)
    few = operator(inputs, torch.arange(1, 5) / 4)
    assert same(many[:, 9::10], few, atol=1e-12)
    assert same(operator(inputs, 0.5)[:, 0], few[:, 1], atol=1e-12)
    own = operator(inputs, torch.tensor([[0.25, 1.0], [0.5, 0.75]]))
    assert same(own[0], few[0, [0, 3]], atol=1e-12)
    assert same(own[1], few[1, [1, 2]], atol=1e-12)


def test_more_frames_of_the_same_window_change_nothing_that_they_resolved_before():
    operator = with_bias(small(window=2.0))
    # Fewer frames than latent states, and a perceptron that sees the difference: only what all resolve may count.
    outputs = [operator(flow(12, frames, 2.0), 0.7) for frames in (8, 16, 80)]
    assert same(outputs[1], outputs[0], atol=1e-12)
    assert same(outputs[2], outputs[0], atol=1e-12)


def test_times_are_physical_and_not_counts_of_frames():
    operator = small(window=2.0)
    inputs = flow(12, 8, 2.0)
    assert torch.equal(operator(inputs, 0.7), operator(inputs, 0.7, spacing=0.25))
    assert not same(operator(inputs, 0.7), operator(inputs, 0.7, spacing=0.2), atol=1e-6)


def test_another_unit_of_time_is_the_same_operator():
    seconds, minutes = (with_bias(small(window=2.0 * u, horizon=3.0 * u)) for u in (60.0, 1.0))
    inputs = torch.randn(1, 6, 1, 8, 8, dtype=torch.float64)
    in_seconds = seconds(inputs, torch.tensor([30.0, 165.0]), spacing=15.0)
    assert same(in_seconds, minutes(inputs, torch.tensor([0.5, 2.75]), spacing=0.25), atol=1e-12)


def test_is_one_operator_on_all_grids_that_resolve_the_input():
    # Without a pointwise nonlinearity that makes new frequencies it is exact on every grid.
    operator = with_bias(small(activation="identity", coordinates=False))
    coarse, fine = operator(flow(16, 8), 0.4), operator(flow(48, 8), 0.4)
    assert same(fine[..., ::3, ::3], coarse, atol=1e-12)


def test_refining_the_grid_converges_with_the_nonlinearity_too():
    operator = small(coordinates=False)
    finest = operator(flow(96, 8), 0.4)
    errors = [(operator(flow(n, 8), 0.4) - finest[..., :: 96 // n, :: 96 // n]).norm() / n for n in (8, 32)]
    assert errors[1] < 1e-2 * errors[0]


def test_commutes_with_every_shift_of_a_periodic_box():
    operator, x = small(coordinates=False), torch.randn(2, 3, 1, 15, 12, dtype=torch.float64)
    assert same(operator(x.roll((4, 7), (3, 4)), 0.3), operator(x, 0.3).roll((4, 7), (3, 4)), atol=1e-12)


def test_without_weights_in_the_last_layer_the_last_known_state_persists():
    operator, x = small(2, 1), torch.randn(2, 3, 2, 8, 9, dtype=torch.float64)
    torch.nn.init.zeros_(operator.output_layer.weight)
    assert torch.equal(operator(x, torch.tensor([0.2, 1.0])), x[:, -1:, :1].expand(-1, 2, -1, -1, -1))


def test_fields_that_hold_frames_are_the_trajectory_of_those_frames():
    operator = with_bias(small(3 * 2 + 1, 4 * 2, known=3, predicted=4, horizon=2.0))
    states, coefficient = torch.randn(2, 3, 2, 8, 10).double(), torch.randn(2, 1, 8, 10).double()
    trajectory = torch.cat((states, coefficient[:, None].expand(-1, 3, -1, -1, -1)), 2)
    fields = operator(torch.cat((states.flatten(1, 2), coefficient), 1))
    expected = operator(trajectory, torch.tensor([0.5, 1.0, 1.5, 2.0]))
    assert same(fields, expected.flatten(1, 2), atol=1e-14)
    assert same(operator(trajectory), expected, atol=1e-14)


def test_one_state_goes_to_one_state_at_the_lead_time_of_each_sample():
    operator, x = with_bias(small(2, 1)), torch.randn(3, 2, 8, 9, dtype=torch.float64)
    leads = torch.tensor([0.1, 0.5, 1.0])
    outputs = operator(x, leads)
    assert outputs.shape == (3, 1, 8, 9)
    for i, lead in enumerate(leads.tolist()):
        assert same(outputs[i], operator(x[i : i + 1, None], lead)[0, 0], atol=1e-12)
    assert same(operator(x), operator(x, 1.0))
    assert roll_out(operator, x, [0.5, 0.25]).shape == (3, 2, 1, 8, 9)


@pytest.mark.parametrize(("known", "residual"), [(1, True), (3, True), (3, False)])
@pytest.mark.parametrize("coordinates", [False, True])
def test_every_parameter_has_a_gradient_and_changes_the_output(known, residual, coordinates):
    operator = small(known, 2, known=known, predicted=2, residual=residual, coordinates=coordinates)
    x = torch.randn(2, known, 12, 10, dtype=torch.float64)
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


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = SpatiotemporalFourierOperator(
        2, 2, known=2, predicted=2, modes=9, time_modes=5, latent_steps=2, width=6, layers=2
    )
    x, y = torch.randn(2, 2, 2, 6, 6)
    optimizer = torch.optim.Adam(operator.parameters(), lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean() / y.square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert loss < 1e-4


def test_computing_features_again_gives_the_same_gradients():
    x = torch.randn(2, 3, 1, 9, 10, dtype=torch.float64)
    gradients = []
    for recompute in (False, True):
        operator = small(recompute=recompute)
        operator(x, 0.5).square().sum().backward()
        gradients.append([p.grad for p in operator.parameters()])
    assert all(same(a, b) for a, b in zip(*gradients, strict=True))


def test_precisions_agree():
    exact, x = small(known=2, in_channels=2), torch.randn(2, 2, 10, 12, dtype=torch.float64)
    single = small(known=2, in_channels=2).float()
    y = exact(x)
    assert single(x.float()).dtype == torch.float32
    assert (single(x.float()) - y).norm() < 1e-5 * y.norm()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = single(x.float())
    assert rounded.dtype == torch.float32
    assert (rounded - y).norm() < 3e-2 * y.norm()
    whole = single.bfloat16()(x.bfloat16())
    assert whole.dtype == torch.bfloat16
    assert (whole.double() - y).norm() < 3e-2 * y.norm()


def test_saves_and_loads_with_all_bits(tmp_path):
    operator = small(2, 2, divergence_free=True, lengths=[1.0, 2.0], centring="periodic", modes=[4, 6]).float()
    save_operator(operator, tmp_path / "model")
    x = torch.randn(1, 4, 2, 8, 12)
    assert torch.equal(load_operator(tmp_path / "model")(x, 0.2), operator(x, 0.2))


def test_recipes_name_it():
    operator = build_operator(
        "spatiotemporal_fourier",
        {"width": 5, "modes": 4, "centring": "periodic"},
        2,
        1,
        3,
        Boundary.parse("periodic", 3),
    )
    assert operator(torch.randn(1, 2, 6, 6, 6)).shape == (1, 1, 6, 6, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": 0}, "modes: 0"),
        ({"time_modes": 0}, "time_modes: 0"),
        ({"horizon": -1.0}, "horizon: -1.0"),
        ({"window": math.nan}, "window: nan"),
        ({"known": 2}, "in_channels: 1; 2 known frames of the state's 1 channels"),
        ({"known": 2, "residual": False}, "in_channels: 1; they must be 2 known frames"),
        ({"predicted": 2}, "out_channels: 1; they must be 2 predicted frames"),
        ({"divergence_free": True}, "a state of 1 channels in 2 dimensions is no vector field"),
        ({"centring": "face"}, "allowed are node"),
        ({"dimension": 5}, "allowed are 1, 2 and 3"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_a_vector_field_needs_a_periodic_box_with_edges():
    with pytest.raises(InputError, match="needs a periodic box"):
        small(2, 2, divergence_free=True, boundary="dirichlet")
    with pytest.raises(InputError, match=r"lengths: \[1.0\]"):
        small(2, 2, divergence_free=True, lengths=[1.0])


@pytest.mark.parametrize(
    ("shape", "lead", "spacing", "message"),
    [
        ((1, 2, 8, 8), None, None, "2 channels; the operator takes 1"),
        ((1, 4, 2, 8, 8), None, None, "4 frames of 2 channels; the operator takes one frame or more of 1"),
        ((1, 8), None, None, "2 axes of space"),
        ((2, 1, 8, 8), [0.1, 0.2, 0.3], None, r"lead_time: shape \(3,\)"),
        ((2, 5, 1, 8, 8), [[0.1], [0.2], [0.3]], None, "each of its 2 samples"),
        ((1, 1, 8, 8), 1.5, None, "0 to 1, its horizon; roll_out goes further"),
        ((1, 1, 8, 8), math.nan, None, "lead_time: .nan."),
        ((1, 5, 1, 8, 8), None, 0.0, "spacing: 0.0"),
    ],
)
def test_impossible_inputs_are_refused_in_one_sentence(shape, lead, spacing, message):
    given = torch.tensor(lead) if isinstance(lead, list) else lead
    with pytest.raises(InputError, match=message):
        small()(torch.randn(shape, dtype=torch.float64), given, spacing=spacing)
