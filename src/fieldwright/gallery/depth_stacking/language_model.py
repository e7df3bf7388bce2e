"""A character language model of Llama's kind, the text it reads, and how it is trained and counted.

    x ← x + W_o attention(rope(W_q n₁), rope(W_k n₁), W_v n₁),   n₁ = rms(x),
    x ← x + W_down (silu(W_gate n₂) ⊙ W_up n₂),                  n₂ = rms(x)

The text is the source of the standard library of the interpreter that runs, which every machine has.
"""

from __future__ import annotations

import math
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from fieldwright.growth import Blocks

SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))


@dataclass(frozen=True)
class Shape:
    """Blocks, width, heads, hidden width of the perceptrons, longest context."""

    layers: int = 8
    width: int = 48
    heads: int = 4
    hidden: int = 128
    context: int = 64

    @property
    def flops_per_token(self) -> int:
        """6 (L (4 w² + 3 w m + T w) + w V), forward and backward."""
        block = 4 * self.width**2 + 3 * self.width * self.hidden + self.context * self.width
        return 6 * (self.layers * block + self.width * len(SYMBOLS))


class LanguageModel(nn.Module):
    """Next-character scores for each place of a text."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(len(SYMBOLS), shape.width)
        self.layers = nn.ModuleList(LanguageBlock(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=1e-5)
        self.head = nn.Linear(shape.width, len(SYMBOLS), bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:  # deviations of the published code: √(2/(5d)), and 1/(L √d) where a branch ends
                ends = name.endswith(("output.weight", "down.weight"))
                deviation = 1 / shape.layers if ends else math.sqrt(0.4)
                nn.init.normal_(weight, std=deviation / math.sqrt(weight.shape[1]))

    def forward(self, tokens: Int[Tensor, "batch place"]) -> Float[Tensor, "batch place symbol"]:
        x = self.embed(tokens)
        turn = rotations(tokens.shape[1], self.shape.width // self.shape.heads, x)
        for layer in self.layers:
            x = layer(x, turn)
        return self.head(self.norm(x))

    def growing_blocks(self) -> Sequence[Blocks]:
        return [Blocks("layers", ("layers",), len(self.layers), "layers", ends=("output", "down"))]

    def rebuilt(self, *, layers: int) -> LanguageModel:
        return LanguageModel(replace(self.shape, layers=layers))


class LanguageBlock(nn.Module):
    """A block of the equations above."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        w, self.heads = shape.width, shape.heads
        self.first_norm, self.second_norm = nn.RMSNorm(w, eps=1e-5), nn.RMSNorm(w, eps=1e-5)
        self.attention, self.output = nn.Linear(w, 3 * w, bias=False), nn.Linear(w, w, bias=False)
        self.gate_and_up = nn.Linear(w, 2 * shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, w, bias=False)

    def forward(self, x: Float[Tensor, "batch place width"], turn: tuple[Tensor, Tensor]) -> Tensor:
        parts = self.attention(self.first_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        turned = parts[:2] * turn[0] + torch.cat(parts[:2].chunk(2, -1)[::-1], -1) * turn[1]
        mixed = functional.scaled_dot_product_attention(turned[0], turned[1], parts[2], is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        gate, up = self.gate_and_up(self.second_norm(x)).chunk(2, -1)
        return x + self.down(functional.silu(gate) * up)


def rotations(places: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """(cos θ, ± sin θ) of rotary positions: pairs (i, i + width/2) turn by place · 10000^{-2i/width}."""
    rates = 10000 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angle = torch.arange(places, device=like.device)[:, None] * rates
    sine = angle.sin()
    return torch.cat((angle.cos(),) * 2, -1).to(like), torch.cat((-sine, sine), -1).to(like)


def standard_library(limit: int | None = None) -> UInt8[Tensor, " place"]:
    """The text, without what is no printable ASCII, as numbers of `SYMBOLS`; at most ``limit`` of them."""
    root = Path(sysconfig.get_path("stdlib"))
    others = {"test", "tests", "site-packages", "dist-packages"}
    files = [file for file in sorted(root.rglob("*.py")) if not others & set(file.parts)]
    place = {symbol: number for number, symbol in enumerate(SYMBOLS)}
    numbers = bytearray()
    for file in files:
        numbers += bytes(place[c] for c in file.read_text(encoding="utf-8", errors="ignore") if c in place)
        if limit is not None and len(numbers) >= limit:
            break
    return torch.frombuffer(numbers[:limit], dtype=torch.uint8)


@dataclass(frozen=True)
class Text:
    """A text cut in two: windows are drawn from the first part, and ``held_out`` are of the second."""

    trained: UInt8[Tensor, " place"]
    held_out: Int[Tensor, "window character"]

    @classmethod
    def of(cls, text: UInt8[Tensor, " place"], *, context: int, windows: int) -> Text:
        """The last twentieth is held out, ``windows`` of it at equal distances."""
        cut = len(text) * 19 // 20
        starts = torch.linspace(cut, len(text) - context - 1, windows).long()
        return cls(text[:cut], text[starts[:, None] + torch.arange(context + 1)].long())

    def batch(self, size: int, context: int, generator: torch.Generator) -> Int[Tensor, "batch place"]:
        """Windows of one character more than the context."""
        starts = torch.randint(len(self.trained) - context, (size, 1), generator=generator)
        return self.trained[starts + torch.arange(context + 1)].long()


@dataclass(frozen=True)
class Curve:
    """Held-out losses (nats a character) at training FLOPs so far, and the CPU seconds they took."""

    flops: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float = 0.0

    def __add__(self, later: Curve) -> Curve:
        """This run and what came after it; the later one's FLOPs count on from here."""
        shifted = tuple(self.flops[-1] + f for f in later.flops)
        return Curve(self.flops + shifted, self.losses + later.losses, self.seconds + later.seconds)


BATCH, WARMUP = 12, 50


def train_language_model(
    model: LanguageModel, text: Text, *, steps: int, learning_rate: float, seed: int, every: int, begins: bool = True
) -> Curve:
    """AdamW (0.9, 0.95), decay 0.1, constant rate after a warm-up of 50 steps, gradients clipped at 1.

    ``begins``  whether the loss before the first step is the curve's first point
    """
    generator = torch.Generator().manual_seed(seed)
    start = time.process_time()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    per_step = model.shape.flops_per_token * BATCH * model.shape.context
    points = [(0.0, held_out_loss(model, text))] if begins else []
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = learning_rate * min(step / WARMUP, 1.0)
        loss = language_loss(model, text.batch(BATCH, model.shape.context, generator))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0 or step == steps:
            points.append((float(step * per_step), held_out_loss(model, text)))
    flops, losses = zip(*points, strict=True)
    return Curve(flops, losses, time.process_time() - start)


def language_loss(model: nn.Module, windows: Int[Tensor, "batch place"]) -> Float[Tensor, ""]:
    """The mean cross entropy of the next characters."""
    return functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model: nn.Module, text: Text) -> float:
    """The loss on the held-out windows."""
    return sum(float(language_loss(model, part)) for part in text.held_out.chunk(4)) / 4
