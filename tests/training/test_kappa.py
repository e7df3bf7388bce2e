"""K, ∂K and K* of every kind against each other (Fenchel and Young), and what can be computed in another way."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldwright.errors import InputError
from fieldwright.training.kappa import PROFILES, Group, Kappa, Norm, Separable, TopK, inner
from fieldwright.training.kappa_choice import KAPPAS, ByAxes, build_kappa, kappa_of
from fieldwright.training.kappa_sets import QUINTIC, Box, Simplex, Spectral, Support, orthogonal_factor


def disc(z: torch.Tensor) -> torch.Tensor:
    """The farthest point along z of the ball of radius 1 around (1, 0, 0, ...)."""
    centre = torch.zeros_like(z)
    centre.view(-1)[0] = 1
    return centre + z / z.norm().clamp_min(1e-300)


MODULUS = [Separable(name, 0.7, "one") for name in PROFILES]
NORMS = [Norm(1.5), Norm(2.0), Norm(4.0, "one"), Norm(math.inf), Group(), Group("one"), TopK(3)]
EXACT = [*MODULUS, *NORMS, Spectral(None), Spectral(None, "one")]
REAL = [Simplex(0.7, "one"), Box(0.5, 2.0), Box.between(torch.tensor(-1.0), torch.tensor(3.0)), Support(disc)]
COMPLEX_TOO = pytest.mark.parametrize("kappa", EXACT, ids=lambda k: k.kind)
ALL = pytest.mark.parametrize("kappa", [*EXACT, *REAL], ids=lambda k: k.kind)


def draw(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(4, 6, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@ALL
@pytest.mark.parametrize("seed", range(5))
def test_fenchel_and_young_are_equal_at_the_subgradient_and_only_there(kappa: Kappa, seed: int) -> None:
    z, other = draw(seed), draw(seed + 100)
    y = kappa.subgradient(z)
    assert float(kappa.value(z) + kappa.conjugate(y)) == pytest.approx(float(inner(y, z)), rel=1e-9, abs=1e-9)
    # Any other z gives K(z) + K*(y) >= <y, z>: y is a subgradient where the two are equal.
    assert float(kappa.value(other)) + float(kappa.conjugate(y)) - float(inner(y, other)) >= -1e-9


@COMPLEX_TOO
def test_complex_numbers_are_taken_by_their_moduli(kappa: Kappa) -> None:
    z = draw(0, torch.complex128)
    y = kappa.subgradient(z)
    assert float(kappa.value(z) + kappa.conjugate(y)) == pytest.approx(float(inner(y, z)), rel=1e-9)
    turn = torch.exp(torch.tensor(0.9j, dtype=torch.complex128))
    torch.testing.assert_close(kappa.subgradient(turn * z), turn * y)


@ALL
def test_subgradients_are_monotone_and_odd_where_they_say_so(kappa: Kappa) -> None:
    for seed in range(20):
        a, b = draw(seed), draw(seed + 50)
        assert float(inner(kappa.subgradient(a) - kappa.subgradient(b), a - b)) >= -1e-12
    same = torch.allclose(kappa.subgradient(-a), -kappa.subgradient(a), rtol=1e-9, atol=1e-12)
    assert same == kappa.odd


@ALL
def test_value_grows_along_its_subgradient_by_central_differences(kappa: Kappa) -> None:
    z, direction = draw(3), draw(4)
    h = 1e-6
    difference = (kappa.value(z + h * direction) - kappa.value(z - h * direction)) / (2 * h)
    assert float(difference) == pytest.approx(float(inner(kappa.subgradient(z), direction)), rel=1e-5, abs=1e-7)


@ALL
def test_subgradients_lie_in_the_constraint_set_and_a_far_point_does_not(kappa: Kappa) -> None:
    if not kappa.constraint():
        assert kappa.kind == "quadratic"
        assert kappa.gauges(1e6 * draw(0)).numel() == 0
        return
    assert float(kappa.excess(kappa.subgradient(draw(0)))) < 1e-9
    assert float(kappa.excess(1e3 * draw(0))) > 1
    assert float(kappa.conjugate(1e3 * draw(0))) == math.inf


@ALL
def test_a_step_toward_a_subgradient_lessens_the_excess_by_its_share(kappa: Kappa) -> None:
    y, share = 20 * draw(1), 0.1
    for seed in range(10):
        nearer = (1 - share) * y + share * kappa.subgradient(draw(seed))
        assert float(kappa.excess(nearer)) <= (1 - share) * float(kappa.excess(y)) * (1 + 1e-6) + 1e-9
        y = nearer


@pytest.mark.parametrize("kappa", [*NORMS, Box(0.5, 2.0)], ids=lambda k: k.kind)
def test_gauge_one_is_the_boundary_of_what_support_functions_bound(kappa: Kappa) -> None:
    """On the boundary of C some z has <y, z> = K(z); beyond it some z has more: K* is infinite."""
    y = kappa.subgradient(draw(2))
    assert float(kappa.gauges(y).max()) == pytest.approx(1, rel=1e-9)


def test_a_norm_agrees_with_its_dual_by_search() -> None:
    y = draw(5)
    kappa = Norm(1.5, "one")
    searched = max(float(inner(y, z) / kappa.value(z)) for z in (y.sgn() * y.abs() ** (k / 20) for k in range(1, 100)))
    assert float(kappa.gauges(y)) == pytest.approx(searched, rel=1e-3)


@pytest.mark.parametrize("kappa", [Norm(1.5), Norm(2.0), Group(), Spectral(None)], ids=lambda k: k.kind)
def test_matched_steps_have_the_root_mean_square_of_a_sign(kappa: Kappa) -> None:
    generator = torch.Generator().manual_seed(8)
    z = torch.randn(60, 60, dtype=torch.float64, generator=generator)
    assert float(kappa.subgradient(z).square().mean().sqrt()) == pytest.approx(1, rel=0.06)


@pytest.mark.parametrize("name", ["threshold", "huber", "relativistic", "tanh", "simplex"])
def test_in_units_of_the_mean_a_step_is_blind_to_the_scale(name: str) -> None:
    kappa, z = build_kappa({"kind": name, "epsilon": 0.4}), draw(6)
    assert isinstance(kappa, Kappa)
    torch.testing.assert_close(kappa.subgradient(1e-7 * z), kappa.subgradient(z))
    torch.testing.assert_close(kappa.at(z).subgradient(z), kappa.subgradient(z))
    assert not torch.allclose(kappa.at(z).subgradient(1e-7 * z), kappa.subgradient(z))


def test_the_distance_from_a_set_needs_only_its_oracle() -> None:
    kappa = Support(disc)
    y = torch.tensor([1.0, 4.0, 4.0, 2.0], dtype=torch.float64)
    assert float(kappa.excess(y)) == pytest.approx(5.0, rel=1e-6)  # |y - centre| = 6, radius 1
    assert float(kappa.excess(torch.tensor([1.2, 0.3, 0.0, 0.5], dtype=torch.float64))) == 0


def test_zero_has_a_subgradient_that_is_finite_and_small_enough() -> None:
    for kappa in EXACT:
        y = kappa.subgradient(torch.zeros(4, 6, dtype=torch.float64))
        assert bool(y.isfinite().all())
        assert float(kappa.excess(y)) <= 1e-12


def test_zero_tensors_survive_units_of_their_mean() -> None:
    for name in PROFILES:
        assert not Separable(name).subgradient(torch.zeros(3)).any()


@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_gram_form_equals_the_plain_newton_schulz_iteration(rows: int, columns: int, seed: int) -> None:
    matrices = torch.randn(3, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = matrices / matrices.flatten(1).norm(dim=1)[:, None, None]
    a, b, c = QUINTIC
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    torch.testing.assert_close(orthogonal_factor(matrices), x, rtol=1e-8, atol=1e-9)


def test_singular_vectors_are_kept_and_singular_values_moved_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(4, 24, 216, dtype=torch.float64, generator=generator)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    middle = u.mT @ orthogonal_factor(matrices) @ v.mT
    values = middle.diagonal(dim1=1, dim2=2)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25
    assert float((middle - torch.diag_embed(values)).abs().max()) < 1e-10


def test_complex_matrices_are_turned_with_the_basis_and_reach_unit_singular_values() -> None:
    generator = torch.Generator().manual_seed(6)
    matrix = torch.randn(1, 5, 9, dtype=torch.cdouble, generator=generator)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.cdouble, generator=generator))[0]
    factor = orthogonal_factor(matrix)
    values = torch.linalg.svdvals(factor)
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.25
    torch.testing.assert_close(orthogonal_factor(turn @ matrix), turn @ factor)


@pytest.mark.parametrize("name", [name for name in KAPPAS if name != "support"])
def test_settings_build_the_same_function_again(name: str) -> None:
    given_settings = {"lp": {"p": 3.0}, "topk": {"k": 2}}.get(name, {})
    kappa = build_kappa({"kind": name, **given_settings})
    assert isinstance(kappa, Kappa)
    again = build_kappa(kappa.settings())
    assert isinstance(again, Kappa)
    assert again.settings() == kappa.settings()
    assert torch.equal(again.subgradient(draw(7)), kappa.subgradient(draw(7)))


def test_two_names_share_parameters_by_their_axes() -> None:
    both = build_kappa("spectral+sign")
    assert isinstance(both, ByAxes)
    assert kappa_of(both, torch.ones(2, 3)) == Spectral()
    assert kappa_of(both, torch.ones(3)) == Separable("sign")
    assert build_kappa(both.settings()) == both


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("sing", "sign"),
        ({"kind": "huber", "epsilon": -1.0}, "positive"),
        ({"kind": "huber", "delta": 1.0}, "delta"),
        ({"kind": "huber", "unit": "median"}, "mean, one"),
        ({"kind": "lp", "p": 1.0}, "more than 1"),
        ({"kind": "topk", "k": 0}, "at least 1"),
        ({"kind": "spectral", "rounds": 0}, "at least 1"),
        ({"kind": "group", "scale": "big"}, "rms, one"),
        ({"kind": "box", "radius": 0.0}, "positive"),
        ("sign+", "kappa"),
        ({"matrices": "sign+sign", "vectors": "sign"}, "one K each"),
    ],
)
def test_what_is_no_function_is_refused_in_a_sentence(choice, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_kappa(choice)


@pytest.mark.parametrize("kappa", [Simplex(), Box()], ids=lambda k: k.kind)
def test_sets_of_ordered_numbers_refuse_complex_ones(kappa: Kappa) -> None:
    with pytest.raises(InputError, match="complex"):
        kappa.subgradient(draw(0, torch.complex128))
