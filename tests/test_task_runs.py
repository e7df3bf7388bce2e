"""Runs of two problems whose surrogates are tasks of one network."""

import torch

from fieldwright.operators import FourierOperator
from fieldwright.pipeline import run
from fieldwright.recipe import load_recipe
from fieldwright.surrogate import Surrogate
from fieldwright.training import load_tasks

OPERATOR = ("operator.kind=fourier", "operator.width=8", "operator.layers=2", "operator.modes=4")


def _phase(task, **more):
    prepare = {"kind": "task", "name": task, "sparsity": 0.75, "every": 3, "ceiling": 0.25, **more}
    settings = ", ".join(f"{key}: {value}" for key, value in prepare.items())
    return f"training.phases=[{{name: {task}, steps: 10, batch_size: 4, prepare: {{{settings}}}}}]"


def test_a_run_of_another_problem_goes_on_in_the_same_network(tiny_overrides, tmp_path):
    kept = [one for one in tiny_overrides if not one.startswith(("operator.", "training."))]
    first, second = tmp_path / "darcy", tmp_path / "poisson"
    run(load_recipe("darcy", [*kept, *OPERATOR, _phase("darcy")]), first, device="cpu")
    alone = Surrogate.load(first)
    assert isinstance(alone.operator, FourierOperator)

    path = first / "tasks.safetensors"
    run(load_recipe("poisson", [*kept, *OPERATOR, _phase("poisson", tasks=path)]), second, device="cpu")
    assert isinstance(Surrogate.load(second).operator, FourierOperator)
    both = load_tasks(second / "tasks.safetensors", FourierOperator(1, 1, modes=4, width=8, layers=2))
    assert both.names == ["darcy", "poisson"]
    both.use_task("darcy")
    probe = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(both.eval()(probe), alone.operator(probe))
