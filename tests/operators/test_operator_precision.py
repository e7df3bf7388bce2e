import pytest
import torch
from torch import nn

from fieldwright.operators import MultigridOperator


def gradients(operator: nn.Module, inputs: torch.Tensor, *, bfloat16: bool) -> dict[str, torch.Tensor]:
    operator.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        outputs = operator(inputs)
    outputs.float().square().mean().backward()
    return {name: p.grad.clone() for name, p in operator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dimension", "size", "levels"), [(1, 32, 6), (2, 16, 6), (2, 17, 5), (3, 8, 4)])
@pytest.mark.parametrize("restriction", [3, 4])
def test_bfloat16_gradients_are_close_to_float32_down_to_grids_of_one_point(
    dimension: int, size: int, levels: int, restriction: int
) -> None:
    torch.manual_seed(0)
    operator = MultigridOperator(
        1, 1, width=8, layers=2, levels=levels, dimension=dimension, restriction_size=restriction
    )
    inputs = torch.randn(4, 1, *[size] * dimension)
    exact = gradients(operator, inputs, bfloat16=False)
    for _ in range(3):
        rounded = gradients(operator, inputs, bfloat16=True)
        largest = max(float(gradient.norm()) for gradient in exact.values())
        for name, gradient in exact.items():
            allowed = 0.2 * float(gradient.norm()) + 1e-4 * largest
            assert float((rounded[name] - gradient).norm()) <= allowed, name


def test_the_last_mixing_is_never_rounded_to_bfloat16() -> None:
    operator = MultigridOperator(1, 1, width=8, levels=3)
    inputs = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = operator(inputs)
    assert outputs.dtype == torch.float32
    assert not torch.equal(outputs, outputs.bfloat16().float())
