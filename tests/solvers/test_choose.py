"""The front door: what it refuses, what it chooses, and how it mends."""

from dataclasses import replace

import pytest
import torch
from assembled import convection, diffusion, exact, fields, helmholtz, two_phase
from components import complex_helmholtz, elasticity

from fieldwright.errors import InputError, SolverError
from fieldwright.progress import Reporter
from fieldwright.solvers import METHODS, choose, compilation, solve
from fieldwright.solvers.methods import TABLE

OF_ANY_MATRICES = [name for name in METHODS if name not in ("transform", "same-matrix")]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_meets_the_tolerance_it_reports(method):
    f = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a = two_phase((16, 16), 3, 0, 4.0) if method in OF_ANY_MATRICES else torch.ones_like(f)
    system = diffusion(a, f)
    for rtol in (1e-4, 1e-10):
        solution = solve(system, rtol=rtol, method=method)
        assert solution.failed == []
        assert torch.all(system.relative_residual(solution.values) <= rtol)
        assert torch.allclose(solution.residual, system.relative_residual(solution.values), atol=1e-12)
        assert solution.method in METHODS
        assert solution.method != "auto"


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_right_hand_side_has_the_solution_zero_even_from_a_guess(method):
    f = torch.ones(2, 8, 8, dtype=torch.float64)
    f[1] = 0.0
    a = fields((8, 8), 2, 0, 2.0) if method in OF_ANY_MATRICES else torch.ones_like(f)
    system = diffusion(a, f)
    solution = solve(system, method=method, guess=torch.ones_like(f))
    assert torch.all(solution.values[1] == 0)
    assert solution.failed == []


@pytest.mark.parametrize("method", ["multigrid", "spectral"])
def test_a_guess_saves_iterations(method):
    system = diffusion(two_phase((32, 32), 3, 0, 4.0))
    cold = solve(system, rtol=1e-8, method=method)
    warm = solve(system, rtol=1e-8, method=method, guess=(cold.values * 1.001).float().double())
    assert torch.all(warm.iterations < cold.iterations)
    assert warm.failed == []


def test_auto_follows_the_kind_of_system():
    assert solve(convection(12, 2)).method == "direct"
    assert solve(helmholtz((12, 12), 2)).method == "direct"
    assert solve(complex_helmholtz(8, 2)).method == "direct"
    assert solve(elasticity(8, 2)).method == "direct"
    assert solve(diffusion(fields((16, 16, 16), 2, 0, 2.0))).method == "multigrid"
    assert solve(diffusion(torch.ones(9, 64, 64, dtype=torch.float64))).method in ("transform", "same-matrix")


def test_auto_says_in_one_line_what_it_chose_and_what_each_method_would_take():
    note = solve(diffusion(two_phase((16, 16), 4, 0, 4.0))).notes[-1]
    assert note.startswith(("multigrid: by rule (4 systems: ", "direct: by rule (4 systems: "))
    told = note.split("(4 systems: ")[1]
    assert "multigrid " in told
    assert "direct " in told
    assert "\n" not in note


def test_a_choice_can_be_pinned():
    system = diffusion(two_phase((16, 16), 20, 0, 4.0))
    choice = choose(system, rtol=1e-6)
    values = solve(system, rtol=1e-6, method=choice.method).values
    assert torch.equal(solve(system.select([7]), rtol=1e-6, method=choice.method).values, values[7:8])


def test_choice_without_a_pilot_is_the_same_every_time():
    system = diffusion(two_phase((16, 16), 20, 0, 4.0))
    assert choose(system, pilot=False) == choose(system, pilot=False)
    assert choose(system, pilot=False).rates == {}


def test_a_sample_the_method_cannot_solve_is_mended_and_counted(monkeypatch):
    system = diffusion(two_phase((16, 16), 4, 0, 4.0))
    monkeypatch.setitem(TABLE, "spectral", replace(TABLE["spectral"], solve=_lame))
    solution = solve(system, method="spectral")
    assert solution.failed == []
    assert solution.fallbacks == 2
    assert solution.notes == ("2 samples, the first 1, left unsolved by spectral, went to direct",)
    assert torch.allclose(solution.values, exact(system), rtol=1e-7)


def test_a_matrix_wrongly_called_definite_is_solved_by_elimination():
    system = replace(helmholtz((16, 16), 3, wavenumber=12.0), kind="spd")
    for method in ("multigrid", "spectral"):
        solution = solve(system, method=method)
        assert solution.failed == []
        assert solution.fallbacks == 3
        assert torch.allclose(solution.values, exact(system), rtol=0, atol=1e-6 * float(exact(system).abs().max()))


def test_a_singular_sample_is_reported_and_its_neighbours_are_solved():
    system = diffusion(torch.ones(3, 6, 6, dtype=torch.float64))
    lost = diffusion(torch.ones(1, 6, 6, dtype=torch.float64), walls="neumann")
    coefficients = system.coefficients.clone()
    coefficients[1] = lost.coefficients[0]
    for method in ("multigrid", "spectral", "direct", "scipy"):
        solution = solve(replace(system, coefficients=coefficients), method=method)
        assert solution.failed == [1]
        assert "unsolved: sample 1 (residual " in solution.notes[-1]


def _lame(system, *, rtol, guess=None, max_iterations=None):
    """A solver that returns NaN for the second sample and zero for the fourth."""
    from fieldwright.solvers.reference import reference

    solution = reference(system, rtol=rtol)
    values = solution.values.clone()
    values[1], values[3] = torch.nan, 0.0
    residual = system.relative_residual(values)
    return replace(solution, values=values, residual=residual, converged=residual <= rtol)


def test_a_limit_on_iterations_is_not_mended():
    system = diffusion(two_phase((32, 32), 3, 0, 4.0))
    solution = solve(system, method="spectral", max_iterations=2)
    assert solution.failed == [0, 1, 2]
    assert solution.fallbacks == 0


def test_without_walls_solutions_have_mean_zero():
    f = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = diffusion(fields((9, 8), 2, 0, 4.0), f, "neumann")
    for method in ("spectral", "direct", "scipy"):
        solution = solve(system, method=method)
        assert solution.failed == []
        assert float(solution.values.flatten(1).mean(1).abs().max()) < 1e-12 * float(solution.values.abs().max())


def test_gradients_and_single_precision_do_not_get_in():
    system = diffusion(fields((8, 8), 2, 0, 2.0).requires_grad_())
    assert not solve(system).values.requires_grad
    single = replace(system, coefficients=system.coefficients.detach().float(), rhs=system.rhs.float())
    assert solve(single).values.dtype == torch.float64


def test_an_empty_batch_is_solved():
    system = diffusion(fields((8, 8), 2, 0, 2.0)).select(slice(0, 0))
    assert solve(system).values.shape == (0, 8, 8)


def _spd():
    return diffusion(fields((8, 8), 3, 0, 2.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gauss"}, "no method 'gauss'; there are auto, multigrid"),
        ({"rtol": 0.0}, "rtol = 0.0"),
        ({"rtol": float("nan")}, "rtol = nan"),
        ({"max_iterations": -1}, "max_iterations = -1"),
        ({"guess": torch.zeros(3, 8, 9, dtype=torch.float64)}, "guess of shape"),
        ({"guess": torch.full((3, 8, 8), torch.nan, dtype=torch.float64)}, "guess of sample 0"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        solve(_spd(), **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["coefficients", "rhs"])
def test_numbers_that_are_not_finite_are_refused_by_sample(value, where):
    system = _spd()
    getattr(system, where)[2, 0] = value
    with pytest.raises(SolverError, match="sample 2"):
        solve(system)


def test_systems_that_do_not_fit_are_refused_in_one_line():
    with pytest.raises(SolverError, match="'spectral' does not fit"):
        solve(convection(8, 1), method="spectral")
    with pytest.raises(SolverError, match="'multigrid' does not fit"):
        solve(convection(8, 1), method="multigrid")
    negative = _spd()
    negative.coefficients[1] *= -1
    with pytest.raises(SolverError, match="sample 1 is called positive definite"):
        solve(negative)
    unbalanced = replace(diffusion(fields((8, 8), 1, 0, 2.0), walls="neumann"), rhs=torch.ones(1, 8, 8).double())
    with pytest.raises(SolverError, match="right-hand side with mean 1"):
        solve(unbalanced)


def test_the_first_compilation_is_announced_once(monkeypatch):
    notices: list[str] = []
    reporter = Reporter()
    monkeypatch.setattr(Reporter, "notice", lambda self, text: notices.append(text))
    monkeypatch.setattr(compilation, "_compiled", lambda name: False)
    compilation.announce_compilation(reporter, "direct")
    compilation.announce_compilation(reporter, "spectral")
    assert len(notices) == 1
    assert "direct" in notices[0]
    monkeypatch.undo()
    solve(convection(8, 1), method="direct")
    assert not compilation.needs_compilation("direct")
