"""MgNO: the published size, symmetries per boundary condition, live parameters, any grid."""

import pytest
import torch

from fieldwright.errors import InputError
from fieldwright.operators import MultigridOperator, parameter_count


def small(**settings) -> MultigridOperator:
    return MultigridOperator(2, 2, **{"width": 5, "layers": 2, "levels": 3, **settings}).double()


def test_published_darcy_configuration_has_the_published_parameter_count():
    operator = MultigridOperator(1, 1, width=24, layers=4, levels=6)
    assert parameter_count(operator) == 572_661
    assert len(list(operator.parameters())) == 121


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("restriction_size", [3, 4])
def test_periodic_axis_commutes_with_shifts(axis, restriction_size):
    boundary = ["dirichlet", "dirichlet"]
    boundary[axis] = "periodic"
    torch.manual_seed(0)
    operator = MultigridOperator(1, 1, boundary=boundary, levels=4, restriction_size=restriction_size)
    x = torch.randn(2, 1, 32, 32)
    shifted = operator(x.roll(8, axis + 2)) - operator(x).roll(8, axis + 2)
    other = operator(x.roll(8, 3 - axis)) - operator(x).roll(8, 3 - axis)
    assert shifted.norm() < 1e-5 * operator(x).norm()
    assert other.norm() > 1e-3 * operator(x).norm()


@pytest.mark.parametrize("sides", [("dirichlet", "dirichlet"), ("neumann", "dirichlet"), ("periodic", "periodic")])
@pytest.mark.parametrize("rule", ["zero", "odd"])
@pytest.mark.parametrize(("centring", "rows", "restriction_size"), [("cell", 16, 4), ("node", 17, 3)])
def test_mirrored_problem_has_the_mirrored_answer(sides, rule, centring, rows, restriction_size):
    if sides[0] == "periodic" and centring == "node":
        pytest.skip("a periodic axis has no wall points")
    settings = {"dirichlet_rule": rule, "centring": centring, "restriction_size": restriction_size}
    operator = small(boundary=[list(sides), "neumann"], **settings)
    mirrored = small(boundary=[list(sides[::-1]), "neumann"], **settings)
    cycles = {n: w.flip(2) if n.startswith("cycles") else w for n, w in operator.state_dict().items()}
    mirrored.load_state_dict(cycles)
    x = torch.randn(1, 2, rows, 12, dtype=torch.float64)
    if centring == "node":
        # The 4-point prolongation is centred between points: a node-centred grid keeps the mirror where its taps do.
        with torch.no_grad():
            for name, weight in operator.named_parameters():
                if "prolong" in name:
                    weight[:, :, 3] = 0
            reflected = {n: w.clone() for n, w in operator.state_dict().items()}
            for name, weight in reflected.items():
                if "prolong" in name:
                    reflected[name] = torch.cat((weight[:, :, :3].flip(2), torch.zeros_like(weight[:, :, 3:])), 2)
                elif name.startswith("cycles"):
                    reflected[name] = weight.flip(2)
            mirrored.load_state_dict(reflected)
    assert torch.allclose(mirrored(x.flip(2)), operator(x).flip(2), atol=1e-12)


@pytest.mark.parametrize("restrict_residual", [False, True])
@pytest.mark.parametrize("smoothing", [None, [[2, 1], [1, 1], [2, 0]]])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_every_parameter_has_a_gradient_and_changes_the_output(restrict_residual, smoothing, boundary):
    operator = small(restrict_residual=restrict_residual, smoothing=smoothing, boundary=boundary)
    x = torch.randn(2, 2, 16, 12, dtype=torch.float64)
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


@pytest.mark.parametrize("shape", [(37,), (16, 16), (33, 50), (1, 9), (9, 12, 7)])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_grids_of_any_size_and_dimension(shape, boundary):
    operator = small(dimension=len(shape), boundary=boundary)
    outputs = operator(torch.randn(2, 2, *shape, dtype=torch.float64))
    assert outputs.shape == (2, 2, *shape)
    assert outputs.is_contiguous()
    assert outputs.isfinite().all()


def test_samples_of_a_batch_do_not_see_each_other():
    operator, x = small(), torch.randn(3, 2, 16, 16, dtype=torch.float64)
    assert torch.allclose(operator(x)[1:2], operator(x[1:2]), atol=1e-13)


@pytest.mark.parametrize("centring", ["node", "cell"])
def test_output_vanishes_at_dirichlet_walls_when_asked_to(centring):
    operator = small(vanish_at_walls=True, boundary=[["dirichlet", "neumann"], "dirichlet"], centring=centring)
    x = torch.randn(1, 2, 65, 65, dtype=torch.float64)
    free = small(boundary=[["dirichlet", "neumann"], "dirichlet"], centring=centring)
    free.load_state_dict(operator.state_dict())
    factor = (operator(x) / free(x))[0, 0]
    i = torch.arange(65, dtype=torch.float64)
    line = i / 64 if centring == "node" else (i + 0.5) / 65
    assert torch.allclose(factor, line[:, None] * 4 * line * (1 - line), atol=1e-12)
    if centring == "node":
        edge = operator(x)[..., 0, :], operator(x)[..., 0], operator(x)[..., -1]
        assert all(not side.any() for side in edge)


def test_overfits_one_batch():
    torch.manual_seed(0)
    operator = MultigridOperator(1, 1, width=12, layers=2, levels=4)
    x, y = torch.randn(2, 2, 1, 16, 16)
    optimizer = torch.optim.Adam(operator.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (operator(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.02


def test_bfloat16_autocast_returns_the_inputs_type_and_nearly_their_values():
    torch.manual_seed(0)
    operator, x = MultigridOperator(1, 1, layers=2, levels=3), torch.randn(1, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = operator(x)
    assert outputs.dtype == torch.float32
    assert torch.allclose(outputs, operator(x), atol=0.03 * outputs.abs().max().item())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width: 0; it must be a positive integer"),
        ({"levels": 2, "smoothing": [[1, 0]]}, "each of the 2 levels"),
        ({"activation": "swish"}, "there are gelu"),
        ({"boundary": "open"}, "allowed are dirichlet"),
        ({"dimension": 4}, "allowed are 1, 2 and 3"),
        ({"centring": "face"}, "allowed are node"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        small(**settings)


def test_unusable_inputs_are_refused():
    operator = small()
    with pytest.raises(InputError, match="have 3 channels"):
        operator(torch.randn(1, 3, 8, 8, dtype=torch.float64))
    with pytest.raises(InputError, match="2 axes of space"):
        operator(torch.randn(1, 2, 8, dtype=torch.float64))
    with pytest.raises(InputError, match="lead_time"):
        operator(torch.randn(1, 2, 8, 8, dtype=torch.float64), 0.5)
