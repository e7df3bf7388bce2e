"""Hugging Face's decoders grow by what they have: a faithful stand-in, and the real library where it is installed."""

import pytest
import torch
from growing_models import llama_like, trained

from fieldwright.errors import InputError
from fieldwright.growth import Stack, Zero, grow, growing_blocks

TOKENS = torch.tensor([[1, 5, 2, 9, 0, 3]])


def test_a_stack_has_its_config_its_layer_indices_and_its_tied_head():
    source = llama_like(2)
    grown = grow(source, Stack(3)).model
    assert grown.config.num_hidden_layers == len(grown.model.layers) == 6
    assert [layer.self_attn.layer_idx for layer in grown.model.layers] == list(range(6))
    assert grown.lm_head.weight is grown.model.embed_tokens.weight
    assert torch.equal(grown.model.layers[5].mlp.up_proj.weight, source.model.layers[1].mlp.up_proj.weight)
    assert source.config.num_hidden_layers == 2
    assert grown.generation_config is not source.generation_config
    assert torch.equal(grown.model.inv_freq, source.model.inv_freq)


def test_with_and_without_a_cache_the_grown_model_says_the_same():
    grown = grow(llama_like(2), Stack(2)).model
    whole, cache = grown(TOKENS).logits, {}
    parts = [grown(TOKENS[:, i : i + 1], cache).logits for i in range(TOKENS.shape[1])]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("order", ["stack", "interpolate"])
def test_zero_keeps_the_function_and_half_a_gain_halves_the_branches(order):
    source = llama_like(2)
    optimizer = trained(source, TOKENS)
    found = grow(source, Zero(2, order), optimizer=optimizer)
    assert found.report["output change"] < 1e-12
    assert not found.report["fresh states"]
    soft = grow(source, Stack(2, gain=0.5)).model.model.layers[3]
    assert torch.equal(soft.mlp.down_proj.weight, 0.5 * source.model.layers[1].mlp.down_proj.weight)
    assert torch.equal(soft.mlp.up_proj.weight, source.model.layers[1].mlp.up_proj.weight)


def test_patterns_of_layers_are_repeated_as_wholes():
    source = llama_like(4, kinds=["local", "full"] * 2)
    assert growing_blocks(source)[0].period == 2
    grown = grow(source, Stack(2, "interpolate")).model
    assert [layer.kind for layer in grown.model.layers] == ["local", "full"] * 4
    assert grown.config.layer_types == ["local", "full"] * 4
    with pytest.raises(InputError, match="blocks 0 to 1"):
        grow(source, Stack(None, [0, 1, 2, 3]))


def test_real_llama_is_saved_and_loaded_by_its_own_library(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    grown = grow(transformers.LlamaForCausalLM(config), Stack(2)).model.eval()
    grown.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert again.config.num_hidden_layers == 4
    torch.testing.assert_close(again(TOKENS).logits, grown(TOKENS).logits)
    torch.testing.assert_close(grown(TOKENS, use_cache=False).logits, grown(TOKENS, use_cache=True).logits)
