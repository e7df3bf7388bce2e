"""Batches solved as sorted sequences: every system, in its place, the same bits on any number of threads."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from assembled import convection, diffusion, exact, fields, helmholtz, two_phase

from fieldwright.errors import InputError, SolverError
from fieldwright.solvers import StencilSystem
from fieldwright.solvers.krylov import StencilMatrices, gcro_dr, gmres, recycled_gcro_dr, solve_sequence, supports_gmres
from fieldwright.solvers.krylov.sequence import PIECE, PRECONDITIONERS, default_preconditioner, system_parameters
from fieldwright.solvers.ordering import path_length

SYSTEMS = {
    "diffusion": diffusion(two_phase((12, 14), 5, 0, 4.0)),
    "convection": convection(12, 5),
    "helmholtz": helmholtz((12, 12), 5, wavenumber=9.0),
    "line": diffusion(fields((30,), 5, 0, 9.0)),
    "box": diffusion(fields((6, 5, 4), 5, 0, 9.0)),
}


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS.keys())
def system(request):
    return request.param


@pytest.mark.parametrize("method", [gmres, gcro_dr])
def test_every_system_is_solved_in_its_own_place(system, method):
    solution = method(system, rtol=1e-10)
    assert solution.failed == []
    assert torch.all(system.relative_residual(solution.values) <= 1e-10)
    assert torch.allclose(solution.values, exact(system), rtol=1e-6, atol=1e-8 * float(exact(system).abs().max()))
    assert solution.method == method.__name__.replace("_", "-")
    assert torch.all(solution.iterations > 0)


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_every_preconditioner_solves(preconditioner):
    system = SYSTEMS["diffusion"]
    solution, report = solve_sequence(system, rtol=1e-9, preconditioner=preconditioner)
    assert solution.failed == []
    assert torch.allclose(solution.values, exact(system), rtol=1e-6)
    assert np.all(report.products >= solution.iterations.numpy())


@pytest.mark.parametrize("preconditioner", ["none", "auto"])
@pytest.mark.parametrize("kind", [lambda: convection(10, 40), lambda: diffusion(two_phase((12, 12), 40, 0, 4.0))])
def test_bits_do_not_depend_on_the_number_of_threads(kind, preconditioner):
    system = kind()
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(solve_sequence(system, rtol=1e-8, piece=8, preconditioner=preconditioner))
    finally:
        torch.set_num_threads(before)
    for solution, report in found[1:]:
        assert torch.equal(solution.values, found[0][0].values)
        assert torch.equal(solution.iterations, found[0][0].iterations)
        assert np.array_equal(report.recycling, found[0][1].recycling)


@pytest.mark.parametrize("name", ["convection", "diffusion", "box"])
def test_without_recycling_a_sample_does_not_depend_on_its_batch(name):
    system = SYSTEMS[name]
    together = gmres(system, rtol=1e-8).values
    assert torch.equal(gmres(system.select([3, 1]), rtol=1e-8).values, together[[3, 1]])


def test_the_sequence_is_sorted_and_cut_by_the_batch_alone():
    system = diffusion(fields((8, 8), 3 * PIECE + 5, 0, 9.0))
    _, report = solve_sequence(system, rtol=1e-6, preconditioner="none")
    assert sorted(report.order) == list(range(system.batch))
    assert len(report.pieces) == len(report.recycling) == 3
    assert np.all(np.diff([*report.pieces, system.batch]) >= PIECE)
    diagonals = system_parameters(system)
    assert path_length(diagonals, report.order) < path_length(diagonals, np.arange(system.batch))
    _, unsorted = solve_sequence(system, rtol=1e-6, preconditioner="none", ordering="none")
    assert unsorted.order.tolist() == list(range(system.batch))


def test_parameters_of_ones_own_decide_the_order():
    system = SYSTEMS["diffusion"]
    places = np.array([3.0, 1.0, 5.0, 2.0, 4.0])
    _, report = solve_sequence(system, rtol=1e-6, parameters=places)
    assert np.all(np.diff(places[report.order]) > 0) or np.all(np.diff(places[report.order]) < 0)


def test_systems_differ_by_what_they_differ_in():
    diffusive, convective = SYSTEMS["diffusion"], SYSTEMS["convection"]
    assert [part.shape for part in system_parameters(diffusive)] == [(5, 12, 14)]
    # Two flows of one speed in opposite directions have one diagonal; their skew parts tell them apart.
    assert len(system_parameters(convective)) == 3
    same = replace(diffusive, coefficients=diffusive.coefficients[:1].expand_as(diffusive.coefficients))
    assert torch.equal(system_parameters(same)[0], diffusive.rhs)


def test_recycling_along_the_sort_saves_products():
    system = diffusion(two_phase((16, 16), 12, 0, 4.0))

    def products(**settings):
        return solve_sequence(system, rtol=1e-8, preconditioner="none", guard=False, **settings)[1].products.sum()

    assert products() < products(piece=1)  # one system in a piece: nothing to recycle
    assert products() < products(recycle=0)


def test_the_guard_switches_off_what_does_not_pay():
    close = diffusion(two_phase((16, 16), 8, 0, 4.0))
    assert solve_sequence(close, rtol=1e-8, preconditioner="none")[1].recycling.tolist() == [True]
    # Well preconditioned, a system takes some 18 products, and recycling 20 directions takes 20 before the first step.
    solution, report = solve_sequence(close, rtol=1e-8, preconditioner="spectral", recycle=20)
    assert report.recycling.tolist() == [False]
    after = report.order[3:]
    assert np.array_equal(report.products[after], solution.iterations.numpy()[after] + 1)
    assert "none in 1" in solution.notes[1]
    kept = solve_sequence(close, rtol=1e-8, preconditioner="spectral", guard=False)[1]
    assert kept.recycling.tolist() == [True]
    assert kept.products.sum() > report.products.sum()


def test_a_piece_is_the_chain_of_its_systems():
    system = SYSTEMS["convection"]
    _, report = solve_sequence(system, rtol=1e-8, preconditioner="none", recycle=5, restart=12, guard=False)
    space = None
    for sample in report.order:
        one = recycled_gcro_dr(
            StencilMatrices(system)[sample],
            system.rhs[sample].reshape(-1).numpy(),
            rtol=1e-8,
            restart=12,
            recycle=5,
            space=space,
        )
        space = one.space
        assert report.products[sample] == one.products


def test_distances_are_measured_where_a_space_was_carried():
    system = diffusion(two_phase((12, 12), 6, 0, 4.0))
    _, report = solve_sequence(system, rtol=1e-8, preconditioner="none", measure_distances=True)
    measured = report.distances[report.order]
    assert np.isnan(measured[0])
    assert np.all((measured[1:] > 0) & (measured[1:] < 1))
    assert solve_sequence(system, rtol=1e-8)[1].distances.size == 0


def test_a_guess_saves_iterations():
    system = SYSTEMS["diffusion"]
    cold = gcro_dr(system, rtol=1e-8)
    warm = gcro_dr(system, rtol=1e-8, guess=cold.values * 1.0001)
    assert warm.iterations.sum() < cold.iterations.sum()


def test_a_zero_right_hand_side_and_an_empty_batch_are_solved():
    system = SYSTEMS["diffusion"]
    some = replace(system, rhs=system.rhs * torch.tensor([1.0, 0, 1, 1, 0]).reshape(-1, 1, 1))
    solution = gcro_dr(some, rtol=1e-8)
    assert solution.failed == []
    assert not bool(solution.values[[1, 4]].any())
    assert gmres(system.select([]), rtol=1e-8).values.shape == (0, 12, 14)


def test_without_walls_solutions_have_mean_zero(walls):
    f = torch.randn(4, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    system = diffusion(fields((9, 8), 4, 0, 4.0), f, walls)
    for method in (gmres, gcro_dr):
        solution = method(system, rtol=1e-9)
        assert solution.failed == []
        if system.nullspace:
            assert float(solution.values.flatten(1).mean(1).abs().max()) < 1e-12


def test_preconditioners_are_chosen_by_kind():
    assert default_preconditioner(SYSTEMS["diffusion"]) == "spectral"
    assert default_preconditioner(SYSTEMS["convection"]) == "ilu(0)"
    assert default_preconditioner(SYSTEMS["helmholtz"]) == "earlier lu"
    boxes = SYSTEMS["box"]
    assert default_preconditioner(replace(boxes, kind="symmetric")) == "ilu(0)"
    uncoupled = diffusion(fields((6, 6), 2, 0, 2.0))
    coefficients = uncoupled.coefficients.clone()
    coefficients[:, 1:] *= -1  # positive couplings: no constant operator is near
    assert default_preconditioner(replace(uncoupled, coefficients=coefficients)) == "ilu(0)"


def test_earlier_factors_are_renewed_when_they_have_aged():
    system = helmholtz((16, 16), 30, wavenumber=14.0)
    rotated = torch.arange(30).reshape(5, 6).T.reshape(-1)
    solution = gmres(system.select(rotated), rtol=1e-8)
    assert solution.failed == []
    assert int((solution.iterations == 1).sum()) >= 1


def test_a_sample_that_fails_is_reported_and_its_neighbours_are_solved():
    system = SYSTEMS["convection"]
    coefficients = system.coefficients.clone()
    coefficients[2] = 0.0
    coefficients[2, 0, 0, 0] = 1.0
    solution = gcro_dr(replace(system, coefficients=coefficients), rtol=1e-8)
    assert solution.failed == [2]
    assert float(solution.residual[2]) > 0.9


def test_systems_that_do_not_fit_are_refused_in_one_line():
    wide = torch.zeros(0, 1, dtype=torch.float64)
    large = StencilSystem(
        wide.reshape(0, 1, 1, 1).expand(0, 1, 4096, 4096), wide.reshape(0, 1, 1).expand(0, 4096, 4096), ((0, 0),),
        SYSTEMS["diffusion"].boundary,
    )  # fmt: skip
    assert "GiB for each thread" in supports_gmres(large)
    closed = replace(diffusion(fields((6, 6), 1, 0, 2.0), walls="neumann"), kind="general")
    assert "singular" in supports_gmres(closed)
    assert supports_gmres(SYSTEMS["convection"]) is None
    for method in (gmres, gcro_dr):
        with pytest.raises(SolverError, match="singular"):
            method(closed, rtol=1e-8)
    with pytest.raises(InputError, match="no preconditioner 'lu'"):
        solve_sequence(SYSTEMS["diffusion"], preconditioner="lu")
    with pytest.raises(InputError, match="piece = 0"):
        solve_sequence(SYSTEMS["diffusion"], piece=0)
    with pytest.raises(InputError, match="no method 'best'"):
        solve_sequence(SYSTEMS["diffusion"], ordering="best")
