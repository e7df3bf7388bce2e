"""Which method a pilot takes, with methods that cost what they are told to on a clock that they turn themselves."""

import importlib
from dataclasses import dataclass, field, replace

import pytest
import torch
from assembled import convection, diffusion, fields, helmholtz, two_phase
from components import complex_helmholtz, elasticity

from fieldwright.solvers import choose, solve
from fieldwright.solvers.costs import Cost, elimination
from fieldwright.solvers.direct import plan_of
from fieldwright.solvers.methods import TABLE, Method
from fieldwright.solvers.pilot import BUDGET, WORTH, Pilot
from fieldwright.solvers.reference import reference

PILOT_MODULE = importlib.import_module("fieldwright.solvers.pilot")


@dataclass
class Workshop:
    """Methods under test: each solves exactly, counts its samples and turns the clock."""

    now: float = 0.0
    solved: dict[str, list[int]] = field(default_factory=dict)

    def method(self, name, *, real, expected=None, setup=0.0, call=0.0, iterative=False, unsolved=(), together=8):
        """A method that takes ``real`` seconds a system and ``call`` a call; the rules expect ``expected`` a system.

        ``unsolved`` samples, counted over all its calls, it leaves with a NaN.
        """
        samples = self.solved.setdefault(name, [])

        def run(system, *, rtol, guess=None, max_iterations=None):
            iterations = 10
            if iterative and max_iterations is not None and max_iterations < iterations:
                self.now += system.batch * real * max_iterations / iterations
                nothing = torch.zeros_like(system.rhs)
                lost = torch.zeros(system.batch, dtype=torch.bool)
                return replace(reference(system, rtol=rtol), values=nothing, converged=lost)
            self.now += call + system.batch * real + (setup if not samples else 0.0)
            solution = reference(system, rtol=rtol)
            values = solution.values.clone()
            for i in range(system.batch):
                if len(samples) in unsolved:
                    values[i] = torch.nan
                samples.append(len(samples))
            residual = system.relative_residual(values)
            iterations = torch.full_like(solution.iterations, iterations)
            return replace(
                solution, values=values, residual=residual, converged=residual <= rtol, iterations=iterations,
                method=name,
            )  # fmt: skip

        each = (real if expected is None else expected) / 10
        cost = Cost(setup, 0.0, each, 10)
        return Method(run, lambda system: None, lambda system, rtol: cost, name, together=together, iterative=iterative)


@pytest.fixture
def workshop(monkeypatch):
    """An empty table of methods (but for the last resort) and a clock that stands still."""
    shop = Workshop()
    last = TABLE["scipy"]
    for name in list(TABLE):
        monkeypatch.delitem(TABLE, name)
    monkeypatch.setitem(TABLE, "scipy", replace(last, cost=lambda system, rtol: Cost(0.0, 1.0)))
    monkeypatch.setattr(PILOT_MODULE.time, "perf_counter", lambda: shop.now)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    # One group of eight systems a trial, where a system takes a thousandth of a second.
    monkeypatch.setattr(PILOT_MODULE, "TRIAL", 8e-3)
    shop.add = lambda name, **how: monkeypatch.setitem(TABLE, name, shop.method(name, **how))
    return shop


def _systems(batch):
    return diffusion(fields((4, 4), batch, 0, 2.0))


def test_measurement_overrules_the_rules(workshop):
    workshop.add("promised", real=3e-3, expected=1e-3)
    workshop.add("kept", real=1.5e-3)
    choice = choose(_systems(128), total=1000)
    assert choice.method == "kept"
    assert choice.seconds["kept"] == pytest.approx(1.5)
    assert choice.seconds["promised"] == pytest.approx(3.0)
    assert choice.rates["kept"] == pytest.approx(1 / 1.5e-3)
    assert choice.reason == "fastest in a pilot (1000 systems: kept 1.5 s, promised 3 s)"


def test_what_a_pilot_solved_is_not_solved_again(workshop):
    workshop.add("first", real=12e-3, expected=10e-3)
    workshop.add("second", real=10e-3, expected=11e-3)
    system = _systems(200)
    solution = solve(system, rtol=1e-10)
    assert solution.method == "second"
    assert solution.failed == []
    assert solution.values.shape == system.rhs.shape
    assert len(workshop.solved["first"]) > 0
    assert sum(len(samples) for samples in workshop.solved.values()) == 200
    assert torch.allclose(solution.values, reference(system).values, rtol=0, atol=1e-12)


def test_a_slow_method_is_tried_at_most_within_the_budget(workshop):
    workshop.add("fast", real=1e-3)
    workshop.add("slow", real=5e-3)
    pilot = Pilot(_systems(64), rtol=1e-8, total=1000, keep=True)
    assert pilot.run().method == "fast"
    lost = len(workshop.solved["slow"]) * 4e-3
    assert lost <= BUDGET * 1.0
    # Ten times as many systems are worth a trial of what might be twice as fast as expected, not of what cannot be.
    workshop.solved["slow"].clear()
    workshop.add("slower", real=8e-3)
    Pilot(_systems(64), rtol=1e-8, total=10_000, keep=True).run()
    assert workshop.solved["slower"] == []


def test_an_iterative_method_is_cut_off_where_it_has_become_hopeless(workshop):
    workshop.add("fast", real=1e-3)
    workshop.add("endless", real=1.0, expected=1.2e-3, iterative=True)
    before = workshop.now
    choice = Pilot(_systems(128), rtol=1e-8, total=1000, keep=True).run()
    assert choice.method == "fast"
    assert "endless" not in choice.rates
    # Two trials of "fast", and the iterations of "endless" that were thought to take three times as long.
    assert workshop.now - before < 16e-3 + 8 * 1.0 * 4 / 10 + 1e-9


def test_trials_are_long_enough_to_time_and_checked_before(workshop, monkeypatch):
    monkeypatch.setattr(PILOT_MODULE, "TRIAL", 30e-3)
    workshop.add("one", real=1e-3)
    workshop.add("two", real=2e-3)
    checked: list[slice] = []
    pilot = Pilot(_systems(128), rtol=1e-8, total=2000, keep=True, check=checked.append)
    pilot.run()
    assert [place.stop - place.start for place in checked] == [32, 32, 16, 16]
    assert checked[-1].stop == sum(len(part.values) for part in pilot.solved)


def test_a_set_that_is_soon_done_or_has_one_candidate_is_not_piloted(workshop):
    workshop.add("one", real=WORTH / 2000)
    workshop.add("two", real=WORTH / 2000, expected=WORTH / 1500)
    assert choose(_systems(128), total=1000).rates == {}
    workshop.add("two", real=1.0)
    choice = choose(_systems(128), total=10**6)
    assert choice.method == "one"
    assert choice.rates == {}
    assert choice.reason.startswith("by rule (1000000 systems: one ")
    assert workshop.solved["one"] == []


def test_close_methods_are_tried_again_in_turn(workshop):
    workshop.add("one", real=1.00e-3)
    workshop.add("two", real=1.02e-3)
    Pilot(_systems(128), rtol=1e-8, total=1000, keep=True).run()
    assert len(workshop.solved["one"]) == len(workshop.solved["two"]) == 8 * (2 + PILOT_MODULE.ROUNDS)


def test_setting_up_counts_for_small_sets_and_not_for_large_ones(workshop):
    workshop.add("at once", real=2e-3)
    workshop.add("prepared", real=1e-3, setup=1.0)
    assert choose(_systems(128), total=500).method == "at once"
    assert choose(_systems(128), total=5000).method == "prepared"


def test_what_a_call_costs_does_not_count_against_a_method_of_which_few_systems_are_at_hand(workshop):
    workshop.add("steady", real=1.5e-3)
    workshop.add("nimble", real=1e-3, expected=1.6e-3, call=5e-3)
    choice = choose(_systems(16), total=10_000)
    assert choice.method == "nimble"
    assert choice.rates["nimble"] == pytest.approx(1e3)


def test_a_sample_that_the_chosen_method_leaves_is_solved_by_another_and_counted(workshop, monkeypatch):
    workshop.add("frail", real=10e-3, unsolved={3, 150})
    workshop.add("slow", real=30e-3)
    system = _systems(200)
    solution = solve(system, rtol=1e-10)
    assert solution.method == "frail"
    assert solution.failed == []
    assert solution.fallbacks == 2
    assert torch.allclose(solution.values, reference(system).values, rtol=0, atol=1e-12)


def test_failures_count_against_a_method(workshop):
    workshop.add("frail", real=1e-3, unsolved=set(range(0, 10_000, 4)))
    workshop.add("sound", real=2e-3)
    assert choose(_systems(128), total=1000).method == "sound"


def test_the_rules_know_how_many_operations_and_entries_elimination_takes():
    cases = (
        (convection(64, 1), 0.3), (helmholtz((48, 40), 1), 0.3), (diffusion(two_phase((12, 12, 12), 1, 0, 2.0)), 0.5),
        (complex_helmholtz(24, 1), 0.5), (elasticity(24, 1), 0.5),
    )  # fmt: skip
    for system, off in cases:
        fronts, _ = plan_of(system)
        symmetric = system.kind != "general"
        entries = int(fronts.factor_at[-1]) + (0 if symmetric else fronts.upper)
        rows = fronts.pivots + fronts.borders
        work = (2 * fronts.pivots * (rows**2 - rows * fronts.pivots + fronts.pivots**2 / 3)).sum()
        expected_work, expected_entries = elimination(system)
        assert expected_entries == pytest.approx(entries, rel=off)
        assert expected_work == pytest.approx(work / (2 if symmetric else 1), rel=off)
