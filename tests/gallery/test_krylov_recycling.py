"""The published assembly is what the scripts compute, and the page's claims are decided by its figures."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import torch

from fieldwright.errors import InputError
from fieldwright.gallery import reproduce
from fieldwright.gallery.krylov_recycling.contest import (
    DIRECT,
    MULTIGRID,
    Outcome,
    run_batch,
    run_library,
    run_sequence,
)
from fieldwright.gallery.krylov_recycling.effort import FULL, QUICK
from fieldwright.gallery.krylov_recycling.measure import Path, claims, draw, measure_paths, paths_table
from fieldwright.gallery.krylov_recycling.other_systems import (
    CONVECTION,
    DARCY,
    OUR_GMRES,
    WAVES,
    Others,
    others_table,
    problems,
)
from fieldwright.gallery.krylov_recycling.published_assembly import published_permeability, published_systems
from fieldwright.gallery.krylov_recycling.published_setting import (
    FRESH,
    GMRES,
    ILU,
    LONG,
    PLAIN,
    REFERENCE,
    SORTED,
    Setting,
    setting_table,
)
from fieldwright.gallery.krylov_recycling.related_systems import (
    DRAWN,
    IMPROVED,
    LOG_NORMAL,
    TWO_PHASE,
    Related,
    measure_related,
    related_table,
)


def field_of_the_scripts(cells, seed):
    """The scripts' sampler, by a complex Fourier transform."""
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(cells, 1 / cells)
    root = 7**1.5 * (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + 49) ** -1.25
    root[0, 0] = 0
    waves = rng.standard_normal((cells, cells)) + 1j * rng.standard_normal((cells, cells))
    return torch.from_numpy(np.exp(np.fft.ifft2(cells**2 * root * waves).real))[None]


def assembled_by_hand(K, aligned):
    """Row by row: 4 K_c u_c less the neighbours' K u, the lower neighbour's taken two places before it."""
    s = K.shape[0] - 2
    A = np.zeros((s * s, s * s))
    below = K[:-2, 1:-1].reshape(-1)
    for i in range(s):
        for j in range(s):
            row = i * s + j
            A[row, row] = 4 * K[i + 1, j + 1]
            if j > 0:
                A[row, row - 1] = -K[i + 1, j]
            if j < s - 1:
                A[row, row + 1] = -K[i + 1, j + 2]
            if i < s - 1:
                A[row, row + s] = -K[i + 2, j + 1]
            if i > 0:
                A[row, row - s] = -below[row if aligned else row - 2]
    return A


@pytest.mark.parametrize("aligned", [False, True])
def test_the_assembly_is_that_of_the_scripts(aligned):
    K = published_permeability(11, [0, 4], 3)
    systems = published_systems(K, aligned=aligned)
    assert systems.shape == (9, 9)
    for sample in range(2):
        assert np.array_equal(systems.to_csr(sample).toarray(), assembled_by_hand(K[sample].numpy(), aligned))
    assert torch.all(systems.rhs == 1 / 8**2)


def test_the_published_matrices_have_negative_eigenvalues_and_solutions_of_both_signs():
    systems = published_systems(field_of_the_scripts(52, 0))
    A, b = systems.to_csr(0).toarray(), systems.rhs[0].reshape(-1).numpy()
    assert len(A) == 2500
    values = scipy.sparse.linalg.eigs(
        scipy.sparse.csc_array(A), k=8, sigma=0.0, v0=np.ones(2500), return_eigenvectors=False
    )
    assert np.sum(values.real < 0) == 2
    assert np.abs(values).min() == pytest.approx(2.6e-4, rel=0.01)
    u = np.linalg.solve(A, b)
    assert u.min() < -1
    assert u.max() > 1


def test_aligned_matrices_have_positive_eigenvalues_and_positive_solutions():
    K = field_of_the_scripts(27, 0)
    systems = published_systems(K, aligned=True)
    A = systems.to_csr(0).toarray()
    laplacian = A / K[0, 1:-1, 1:-1].reshape(-1).numpy()
    assert np.allclose(laplacian, laplacian.T)
    lowest = 8 * np.sin(np.pi / (2 * 26)) ** 2
    assert np.linalg.eigvalsh(laplacian)[0] == pytest.approx(lowest)
    values = np.linalg.eigvals(A)
    assert np.all(values.real > 0)
    assert np.abs(values.imag).max() < 1e-10
    assert np.linalg.solve(A, systems.rhs[0].reshape(-1).numpy()).min() > 0


def test_the_permeability_has_the_published_spectrum():
    drawn = published_permeability(32, range(200), 0).log()
    k = np.arange(-16, 16)
    inside = (k[:, None] ** 2 + k**2) > 0
    variance = np.sum((7.0**3 * (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + 49.0) ** -2.5)[inside])
    assert float(drawn.square().mean()) == pytest.approx(variance, rel=0.05)
    assert torch.equal(published_permeability(32, [7], 0), published_permeability(32, [3, 7], 0)[1:])


def test_fields_without_an_inside_are_refused():
    for shape in ((1, 4, 4), (1, 6, 7)):
        with pytest.raises(InputError, match="published assembly"):
            published_systems(torch.ones(shape))


def outcome(solver, preconditioner, milliseconds, products, failed=0, systems=4):
    residuals = (1.0,) * failed + (9e-7,) * (systems - failed)
    return Outcome(solver, preconditioner, milliseconds, residuals, products=(products,) * systems)


def setting(aligned, figures):
    """A setting with the figures of a run: (solver, preconditioner) -> (milliseconds, products, failed)."""
    results = {key: outcome(*key, *values) for key, values in figures.items()}
    curves = {name: np.geomspace(1, 1e-6, 30) for name in (GMRES, LONG, FRESH, SORTED)}
    return Setting(aligned, results, curves)


WRONG = {
    (GMRES, PLAIN): (1080, 9465, 3), (LONG, PLAIN): (3300, 1666, 0), (SORTED, PLAIN): (218, 717, 0),
    (FRESH, PLAIN): (188, 659, 0), (GMRES, ILU): (496, 3631, 1), (LONG, ILU): (57, 141, 0),
    (SORTED, ILU): (48, 151, 0), (FRESH, ILU): (44, 141, 0), (DIRECT, "–"): (1.4, 0, 0),
}  # fmt: skip
RIGHT = {
    (GMRES, PLAIN): (98, 863, 0), (SORTED, PLAIN): (74, 262, 0), (FRESH, PLAIN): (102, 372, 0),
    (GMRES, ILU): (10.6, 59, 0), (SORTED, ILU): (12.2, 41, 0),
}  # fmt: skip
RELATED = {
    (LOG_NORMAL, DRAWN): (0.92, 382), (LOG_NORMAL, IMPROVED): (0.67, 324),
    (TWO_PHASE, DRAWN): (0.72, 145), (TWO_PHASE, IMPROVED): (0.36, 128),
}  # fmt: skip
OTHERS = {
    DARCY: {(GMRES, PLAIN): (36, 728, 0), (SORTED, ILU): (12, 78, 0), (MULTIGRID, "–"): (0.2, 0, 0)},
    CONVECTION: {(GMRES, ILU): (5.6, 83, 0)},
    WAVES: {(GMRES, ILU): (417, 7551, 2), (SORTED, ILU): (42, 305, 0), (OUR_GMRES, "earlier lu"): (9.3, 18, 0)},
}


def related(figures=RELATED):
    return [Related(f, o, d, outcome("GCRO-DR", PLAIN, 5.0, p)) for (f, o), (d, p) in figures.items()]


def others(figures=OTHERS):
    return Others({name: {k: outcome(*k, *v) for k, v in rows.items()} for name, rows in figures.items()})


def test_the_figures_of_a_run_bear_out_every_claim():
    found = claims(setting(False, WRONG), setting(True, RIGHT), related(), others())
    assert [claim.statement for claim in found if not claim.holds] == []


def changed(table, *path, to):
    """A nested mapping with one entry replaced."""
    head, *rest = path
    return {**table, head: changed(table[head], *rest, to=to) if rest else to}


@pytest.mark.parametrize(
    ("wrong", "right", "near", "other", "word"),
    [
        (changed(WRONG, (GMRES, PLAIN), to=(900, 9000, 1)), RIGHT, RELATED, OTHERS, "mostly fails"),
        (changed(WRONG, (SORTED, PLAIN), to=(218, 717, 1)), RIGHT, RELATED, OTHERS, "mostly fails"),
        (changed(WRONG, (GMRES, PLAIN), to=(700, 6000, 3)), RIGHT, RELATED, OTHERS, "a tenth of the products"),
        (changed(WRONG, (FRESH, PLAIN), to=(188, 800, 0)), RIGHT, RELATED, OTHERS, "saves nothing"),
        (changed(WRONG, (LONG, ILU), to=(57, 200, 0)), RIGHT, RELATED, OTHERS, "restart of 400"),
        (changed(WRONG, (DIRECT, "–"), to=(5.0, 0, 0)), RIGHT, RELATED, OTHERS, "Elimination"),
        (WRONG, changed(RIGHT, (GMRES, PLAIN), to=(98, 863, 1)), RELATED, OTHERS, "every coupling"),
        (WRONG, changed(RIGHT, (SORTED, PLAIN), to=(98, 350, 0)), RELATED, OTHERS, "a fifth of the products"),
        (WRONG, changed(RIGHT, (GMRES, ILU), to=(30, 59, 0)), RELATED, OTHERS, "no time to speak of"),
        (WRONG, RIGHT, changed(RELATED, (TWO_PHASE, IMPROVED), to=(0.7, 128)), OTHERS, "slow directions nearer"),
        (WRONG, RIGHT, changed(RELATED, (LOG_NORMAL, IMPROVED), to=(0.67, 380)), OTHERS, "5 % of the products"),
        (WRONG, RIGHT, RELATED, changed(OTHERS, DARCY, (MULTIGRID, "–"), to=(3.0, 0, 0)), "multigrid"),
        (WRONG, RIGHT, RELATED, changed(OTHERS, WAVES, (GMRES, ILU), to=(4.0, 70, 0)), "Indefinite waves"),
        (WRONG, RIGHT, RELATED, changed(OTHERS, WAVES, (SORTED, ILU), to=(4.0, 70, 0)), "Indefinite waves"),
    ],
)
def test_every_claim_is_decided_by_its_own_figures(wrong, right, near, other, word):
    found = claims(setting(False, wrong), setting(True, right), related(near), others(other))
    failed = [claim.statement for claim in found if not claim.holds]
    assert failed
    assert any(word in statement for statement in failed)
    assert len(failed) <= 2


def test_tables_hold_what_was_measured_beside_the_reference():
    table = setting_table(setting(False, WRONG), FULL)
    assert len(table.rows) == len(WRONG)
    assert "9,604 unknowns" in table.setting
    row = next(r for r in table.rows if r["solver"] == SORTED and r["preconditioner"] == PLAIN)
    assert (row["products"], row["reference run"], row["CPU ms"], row["unsolved"]) == ("717", 752, "218", "0 of 4")
    assert setting_table(setting(True, RIGHT), FULL).heading != table.heading
    assert {len(REFERENCE[aligned]) for aligned in (False, True)} == {8}
    assert len(others_table(others(), FULL).rows) == 7
    assert [row["mean δ"] for row in related_table(related(), FULL).rows] == ["0.92", "0.67", "0.72", "0.36"]
    paths = [Path("improved", 46.0, 0.06), Path("none", 100.0, 0.0)]
    assert [row["path, of that as drawn"] for row in paths_table(paths, FULL).rows] == ["46.0%", "100.0%"]


def test_the_picture_has_a_curve_for_every_method_on_both_matrices():
    figure = draw(setting(False, WRONG), setting(True, RIGHT))
    assert [len(axes.lines) for axes in figure.axes] == [4, 4]


def test_outcomes_count_what_was_not_solved():
    some = outcome("GMRES", PLAIN, 1.0, 10, failed=2)
    assert some.failed == 2
    assert dataclasses.replace(some, residuals=(float("nan"), 1e-7)).failed == 1
    assert some.row()["unsolved"] == "2 of 4"


def test_solvers_are_measured_on_the_systems_they_are_given():
    system = published_systems(published_permeability(12, range(4), 0), aligned=True)
    for how in ({"recycle": 0}, {}, {"carry": False}, {"preconditioner": "ILU(0)"}):
        run = run_sequence(system, [2, 0, 1], solver="one", **how)
        assert len(run.residuals) == len(run.products) == 3
        assert run.failed == 0
        assert run.milliseconds > 0
        assert run.mean_products > run.mean_iterations
    assert run_batch(system, DIRECT).failed == 0
    assert run_library(system, solver="ours", recycle=4).preconditioner == "ilu(0)"


def test_related_and_sorted_systems_are_measured():
    found = measure_related(QUICK)
    assert len(found) == 8
    assert all(0 < r.distance < 1 or np.isnan(r.distance) for r in found)
    assert {path.method for path in measure_paths(QUICK)} >= {"improved", "published", "none"}
    assert set(problems(QUICK)) == {DARCY, CONVECTION, WAVES}


def test_a_quick_run_makes_the_whole_page(tmp_path):
    measured = reproduce("krylov-recycling", tmp_path, quick=True)
    text = (tmp_path / "krylov-recycling.md").read_text()
    assert (tmp_path / "krylov-recycling.svg").exists()
    assert all(table.heading in text for table in measured.tables)
    assert len(measured.tables) == 5
    assert "mean nothing" in text
