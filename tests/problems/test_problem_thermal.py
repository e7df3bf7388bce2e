"""Heat in a block with a slot."""

import math

import pytest
import torch

from fieldwright.datasets.generate import generate
from fieldwright.datasets.read import FieldDataset
from fieldwright.errors import InputError
from fieldwright.problems import Thermal


def test_without_a_slot_the_temperature_is_linear_between_the_sides() -> None:
    problem = Thermal(resolution=20, slot="none")
    inputs = problem.sample([0, 1], 0)
    outputs, _ = problem.solve(inputs, rtol=1e-12, method="scipy")
    torch.testing.assert_close(outputs, inputs[:, :1], rtol=1e-10, atol=1e-10)
    assert torch.equal(problem.guess(inputs), inputs[:, :1])


def test_around_the_slot_solutions_converge_with_the_order_of_its_corners() -> None:
    solutions = {}
    for n in (20, 40, 80, 160):
        problem = Thermal(resolution=n)
        inputs = problem.sample([0], 0)
        solutions[n] = problem.solve(inputs, rtol=1e-10, method="multigrid")[0] * inputs[:, 1:2]
    # Means over blocks of cells against the coarser solution: slopes like r^(-1/3) at the corners leave h^(4/3).
    differences = [
        float((torch.nn.functional.avg_pool2d(solutions[2 * n], 2) - solutions[n]).norm() / solutions[n].norm())
        for n in (40, 80)
    ]
    assert math.log2(differences[0] / differences[1]) == pytest.approx(4 / 3, abs=0.1)


@pytest.mark.parametrize("slot", ["published", "random"])
def test_temperatures_stay_between_those_of_the_sides_and_the_slot_takes_no_heat(slot) -> None:
    problem = Thermal(resolution=20, slot=slot, deviation=0.5)
    inputs = problem.sample(range(6), 0)
    outputs, solution = problem.solve(inputs, rtol=1e-11, method="scipy")
    assert bool(solution.converged.all())
    body = inputs[:, 1] > 0.5
    assert not outputs[:, 0][~body].any()
    for temperature, inside, lifting in zip(outputs[:, 0], body, inputs[:, 0], strict=True):
        step = float(lifting[1, 0] - lifting[0, 0])
        cold, hot = float(lifting.min()) - step / 2, float(lifting.max()) + step / 2
        assert cold - 1e-8 <= float(temperature[inside].min()) < float(temperature[inside].max()) <= hot + 1e-8
    assert float(problem.balance(inputs, outputs)["flux"].max()) < 1e-9
    # All heat that comes in on one side leaves on the other.
    flows = []
    for first, second in ((0, 1), (-1, -2)):
        wall = 1.5 * inputs[:, 0, first] - 0.5 * inputs[:, 0, second]
        flows.append((inputs[:, 2, first] * (outputs[:, 0, first] - wall)).sum(1))
    torch.testing.assert_close(flows[0], -flows[1], rtol=1e-7, atol=1e-7)


def test_the_published_slot_has_its_measures_and_both_temperatures_their_ranges() -> None:
    problem = Thermal(resolution=40)
    assert problem.grid.shape == (40, 64)
    inputs = problem.sample(range(200), 0)
    hollow = inputs[:, 1] == 0
    assert int(hollow[0].sum()) == 4 * 32
    assert torch.equal(hollow[0], hollow[-1])
    left = 1.5 * inputs[:, 0, 0, 0] - 0.5 * inputs[:, 0, 1, 0]
    right = 1.5 * inputs[:, 0, -1, 0] - 0.5 * inputs[:, 0, -2, 0]
    assert -100 <= float(left.min()) < -90 < -10 < float(left.max()) <= 0
    assert 0 <= float(right.min()) < 10 < 90 < float(right.max()) <= 100
    one = problem.system(inputs).coefficients
    assert torch.equal(one[0], one[1])


def test_random_slots_stay_inside_and_are_the_same_on_every_grid() -> None:
    coarse = Thermal(resolution=20, slot="random").sample(range(50), 0)[:, 1]
    rim = torch.ones(20, 32, dtype=torch.bool)
    rim[2:-2, 2:-2] = False
    assert bool((coarse[:, rim] == 1).all())
    assert len({sample.numpy().tobytes() for sample in coarse}) > 40
    fine = Thermal(resolution=60, slot="random").sample(range(50), 0)[:, 1, 1::3, 1::3]
    assert torch.equal(coarse, fine)


def test_solution_commutes_with_every_symmetry_of_the_block() -> None:
    problem = Thermal(resolution=20, slot="random", deviation=0.3)
    inputs = problem.sample([2], 0)
    outputs, _ = problem.solve(inputs, rtol=1e-11, method="scipy")
    assert len(problem.symmetries()) == 4
    for symmetry in problem.symmetries():
        moved, _ = problem.solve(symmetry(inputs), rtol=1e-11, method="scipy")
        torch.testing.assert_close(moved, symmetry(outputs), rtol=1e-7, atol=1e-8)


def test_residual_is_differentiable_in_what_is_continuous() -> None:
    problem = Thermal(resolution=20, deviation=0.3)
    inputs = problem.sample([0], 0)
    outputs = inputs[:, :1].clone().requires_grad_()
    lifting, conductivity = inputs[:, :1].clone().requires_grad_(), inputs[:, 2:].clone().requires_grad_()
    direction = torch.rand(inputs[:, :1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def work(g: torch.Tensor, k: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return (direction * problem.residual(torch.cat([g, inputs[:, 1:2], k], 1), u)).sum()

    gradients = torch.autograd.grad(work(lifting, conductivity, outputs), (lifting, conductivity, outputs))
    given = [lifting.detach(), conductivity.detach(), outputs.detach()]
    for place, gradient in enumerate(gradients):
        ends = []
        for step in (1e-5, -1e-5):
            moved = list(given)
            moved[place] = moved[place] + step * direction
            ends.append(float(work(*moved)))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_a_dataset_holds_the_body_and_the_lifting(tmp_path) -> None:
    problem = Thermal(resolution=20)
    generate(problem, tmp_path / "data", counts={"train": 2}, seed=0, solver="scipy")
    inputs, outputs = FieldDataset(tmp_path / "data", "train").batch([0, 1])
    torch.testing.assert_close(inputs, problem.sample([0, 1], 0).float())
    expected, _ = problem.solve(problem.sample([0, 1], 0), method="scipy")
    torch.testing.assert_close(outputs, expected.float(), rtol=1e-5, atol=1e-5)


def test_shifts_leave_the_range_of_temperatures_and_the_slot() -> None:
    problem = Thermal(resolution=20)
    hotter = problem.shifts()["temperatures twice as far apart"].sample(range(20), 0)
    assert float(hotter[:, 0].max()) > 100
    moved = problem.shifts()["slots of random place and size"].sample([0], 0)
    assert not torch.equal(moved[:, 1], problem.sample([0], 0)[:, 1])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 10}, "at least 20"),
        ({"slot": "round"}, "published, random, none"),
        ({"left_low": 5.0}, "the lower first"),
        ({"deviation": -1.0}, "at least 0"),
        ({"deviation": 1.0, "alpha": 0.9}, "alpha > 1"),
    ],
)
def test_impossible_settings_are_refused_by_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Thermal(**settings)
    assert "\n" not in str(caught.value)


def test_a_conductivity_that_is_not_positive_is_refused_by_name() -> None:
    problem = Thermal(resolution=20, deviation=0.5)
    inputs = problem.sample([0, 1], 0)
    inputs[1, 2] = 0.0
    with pytest.raises(InputError, match="conductivity of sample 1"):
        problem.solve(inputs)
