"""Checkpoints of the operator transformer: published keys and shapes, strictly, and one sentence for what is amiss."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fieldwright.errors import DataError
from fieldwright.grids import Boundary
from fieldwright.operators import OperatorTransformer, build_operator, load_operator

# As the published code saves it for its size T.
CONFIG = {
    "architectures": ["ScOT"], "model_type": "swinv2", "image_size": 128, "patch_size": 4, "num_channels": 4,
    "num_out_channels": 4, "embed_dim": 48, "depths": [4, 4, 4, 4], "num_heads": [3, 6, 12, 24], "num_layers": 4,
    "skip_connections": [2, 2, 2, 0], "window_size": 16, "mlp_ratio": 4.0, "qkv_bias": True, "hidden_size": 384,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0,
    "use_absolute_embeddings": False, "initializer_range": 0.02, "layer_norm_eps": 1e-5,
    "pretrained_window_sizes": [0, 0, 0, 0], "p": 1, "channel_slice_list_normalized_loss": [0, 1, 3, 4],
    "residual_model": "convnext", "use_conditioning": True, "learn_residual": False, "torch_dtype": "float32",
    "transformers_version": "4.29.2",
}  # fmt: skip
SMALL = {
    **CONFIG, "embed_dim": 12, "depths": [2, 2], "num_heads": [3, 6], "num_layers": 2, "skip_connections": [1, 0],
    "window_size": 8, "image_size": 32, "pretrained_window_sizes": [0, 0], "hidden_size": 24,
}  # fmt: skip


def conditional(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.{part}.{kind}": (width, 1) if kind == "weight" else (width,)
        for part in ("weight", "bias")
        for kind in ("weight", "bias")
    }


def published_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every key and shape of a published checkpoint."""
    c, p = config["embed_dim"], config["patch_size"]
    inputs, outputs, last = config["num_channels"], config["num_out_channels"], len(config["depths"]) - 1
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embeddings.projection.weight": (c, inputs, p, p),
        "embeddings.patch_embeddings.projection.bias": (c,),
        **conditional("embeddings.norm", c),
        "patch_recovery.projection.weight": (c, outputs, p, p),
        "patch_recovery.projection.bias": (outputs,),
        "patch_recovery.mixup.weight": (outputs, outputs, 5, 5),
    }
    for side in ("encoder", "decoder"):
        for i in range(last + 1):
            level = i if side == "encoder" else last - i
            d, h = c * 2**level, config["num_heads"][level]
            for j in range(config["depths"][level]):
                block = f"{side}.layers.{i}.blocks.{j}"
                inner = f"{block}.attention.self"
                shapes |= {
                    f"{inner}.logit_scale": (h, 1, 1),
                    f"{inner}.continuous_position_bias_mlp.0.weight": (512, 2),
                    f"{inner}.continuous_position_bias_mlp.0.bias": (512,),
                    f"{inner}.continuous_position_bias_mlp.2.weight": (h, 512),
                    **{f"{inner}.{name}.weight": (d, d) for name in ("query", "key", "value")},
                    **{f"{inner}.{name}.bias": (d,) for name in ("query", "value")},
                    f"{block}.attention.output.dense.weight": (d, d),
                    f"{block}.attention.output.dense.bias": (d,),
                    **conditional(f"{block}.layernorm_before", d),
                    f"{block}.intermediate.dense.weight": (4 * d, d),
                    f"{block}.intermediate.dense.bias": (4 * d,),
                    f"{block}.output.dense.weight": (d, 4 * d),
                    f"{block}.output.dense.bias": (d,),
                    **conditional(f"{block}.layernorm_after", d),
                }
            if i == last:
                continue
            layer = f"{side}.layers.{i}"
            if side == "encoder":
                shapes[f"{layer}.downsample.reduction.weight"] = (2 * d, 4 * d)
                shapes |= conditional(f"{layer}.downsample.norm", 2 * d)
            else:
                shapes[f"{layer}.upsample.upsample.weight"] = (2 * d, d)
                shapes[f"{layer}.upsample.mixup.weight"] = (d // 2, d // 2)
                shapes |= conditional(f"{layer}.upsample.norm", d // 2)
    for i, count in enumerate(config["skip_connections"]):
        d = c * 2**i
        for j in range(count):
            skip = f"residual_blocks.{i}.{j}"
            shapes |= {
                f"{skip}.weight": (d,),
                f"{skip}.dwconv.weight": (d, 1, 7, 7),
                f"{skip}.dwconv.bias": (d,),
                **conditional(f"{skip}.norm", d),
                f"{skip}.pwconv1.weight": (4 * d, d),
                f"{skip}.pwconv1.bias": (4 * d,),
                f"{skip}.pwconv2.weight": (d, 4 * d),
                f"{skip}.pwconv2.bias": (d,),
            }
    return shapes


def random_weights(config: dict) -> dict[str, torch.Tensor]:
    return {name: 0.1 * torch.randn(shape) for name, shape in published_shapes(config).items()}


@pytest.fixture
def published(tmp_path) -> Path:
    """A small checkpoint as published: a configuration, and weights that name no class of ours."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    save_file(random_weights(SMALL), tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def change(directory: Path, **fields) -> None:
    (directory / "config.json").write_text(json.dumps({**SMALL, **fields}))


def failure(directory: Path) -> str:
    with pytest.raises(DataError) as raised:
        OperatorTransformer.from_pretrained(directory)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_size_t_has_the_published_keys_and_shapes():
    with torch.device("meta"):
        weights = OperatorTransformer(4, 4, size="T").state_dict()
    shapes = published_shapes(CONFIG)
    assert len(shapes) == 844
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == shapes


def test_a_checkpoint_of_size_t_is_loaded(tmp_path, capfd):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    weights = random_weights(CONFIG)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    operator = OperatorTransformer.from_pretrained(tmp_path)
    assert not operator.training
    assert all(torch.equal(weight, weights[name]) for name, weight in operator.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_both_kinds_of_weight_files_give_the_same_operator(published):
    x, weights = torch.randn(2, 4, 32, 48), load_file(published / "model.safetensors")
    with torch.no_grad():
        expected = OperatorTransformer.from_pretrained(published)(x, 0.5)
        (published / "model.safetensors").unlink()
        torch.save(weights, published / "pytorch_model.bin")
        assert torch.equal(OperatorTransformer.from_pretrained(published)(x, 0.5), expected)


def test_settings_come_from_the_configuration(published):
    change(published, learn_residual=True)
    operator, x = OperatorTransformer.from_pretrained(published), torch.randn(1, 4, 32, 32)
    change(published)
    plain = OperatorTransformer.from_pretrained(published)
    assert torch.allclose(operator(x), plain(x) + x, atol=1e-6)


def test_saved_by_us_it_loads_again_and_keeps_the_published_names(published, tmp_path):
    operator, x = OperatorTransformer.from_pretrained(published), torch.randn(1, 4, 20, 32)
    operator.save_pretrained(tmp_path / "ours")
    assert load_file(tmp_path / "ours" / "model.safetensors").keys() == published_shapes(SMALL).keys()
    for again in (OperatorTransformer.from_pretrained(tmp_path / "ours"), load_operator(tmp_path / "ours")):
        assert torch.equal(again(x, 0.3), operator(x, 0.3))


def test_is_built_by_its_name_in_a_recipe():
    walls = Boundary.parse("periodic", 2)
    operator = build_operator("transformer", {"width": 12, "depths": [1, 1], "centring": "node"}, 2, 1, 2, walls)
    assert operator(torch.randn(1, 2, 9, 16)).shape == (1, 1, 9, 16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["Swinv2Model"]}, "describes the model Swinv2Model"),
        ({"architectures": None}, "describes the model swinv2"),
        ({"residual_model": "resnet"}, "residual_model is 'resnet'; supported is 'convnext'"),
        ({"use_absolute_embeddings": True}, "use_absolute_embeddings is True"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"pretrained_window_sizes": [8, 8]}, "supported are zeros"),
        ({"embed_dim": 13}, "cannot be built from it"),
        ({"depths": [2, 1]}, "unknown weight"),
        ({"depths": [2, 3]}, "lacks weight"),
        ({"num_channels": 3}, "has shape \\(12, 4, 4, 4\\), expected \\(12, 3, 4, 4\\)"),
    ],
)
def test_another_model_is_refused_in_one_sentence(published, fields, message):
    change(published, **fields)
    with pytest.raises(DataError, match=message):
        OperatorTransformer.from_pretrained(published)


def test_a_configuration_without_a_field_is_named(published):
    (published / "config.json").write_text(json.dumps({n: v for n, v in SMALL.items() if n != "embed_dim"}))
    assert "lacks embed_dim" in failure(published)


def test_missing_and_damaged_weights_are_named(published):
    weights = published / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "not readable as safetensors" in failure(published)
    weights.unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in failure(published)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps(Harmful())])
def test_nothing_but_weights_is_unpickled(published, content, in_tmp):
    (published / "model.safetensors").unlink()
    (published / "pytorch_model.bin").write_bytes(content)
    assert "not readable as weights alone" in failure(published)
    assert not Path("touched").exists()


def test_a_pickle_of_something_else_is_refused(published):
    (published / "model.safetensors").unlink()
    torch.save([1, 2], published / "pytorch_model.bin")
    assert "something else than named weights" in failure(published)
