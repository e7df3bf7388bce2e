from pathlib import Path

import pytest
import torch
from tiny_training import tiny_data, tiny_operator
from torch import Tensor

from fieldwright.training import Phase, phase_run, train


def weights(directory: Path, *, precision: str, pays: bool) -> list[Tensor]:
    operator = tiny_operator(dropout=0.0)
    operator.bfloat16_pays = pays  # type: ignore[assignment]
    phase = Phase(steps=5, batch_size=4, precision=precision)  # type: ignore[arg-type]
    train(operator, [phase], tiny_data(), directory=directory, seed=0)
    return [p.detach().clone() for p in operator.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("device_can", [True, False])
@pytest.mark.parametrize("pays", [True, False])
def test_auto_is_bfloat16_where_device_and_operator_gain_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device_can: bool, pays: bool
) -> None:
    monkeypatch.setattr(phase_run, "multiplies_bfloat16", lambda device: device_can)
    single = weights(tmp_path / "single", precision="32", pays=pays)
    half = weights(tmp_path / "half", precision="bf16-mixed", pays=pays)
    chosen = weights(tmp_path / "auto", precision="auto", pays=pays)
    assert not same(single, half)
    assert same(chosen, half if device_can and pays else single)
