"""Small models to grow: ours, and a language model with the names that Hugging Face transformers has."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.operators import (
    FourierOperator,
    LatentSpectralOperator,
    MultigridOperator,
    OperatorTransformer,
    ResNet,
)

OPERATORS = {
    "fourier": lambda: FourierOperator(1, 1, modes=6, width=6, layers=2),
    "multigrid": lambda: MultigridOperator(1, 1, width=5, layers=3, levels=2, boundary="periodic"),
    "latent spectral": lambda: LatentSpectralOperator(1, 1, width=8, scales=3, heads=2, tokens=2, bases=3),
    "transformer": lambda: OperatorTransformer(1, 1, width=12, depths=[2, 2], patch=4, window=4),
    "resnet": lambda: ResNet(1, 1, width=6, blocks=2),
}


class Attention(nn.Module):
    def __init__(self, width: int, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.qkv_proj, self.o_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)


class DecoderLayer(nn.Module):
    def __init__(self, config: SimpleNamespace, layer_idx: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.kind = config.layer_types[layer_idx] if config.layer_types else "full"
        self.self_attn, self.mlp = Attention(width, layer_idx), Mlp(width)
        self.input_layernorm, self.post_attention_layernorm = nn.RMSNorm(width), nn.RMSNorm(width)

    def forward(self, x: Tensor, cache: dict[int, Tensor]) -> Tensor:
        seen = torch.cat([*([cache[self.self_attn.layer_idx]] if self.self_attn.layer_idx in cache else []), x], 1)
        cache[self.self_attn.layer_idx] = seen
        q, k, v = self.self_attn.qkv_proj(self.input_layernorm(seen)).chunk(3, -1)
        mask = torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool).tril()[-x.shape[1] :]
        x = x + self.self_attn.o_proj(
            functional.scaled_dot_product_attention(q[:, -x.shape[1] :], k, v, attn_mask=mask)
        )
        return x + self.mlp.down_proj(functional.gelu(self.mlp.up_proj(self.post_attention_layernorm(x))))


class Decoder(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size)
        self.register_buffer("inv_freq", torch.arange(3.0), persistent=False)


class LlamaLike(nn.Module):
    """Block list, config, layer_idx and tied head as in Hugging Face's Llama; keys and values cached by layer_idx."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config, self.generation_config = config, SimpleNamespace(temperature=0.7)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, tokens: Tensor, cache: dict[int, Tensor] | None = None) -> SimpleNamespace:
        x, cache = self.model.embed_tokens(tokens), {} if cache is None else cache
        for layer in self.model.layers:
            x = layer(x, cache)
        return SimpleNamespace(logits=self.lm_head(self.model.norm(x)))


def llama_like(layers: int = 2, *, kinds: list[str] | None = None, tied: bool = True) -> LlamaLike:
    config = SimpleNamespace(
        hidden_size=8, vocab_size=11, num_hidden_layers=layers, layer_types=kinds, tie_word_embeddings=tied
    )
    return LlamaLike(config)


def trained(model: nn.Module, *inputs: Tensor, steps: int = 2) -> torch.optim.Optimizer:
    """An AdamW that has taken some steps on the model."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(*inputs)
        getattr(outputs, "logits", outputs).square().mean().backward()
        optimizer.step()
    return optimizer
