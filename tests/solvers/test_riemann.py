"""Riemann problems: the exact solution obeys the jump conditions and invariants, the fluxes what they must."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.solvers.finite_volume import IdealGas, ShallowLayer, gas_fan, gas_star

GAMMA = 1.4
# (density, velocity, pressure) left and right; the first five are the classical tests of the literature.
TUBES = {
    "sod": ((1.0, 0.0, 1.0), (0.125, 0.0, 0.1)),
    "123": ((1.0, -2.0, 0.4), (1.0, 2.0, 0.4)),
    "left blast": ((1.0, 0.0, 1000.0), (1.0, 0.0, 0.01)),
    "right blast": ((1.0, 0.0, 0.01), (1.0, 0.0, 100.0)),
    "collision": ((5.99924, 19.5975, 460.894), (5.99242, -6.19633, 46.0950)),
    "lax": ((0.445, 0.698, 3.528), (0.5, 0.0, 0.571)),
    "moving contact": ((2.0, 0.3, 1.0), (0.5, 0.3, 1.0)),
}
states = st.tuples(st.floats(0.01, 10.0), st.floats(-3.0, 3.0), st.floats(0.01, 10.0))


def column(state: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor([state], dtype=torch.float64)


def conserved(state: torch.Tensor, gamma: float = GAMMA) -> torch.Tensor:
    r, u, p = state
    return torch.stack([r, r * u, p / (gamma - 1) + 0.5 * r * u**2])


def physical(state: torch.Tensor, gamma: float = GAMMA) -> torch.Tensor:
    r, u, p = state
    return torch.stack([r * u, r * u**2 + p, u * (gamma / (gamma - 1) * p + 0.5 * r * u**2)])


def ray(left: torch.Tensor, right: torch.Tensor, speed: float, gamma: float = GAMMA) -> torch.Tensor:
    return gas_fan(left, right, torch.full((1,), speed, dtype=torch.float64), gamma)[0][0]


@pytest.mark.parametrize("gamma", [1.4, 5 / 3])
@pytest.mark.parametrize("name", sorted(TUBES))
def test_waves_of_the_exact_solution_obey_the_jump_conditions_or_the_invariants(name: str, gamma: float) -> None:
    """Each outer wave is a shock that keeps mass, momentum and energy or a rarefaction of constant entropy."""
    left, right = (column(state) for state in TUBES[name])
    pressure, velocity = (float(v) for v in gas_star(left, right, gamma))
    for outer, sign in ((left[0], 1.0), (right[0], -1.0)):
        side = ray(left, right, velocity - sign * 1e-9 * max(1.0, abs(velocity)), gamma)
        assert float(side[2]) == pytest.approx(pressure, rel=1e-12)
        assert float(side[1]) == pytest.approx(velocity, rel=1e-12, abs=1e-12)
        if pressure > float(outer[2]) * (1 + 1e-12):
            jump, change = (
                physical(side, gamma) - physical(outer, gamma),
                conserved(side, gamma) - conserved(outer, gamma),
            )
            speed = float(jump[0] / change[0])
            torch.testing.assert_close(jump, speed * change, rtol=1e-11, atol=1e-11 * float(jump.abs().max()))
            # Lax: characteristics run into the shock.
            sound, behind = ((gamma * s[2] / s[0]).sqrt() for s in (outer, side))
            assert sign * float(outer[1]) - float(sound) > sign * speed > sign * velocity - float(behind)
        else:
            entropy = [float(s[2] / s[0] ** gamma) for s in (outer, side)]
            assert entropy[1] == pytest.approx(entropy[0], rel=1e-12)
            riemann = [float(s[1] + sign * 2 / (gamma - 1) * (gamma * s[2] / s[0]).sqrt()) for s in (outer, side)]
            assert riemann[1] == pytest.approx(riemann[0], rel=1e-12, abs=1e-12)


def test_star_state_of_two_equal_colliding_streams_is_that_of_the_closed_form() -> None:
    """Symmetric shocks of Mach number M against a wall: p*/p from the wall's jump conditions, a quadratic."""
    u, sound = 2.0, math.sqrt(GAMMA)
    pressure, velocity = gas_star(column((1.0, u, 1.0)), column((1.0, -u, 1.0)), GAMMA)
    mach = u / sound
    k = (GAMMA + 1) / 4 * mach
    strength = 1 + GAMMA * mach * (k + math.sqrt(1 + k**2))
    assert float(velocity) == pytest.approx(0.0, abs=1e-14)
    assert float(pressure) == pytest.approx(strength, rel=1e-13)


def test_star_state_of_two_equal_parting_streams_is_that_of_the_closed_form() -> None:
    u, sound = 1.0, math.sqrt(GAMMA)
    pressure, velocity = gas_star(column((1.0, -u, 1.0)), column((1.0, u, 1.0)), GAMMA)
    assert float(velocity) == pytest.approx(0.0, abs=1e-14)
    expected = (1 - (GAMMA - 1) / 2 * u / sound) ** (2 * GAMMA / (GAMMA - 1))
    assert float(pressure) == pytest.approx(expected, rel=1e-13)


@given(left=states, right=states, drift=st.floats(-5, 5))
@settings(max_examples=60, deadline=None)
def test_exact_solution_is_mirrored_and_carried_along_with_its_states(left, right, drift) -> None:
    a, b = column(left), column(right)
    pressure, velocity = gas_star(a, b, GAMMA)
    mirror = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    mirrored = gas_star(b * mirror, a * mirror, GAMMA)
    torch.testing.assert_close(mirrored[0], pressure, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(-mirrored[1], velocity, rtol=1e-11, atol=1e-11)
    moved = torch.tensor([0.0, drift, 0.0], dtype=torch.float64)
    carried = gas_star(a + moved, b + moved, GAMMA)
    torch.testing.assert_close(carried[0], pressure, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(carried[1] - drift, velocity, rtol=1e-10, atol=1e-10)


def test_inside_a_rarefaction_the_ray_is_a_characteristic() -> None:
    left, right = (column(state) for state in TUBES["sod"])
    sound = math.sqrt(GAMMA)
    for speed in torch.linspace(-sound + 1e-6, -0.08, 7).tolist():
        r, u, p = ray(left, right, speed)
        assert float(u - (GAMMA * p / r).sqrt()) == pytest.approx(speed, rel=1e-12)
        assert float(p / r**GAMMA) == pytest.approx(1.0, rel=1e-12)
        assert float(u + 5 * (GAMMA * p / r).sqrt()) == pytest.approx(5 * sound, rel=1e-12)


def test_streams_that_part_too_fast_leave_a_vacuum() -> None:
    left, right = column((1.0, -6.0, 0.4)), column((1.0, 6.0, 0.4))
    pressure, _ = gas_star(left, right, GAMMA)
    assert float(pressure) == 0.0
    edge = -6.0 + 5 * math.sqrt(GAMMA * 0.4)
    assert ray(left, right, edge + 0.01)[[0, 2]].tolist() == [0.0, 0.0]
    thin = ray(left, right, edge - 0.01)
    assert 0 < float(thin[0]) < 1e-10
    assert bool(ray(left, right, 0.0).isfinite().all())


@pytest.mark.parametrize("kind", ["hllc", "exact"])
@given(state=states, tangent=st.floats(-2, 2))
@settings(max_examples=30, deadline=None)
def test_flux_between_equal_states_is_that_of_the_state(kind, state, tangent) -> None:
    r, u, p = state
    both = column((r, tangent, u, p))
    flux, _, _ = IdealGas(GAMMA, kind).flux(both, both, 1)
    energy = p / (GAMMA - 1) + 0.5 * r * (u**2 + tangent**2)
    expected = column((r * u, r * u * tangent, r * u**2 + p, u * (energy + p)))
    torch.testing.assert_close(flux, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["hllc", "exact"])
@given(left=states, right=states)
@settings(max_examples=40, deadline=None)
def test_flux_of_the_mirrored_states_is_the_mirrored_flux(kind, left, right) -> None:
    gas, mirror = IdealGas(GAMMA, kind), torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    a, b = column(left), column(right)
    flux, _, fastest = gas.flux(a, b, 0)
    back, _, speed = gas.flux(b * mirror, a * mirror, 0)
    torch.testing.assert_close(back * torch.tensor([-1.0, 1.0, -1.0]), flux, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(speed, fastest, rtol=1e-12, atol=0)


@given(low=st.floats(0.01, 10), high=st.floats(0.01, 10), p=st.floats(0.1, 10), shear=st.floats(-2, 2))
@settings(max_examples=40, deadline=None)
def test_hllc_lets_nothing_through_a_contact_at_rest_to_the_last_bit(low, high, p, shear) -> None:
    flux, _, _ = IdealGas().flux(column((low, 0.0, shear, p)), column((high, 0.0, -shear, p)), 0)
    assert flux[0].tolist() == [0.0, p, 0.0, 0.0]


def test_hllc_is_close_to_the_exact_flux_where_states_are_close() -> None:
    """Both are the flux at the mean state to second order in the jump."""
    base = torch.tensor([1.0, 0.3, 0.2, 0.8], dtype=torch.float64)
    turn = torch.tensor([0.3, -0.2, 0.5, 0.4], dtype=torch.float64)
    gaps = []
    for size in (1e-2, 1e-3):
        left, right = (base - size * turn)[None], (base + size * turn)[None]
        gaps.append(
            float((IdealGas().flux(left, right, 0)[0] - IdealGas(riemann="exact").flux(left, right, 0)[0]).norm())
        )
    assert math.log10(gaps[0] / gaps[1]) > 1.9


@pytest.mark.parametrize("kind", ["hllc", "exact"])
def test_fluxes_are_differentiable(kind: str) -> None:
    gas = IdealGas(GAMMA, kind)  # type: ignore[arg-type]
    left = torch.tensor([[1.0, 0.3, 0.1, 1.0], [0.4, -0.9, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([[0.7, 0.2, -0.1, 0.6], [1.1, -0.4, 0.3, 0.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: gas.flux(a, b, 0)[0], (left, right))


def test_layer_flux_of_equal_states_over_a_step_holds_the_weight_of_the_water() -> None:
    """Still water over a step: nothing flows, and each side is pushed by the weight of its own depth."""
    layer = ShallowLayer(gravity=9.81)
    seen_left, seen_right, _ = layer.flux(column((2.0, 0.0, 0.0, 2.0)), column((0.5, 0.0, 0.0, 2.0)), 0)
    torch.testing.assert_close(seen_left, column((0.0, 0.5 * 9.81 * 4.0, 0.0, 0.0)))
    torch.testing.assert_close(seen_right, column((0.0, 0.5 * 9.81 * 0.25, 0.0, 0.0)))


def test_layer_flux_beside_a_dry_bed_or_between_two_is_finite_and_leaves_no_debt() -> None:
    layer = ShallowLayer()
    wet, dry = column((1.0, 0.0, 0.0, 1.0)), column((0.0, 0.0, 0.0, 0.0))
    out, _, speed = layer.flux(wet, dry, 0)
    assert float(out[0, 0]) > 0
    assert float(speed) >= 2.0
    none, _, _ = layer.flux(dry, dry, 0)
    assert none.abs().max() == 0.0
    # A shore higher than the surface is a wall.
    wall, shore, _ = layer.flux(wet, column((0.0, 0.0, 0.0, 1.5)), 0)
    assert wall[0].tolist() == [0.0, 0.5, 0.0, 0.0]
    assert float(shore.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IdealGas(1.0), "gamma = 1.0"),
        (lambda: IdealGas(1.4, "roe"), "hllc and exact"),  # type: ignore[arg-type]
        (lambda: ShallowLayer(0.0), "gravity = 0.0"),
        (lambda: ShallowLayer(dry=-1.0), "dry = -1.0"),
    ],
)
def test_impossible_laws_are_refused(make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()
