"""Noisy gradients are those of weighted losses, sample by sample, and cost nothing in what is reported."""

from pathlib import Path

import pytest
import torch
from tiny_training import GRID, tiny_data, tiny_operator
from torch import Tensor

from fieldwright.errors import InputError
from fieldwright.training import Batch, Phase, PhysicalPrediction, train
from fieldwright.training.gradient_noise import NoisyGradients, equal_noise
from fieldwright.training.objectives import build_objective


def sample_gradients(operator: torch.nn.Module, batch: Batch) -> Tensor:
    data, objective = tiny_data(), build_objective("l2+h1")
    predict, rows = PhysicalPrediction(operator, data.inputs, data.outputs), []
    for sample in range(len(batch.inputs)):
        part = slice(sample, sample + 1)
        losses = objective(predict, Batch(batch.inputs[part], batch.outputs[part], GRID, batch.scale))
        found = torch.autograd.grad(sum(losses.values()), list(operator.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def noisy_gradient(operator: torch.nn.Module, batch: Batch, deviation: float, seed: int) -> tuple[dict, Tensor]:
    data = tiny_data()
    torch.manual_seed(seed)
    objective = NoisyGradients(build_objective("l2+h1"), deviation)
    losses = objective(PhysicalPrediction(operator, data.inputs, data.outputs), batch)
    found = torch.autograd.grad(sum(losses.values()), list(operator.parameters()))
    return losses, torch.cat([g.flatten() for g in found])


def some_batch() -> Batch:
    data = tiny_data()
    inputs, outputs = data.train_samples.batch(range(8))
    return Batch(inputs, outputs, GRID, data.output_scale())


def test_the_gradient_is_that_of_losses_with_random_weights() -> None:
    operator, batch = tiny_operator(dropout=0.0), some_batch()
    rows = sample_gradients(operator, batch)
    losses, gradient = noisy_gradient(operator, batch, 0.7, seed=4)
    weights = torch.linalg.lstsq(rows.T / 8, gradient[:, None]).solution.flatten()
    torch.testing.assert_close(weights @ rows / 8, gradient, rtol=1e-3, atol=1e-5)
    assert float((weights - 1).abs().max()) > 0.1
    quiet, plain = noisy_gradient(operator, batch, 0.0, seed=4)
    torch.testing.assert_close(plain, rows.mean(0), rtol=1e-4, atol=1e-6)
    assert all(torch.equal(losses[name], quiet[name]) for name in losses)


def test_weights_have_mean_one_and_the_deviation_asked_for_and_follow_the_seed() -> None:
    inputs = torch.zeros(20000, 1)
    batch = Batch(inputs[..., None, None], inputs[..., None, None], GRID, torch.ones(1))

    class Sum:
        names = ("sum",)

        def __call__(self, operator, batch: Batch) -> dict[str, Tensor]:
            return {"sum": operator(batch.inputs).sum()}

    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        fields = torch.zeros(20000, 1, 1, 1, requires_grad=True)
        NoisyGradients(Sum(), 0.5)(lambda _: fields * 1, batch)["sum"].backward()
        return fields.grad.flatten()

    found = weights(1)
    assert abs(float(found.mean()) - 1) < 4 * 0.5 / 20000**0.5
    assert abs(float(found.std()) - 0.5) < 4 * 0.5 / 40000**0.5
    assert torch.equal(found, weights(1))
    assert not torch.equal(found, weights(2))


def test_equal_noise_gives_steps_the_covariance_of_the_small_batch() -> None:
    """cov = (η²/M) mean g gᵀ (1 + s²): with M = k M₀ and s² = k - 1 it is that of M₀."""
    assert (1 + equal_noise(16) ** 2) / 16 == pytest.approx(1)
    with pytest.raises(InputError, match="only be added"):
        equal_noise(0.5)


def test_a_phase_takes_it_and_resumes_in_all_bits(tmp_path: Path) -> None:
    def trained(name: str, noise: float) -> list[Tensor]:
        phase = Phase(steps=8, batch_size=6, gradient_noise=noise)
        operator = train(tiny_operator(), [phase], tiny_data(), directory=tmp_path / name, seed=0).operator
        return list(operator.parameters())

    one, two, quiet = trained("one", 0.5), trained("two", 0.5), trained("quiet", 0.0)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, quiet, strict=True))


def test_an_objective_that_differentiates_the_operator_is_refused() -> None:
    class Slope:
        names = ("slope",)

        def __call__(self, operator, batch: Batch) -> dict[str, Tensor]:
            inputs = batch.inputs.clone().requires_grad_()
            (slope,) = torch.autograd.grad(operator(inputs).sum(), inputs, create_graph=True)
            return {"slope": slope.square().mean()}

    data = tiny_data()
    predict = PhysicalPrediction(tiny_operator(), data.inputs, data.outputs)
    with pytest.raises(InputError, match="differentiates the operator"):
        NoisyGradients(Slope(), 0.5)(predict, some_batch())
