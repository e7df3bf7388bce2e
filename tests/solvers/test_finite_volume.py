"""Finite volumes: limiters, walls, positivity, and compiled sweeps that give what the tensor sweeps give."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.solvers.finite_volume import (
    LIMITERS,
    ConservationLaw,
    IdealGas,
    Scheme,
    ShallowLayer,
    half_slope,
    hancock,
    parse_walls,
    with_ghosts,
)

LIMITED = [name for name in LIMITERS if name != "central"]
PERIODIC, MIXED, SWAPPED = ("periodic", "periodic"), ("outflow", "reflecting"), ("reflecting", "outflow")


def waves(n: int, dimension: int, law: ConservationLaw, batch: int = 1) -> torch.Tensor:
    """Smooth primitive fields that differ from sample to sample; a layer gets an uneven surface over a bottom."""
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 * math.pi
    y = x if dimension == 2 else torch.tensor([0.4], dtype=torch.float64)
    samples = []
    for i in range(batch):
        a, b = torch.meshgrid(x + 0.3 * i, y - 0.7 * i, indexing="ij")
        last = 1 + 0.2 * torch.cos(a + b) + 0.3 * i
        fields = [1 + 0.3 * torch.sin(a) * torch.cos(b), 0.4 * torch.cos(a + b), 0.3 * torch.sin(a - 2 * b), last]
        if isinstance(law, ShallowLayer):
            fields[3] = fields[0] + 0.2 * fields[3] ** 2
        samples.append(torch.stack(fields if dimension == 2 else [fields[0], fields[1], fields[3]]))
    found = torch.stack(samples)
    return found if dimension == 2 else found[..., 0]


def scheme(law: ConservationLaw, n: int, walls: tuple, limiter: str = "monotonized") -> Scheme:
    return Scheme(law, walls, (1 / n, 1.3 / n)[: len(walls)], limiter)  # type: ignore[arg-type]


@given(values=st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_limited_slopes_keep_edges_between_the_neighbours_and_flat_at_extrema(values) -> None:
    below, here, above = (torch.tensor([v], dtype=torch.float64) for v in values)
    for limiter in LIMITED:
        slope = half_slope(limiter, below, here, above)  # type: ignore[arg-type]
        for edge in (here - slope, here + slope):
            assert min(values) - 1e-9 <= float(edge) <= max(values) + 1e-9
        if (values[1] - values[0]) * (values[2] - values[1]) <= 0:
            assert float(slope) == 0.0
        mirrored = half_slope(limiter, above, here, below)  # type: ignore[arg-type]
        assert float(mirrored) == -float(slope)


def test_limiters_are_exact_on_straight_lines_and_ordered_by_steepness() -> None:
    line = [torch.tensor([v], dtype=torch.float64) for v in (1.0, 3.0, 5.0)]
    assert all(float(half_slope(limiter, *line)) == 1.0 for limiter in LIMITERS)  # type: ignore[arg-type]
    bent = [torch.tensor([v], dtype=torch.float64) for v in (0.0, 1.0, 4.0)]
    found = {limiter: float(half_slope(limiter, *bent)) for limiter in LIMITERS}  # type: ignore[arg-type]
    assert found == {"minmod": 0.5, "van-leer": 0.75, "monotonized": 1.0, "central": 1.0}


@pytest.mark.parametrize("limiter", LIMITED)
def test_total_variation_of_an_advected_profile_never_grows(limiter: str) -> None:
    """u_t + u_x = 0 by limited upwind slopes and two-stage steps of half a cell: TVD after Harten."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(64, dtype=torch.float64, generator=generator).round()
    u[20:40] = torch.linspace(0, 3, 20).double()

    def euler(u: torch.Tensor, share: float) -> torch.Tensor:
        upper = u + share * half_slope(limiter, u.roll(1), u, u.roll(-1))  # type: ignore[arg-type]
        return u - 0.5 * (upper - upper.roll(1))

    def variations(u: torch.Tensor, share: float) -> list[float]:
        found = [float((u - u.roll(1)).abs().sum())]
        for _ in range(200):
            u = 0.5 * (u + euler(euler(u, share), share))
            found.append(float((u - u.roll(1)).abs().sum()))
        return found

    limited, upwind = variations(u, 1.0), variations(u, 0.0)
    assert all(later <= now + 1e-12 for now, later in itertools.pairwise(limited))
    assert limited[-1] > 1.5 * upwind[-1]


def test_ghosts_are_those_of_each_kind_of_wall() -> None:
    fields = torch.arange(1.0, 13.0, dtype=torch.float64).reshape(1, 3, 4)  # density, velocity, pressure
    around = with_ghosts(fields, 0, ("periodic", "periodic"))[0]
    assert around[0].tolist() == [3, 4, 1, 2, 3, 4, 1, 2]
    around = with_ghosts(fields, 0, ("outflow", "reflecting"))[0]
    assert around[0].tolist() == [1, 1, 1, 2, 3, 4, 4, 3]
    assert around[1].tolist() == [5, 5, 5, 6, 7, 8, -8, -7]
    around = with_ghosts(fields, 0, ("reflecting", "outflow"))[0]
    assert around[1].tolist() == [-6, -5, 5, 6, 7, 8, 8, 8]
    assert around[2].tolist() == [10, 9, 9, 10, 11, 12, 12, 12]


@pytest.mark.parametrize("law", [IdealGas(5 / 3), ShallowLayer(2.0, 1e-6)], ids=["gas", "layer"])
@pytest.mark.parametrize("size", [16, 19])
@pytest.mark.parametrize(
    "walls",
    [(PERIODIC,), (MIXED,), (SWAPPED,), (PERIODIC, MIXED), (SWAPPED, PERIODIC), (MIXED, SWAPPED)],
)
def test_compiled_sweeps_give_what_tensor_sweeps_give(law: ConservationLaw, size: int, walls: tuple) -> None:
    for limiter in LIMITERS if len(walls) == 2 and size == 19 else ["monotonized"]:
        plan = scheme(law, size, walls, limiter)
        fields = waves(size, len(walls), law, batch=2)
        expected = plan.march_tensors(fields, 0.04, 2)
        assert float((expected[:, 0] - fields).abs().max()) > 0.01
        torch.testing.assert_close(plan.march_lanes(fields, 0.04, 2), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [96, 97, 99, 102, 103])
def test_compiled_sweeps_hang_over_rows_of_any_length_without_a_trace(size: int) -> None:
    """A shock tube from rest, whose first pair of steps is too long and must be taken again."""
    high = torch.arange(size)[None] < size // 2
    fields = torch.where(high, torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[0.125], [0.0], [0.1]])).double()[
        None
    ]
    plan = scheme(IdealGas(), size, (MIXED,))
    torch.testing.assert_close(
        plan.march_lanes(fields, 0.1, 1), plan.march_tensors(fields, 0.1, 1), rtol=1e-12, atol=1e-13
    )
    square = fields[..., None].expand(1, 3, size, 19)
    fields = torch.cat([square[:, :1], torch.zeros_like(square[:, :1]), square[:, 1:]], 1)
    across, along = scheme(IdealGas(), size, (MIXED, SWAPPED)), fields.transpose(2, 3).contiguous()
    for turned in (fields, along):
        found, expected = across.march_lanes(turned, 0.01, 1), across.march_tensors(turned, 0.01, 1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("law", [IdealGas(), ShallowLayer()], ids=["gas", "layer"])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_sample_never_depends_on_its_neighbours_even_where_one_of_them_fails(
    law: ConservationLaw, compiled: bool
) -> None:
    plan = scheme(law, 12, (PERIODIC, MIXED))
    march = plan.march_lanes if compiled else plan.march_tensors
    fields = waves(12, 2, law, batch=3)
    fields[1, 0, 3, 3] = -1.0
    together = march(fields, 0.05, 2)
    assert bool(together[1].isnan().all())
    for i in (0, 2):
        assert torch.equal(march(fields[i : i + 1], 0.05, 2)[0], together[i])


def test_least_steps_bound_the_size_of_a_step() -> None:
    law = IdealGas()
    plan = scheme(law, 16, (PERIODIC,))
    fields = waves(16, 1, law)
    coarse, fine, finest = (plan.march(fields, 0.01, 1, least_steps=k) for k in (1, 8, 16))
    assert float((coarse - fine).abs().max()) > 1e-6
    # With the step prescribed, halving it changes little more than the difference that is left.
    assert float((fine - finest).abs().max()) < 0.5 * float((coarse - finest).abs().max())


def random_states(batch: int, cells: int, seed: int, decades: float) -> torch.Tensor:
    """States of a gas whose density and pressure vary by many orders of magnitude from cell to cell."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(batch, 4, cells, dtype=torch.float64, generator=generator)
    density, pressure = 10 ** (decades * (draws[:, 0] - 1)), 10 ** (decades * (draws[:, 3] - 1))
    return torch.stack([density, 20 * (draws[:, 1] - 0.5), 20 * (draws[:, 2] - 0.5), pressure], 1)


@pytest.mark.parametrize("limiter", LIMITED)
def test_euler_steps_of_the_limited_scheme_keep_any_gas_positive(limiter: str) -> None:
    """Σ Δt a/h <= 0.2, with a the fastest wave at a cell's edges, as `IdealGas.edges` promises: to Mach 100."""
    law = IdealGas()
    plan = Scheme(law, (PERIODIC,), (1.0,), limiter)  # type: ignore[arg-type]
    fields = random_states(200, 64, 1, 4.0)
    around = with_ghosts(fields, 0, PERIODIC)  # type: ignore[arg-type]
    below, here, above = (around.narrow(2, k, 66) for k in range(3))
    low, high = law.edges(here, half_slope(limiter, below, here, above))  # type: ignore[arg-type]
    assert float(torch.minimum(low, high)[:, [0, -1]].min()) > 0
    inner, outer = law.flux(low, high, 0)[2], law.flux(high[..., :-1], low[..., 1:], 0)[2]
    step = 0.2 / torch.maximum(inner.amax(1), outer.amax(1))
    # The scheme of one axis alone on a gas that has a velocity across it too.
    state = law.conserved(fields)
    later = state + step[:, None, None] * plan.rate(state)
    assert float(law.soundness(later).min()) > 0


def test_edges_keep_the_mean_momentum_of_a_cell() -> None:
    law = IdealGas()
    fields = random_states(5, 16, 2, 1.0)
    slopes = half_slope("van-leer", fields.roll(1, 2), fields, fields.roll(-1, 2))
    low, high = law.edges(fields, slopes)
    mean = 0.5 * (law.conserved(low) + law.conserved(high))[:, 1:-1]
    torch.testing.assert_close(mean, law.conserved(fields)[:, 1:-1], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_march_survives_states_of_mach_30_in_two_dimensions(seed: int) -> None:
    """The pair of steps that fails is taken again with half the step; mass and energy stay."""
    law = IdealGas()
    plan = Scheme(law, (PERIODIC, PERIODIC), (1 / 16, 1 / 16), "monotonized")
    fields = random_states(1, 256, seed, 2.0).reshape(1, 4, 16, 16)
    later = plan.march(fields, 0.02, 1)[:, 0]
    assert float(torch.minimum(later[:, 0], later[:, -1]).min()) > 0
    before, after = (law.conserved(f).sum((2, 3)) for f in (fields, later))
    torch.testing.assert_close(after[:, [0, 3]], before[:, [0, 3]], rtol=1e-12, atol=0)


def test_a_sample_that_needs_too_many_steps_is_given_up() -> None:
    law = IdealGas()
    found = hancock.march(
        law, law.conserved(waves(16, 1, law)), 1.0, walls=(PERIODIC,), spacing=(1 / 16,), limiter="minmod", cfl=0.8,
        least_steps=1, most_steps=4,
    )  # type: ignore[arg-type]  # fmt: skip
    assert bool(found.isnan().all())


@pytest.mark.parametrize(
    ("walls", "words"),
    [
        ("open", "allowed are periodic, outflow, reflecting"),
        (["periodic"], "per axis"),
        ([["periodic", "outflow"], "outflow"], "periodic at both ends"),
        ([["outflow"], "outflow"], "one word or pair per axis"),
    ],
)
def test_impossible_walls_are_refused_by_name(walls: object, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_walls("box", walls, 2)
    assert str(caught.value).startswith("box: walls = ")
