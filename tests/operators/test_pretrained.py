"""Weights of another training as a start: what fits is taken over, and the report says what did not."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fieldwright.errors import DataError
from fieldwright.operators import FourierOperator, OperatorTransformer, build_operator, for_channels, load_pretrained
from fieldwright.operators.published_transformer import FIXED

CHANNELS = {
    "embeddings.patch_embeddings.projection.weight",
    "patch_recovery.projection.weight",
    "patch_recovery.projection.bias",
    "patch_recovery.mixup.weight",
}


def small(channels: int = 4, *, seed: int = 0, **settings) -> OperatorTransformer:
    torch.manual_seed(seed)
    return OperatorTransformer(
        channels, channels, **{"width": 12, "depths": [2, 1], "patch": 2, "window": 4, **settings}
    )


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    small().save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


def test_all_weights_of_an_operator_of_the_same_kind_are_taken_over(stored):
    operator = small(seed=1)
    report = load_pretrained(operator, stored)
    assert len(report.matched) == len(operator.state_dict())
    assert report.fresh == report.unused == ()
    assert all(torch.equal(a, b) for a, b in zip(operator.parameters(), small().parameters(), strict=True))
    assert "none start afresh; none not used" in report.sentence


def test_other_channels_start_afresh_as_for_channels_has_it(stored):
    operator, before = small(1, seed=1), small(1, seed=1).state_dict()
    report = load_pretrained(operator, stored)
    assert set(report.fresh) == set(report.unused) == CHANNELS
    expected = for_channels(small(), 1, 1).state_dict()
    for name, weight in operator.state_dict().items():
        assert torch.equal(weight, (before if name in CHANNELS else expected)[name]), name


def test_the_report_counts_what_is_missing_on_either_side(stored):
    deeper = load_pretrained(small(depths=[3, 1]), stored)
    assert deeper.fresh
    assert all(".blocks.2." in name for name in deeper.fresh)
    assert deeper.unused == ()
    shallower = load_pretrained(small(depths=[1, 1]), stored)
    assert shallower.fresh == ()
    assert all(".blocks.1." in name for name in shallower.unused)
    assert f"{len(shallower.unused)} (" in shallower.sentence
    assert "more) not used" in shallower.sentence


def test_published_checkpoints_and_runs_are_read(tmp_path):
    source = small(window=8)
    config = {
        "architectures": ["ScOT"], "model_type": "swinv2", "patch_size": 2, "num_channels": 4, "num_out_channels": 4,
        "embed_dim": 12, "depths": [2, 1], "num_heads": [3, 6], "skip_connections": [2, 0], "window_size": 8,
        "mlp_ratio": 4.0, "use_conditioning": True, "learn_residual": False, "layer_norm_eps": 1e-5, **FIXED,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(source.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    operator = small(seed=1)
    assert load_pretrained(operator, tmp_path).fresh == ()
    source.save_pretrained(tmp_path / "run" / "surrogate")
    assert load_pretrained(operator, tmp_path / "run").source == tmp_path / "run" / "surrogate"


def test_what_does_not_fit_at_all_or_is_not_there_is_refused(stored, tmp_path):
    with pytest.raises(DataError, match=r"none of its .* weights fits this FourierOperator"):
        load_pretrained(FourierOperator(1, 1, width=4, modes=2, layers=1), stored)
    with pytest.raises(DataError, match="no such model directory"):
        load_pretrained(small(), tmp_path / "nowhere")


def test_groups_of_a_users_module_have_its_names(in_tmp):
    Path("nets.py").write_text(
        "from torch import nn\n"
        "class Plain(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.line = nn.Linear(1, 1)\n"
        "    def forward(self, inputs):\n        return inputs\n"
        "class Parted(Plain):\n"
        "    def parameter_groups(self):\n        return {'a': ['line.weight'], 'b': ['line.bias']}\n"
    )
    from fieldwright.grids import Boundary

    def built(name: str) -> nn.Module:
        return build_operator(f"nets:{name}", {}, 1, 1, 1, Boundary.parse("periodic", 1))

    assert built("Plain").parameter_groups() == {"all": ["module.line.weight", "module.line.bias"]}
    assert built("Parted").parameter_groups() == {"a": ["module.line.weight"], "b": ["module.line.bias"]}
