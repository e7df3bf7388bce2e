"""The latent spectral model in other precisions, compiled, exported and stored: the same operator."""

import pytest
import torch

from fieldwright.errors import DataError
from fieldwright.operators import FourierOperator, LatentSpectralOperator, load_operator, save_operator


def small(**settings) -> LatentSpectralOperator:
    torch.manual_seed(0)
    given = {"width": 8, "scales": 3, "patch": 2, "tokens": 3, "bases": 4, "heads": 4, "projection": 10}
    return LatentSpectralOperator(2, 3, **{**given, **settings}).double()


@pytest.mark.parametrize("shape", [(16, 16), (13, 18)])
def test_bfloat16_is_close_to_float32(shape):
    operator, x = small().float(), torch.randn(2, 2, *shape)
    exact = operator(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = operator(x)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    whole = operator.bfloat16()(x.bfloat16())
    assert whole.dtype == torch.bfloat16
    assert (whole.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_store_round_trip(norm, tmp_path):
    operator, x = small(norm=norm), torch.randn(2, 2, 12, 10, dtype=torch.float64)
    operator(x)
    operator = operator.float().eval()
    save_operator(operator, tmp_path / "model")
    for loaded in (load_operator(tmp_path / "model"), LatentSpectralOperator.from_pretrained(tmp_path / "model")):
        assert torch.equal(loaded(x.float()), operator(x.float()))
    with pytest.raises(DataError, match="LatentSpectralOperator"):
        FourierOperator.from_pretrained(tmp_path / "model")
