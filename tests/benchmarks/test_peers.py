"""Peers solve what they are given, and what is not installed is a row that says so."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldwright.problems import ConvectionDiffusion, Darcy

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("MKL_THREADING_LAYER", "SEQUENTIAL")
    import peers

    yield peers
    sys.modules.pop("peers")


def _systems(peers, problem, count=2):
    system = problem.system(problem.sample(range(count), 0))
    return system, peers.Assembled.of(system, count)


@pytest.mark.parametrize("problem", [Darcy(resolution=12), ConvectionDiffusion(resolution=12)])
def test_the_baseline_and_superlu_with_a_kept_order_solve_their_systems(peers, problem):
    system, systems = _systems(peers, problem)
    for peer in (peers.spsolve(systems), peers.splu_reused(systems, definite=system.kind == "spd")):
        assert float(peers.residuals(system, peer.run().values).max()) < 1e-12


def test_what_is_not_installed_is_named_with_the_reason(peers, monkeypatch):
    _, systems = _systems(peers, Darcy(resolution=8))
    for module in ("sksparse.cholmod", "pypardiso", "pyamg"):
        monkeypatch.setitem(sys.modules, module, None)
    absent = [peers.cholmod(systems), peers.pardiso(systems, "spd"), peers.pyamg(systems, 1e-6)]
    monkeypatch.setenv("PETSC_PYTHON", "/nowhere/python")
    with peers.Petsc(systems, 1e-6, {"CG+ICC": ("cg", "icc")}) as petsc:
        absent += petsc
    assert all(peer.run is None and "is not installed" in peer.reason for peer in absent)
    contestants = [peers.Contest(peer.name, 1, 2, peer.run, peer.reason) for peer in absent]
    rows = list(peers.rows_of(contestants, size="8^2"))
    assert [row["note"] for row in rows] == [peer.reason for peer in absent]


def test_candidates_take_turns_and_one_that_misses_the_tolerance_is_marked(peers):
    system, systems = _systems(peers, Darcy(resolution=8))
    turns: list[str] = []

    def run(name, error):
        exact = peers.spsolve(systems).run().values

        def call():
            turns.append(name)
            return peers.Run(exact * (1 + error), 2.0, 1.0)

        return peers.Contest(name, 1, 2, call)

    contestants = [run("right", 0.0), run("wrong", 0.1)]
    told = list(peers.take_turns(contestants, system, 1e-6, 2))
    assert turns == ["right", "wrong"] * 3
    assert len(told) == 6
    right, wrong = peers.rows_of(contestants)
    assert right["wall ms"] == pytest.approx(1000.0)
    assert right["ratio"] == 1.0
    assert right["note"] == ""
    assert wrong["note"] == "did not reach the tolerance"
    assert np.isclose(wrong["worst residual"], 0.1)
    assert torch.get_num_threads() >= 1
