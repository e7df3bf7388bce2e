"""The gradient noise scale: up to which batch more samples a step save steps.

With G the true gradient and Σ the covariance of the gradients of single samples, a batch of B samples has a gradient of

    E|G_B|² = |G|² + tr Σ / B,        noise scale  𝓑 = tr Σ / |G|².

The pieces i of a batch, of b_i samples each, that are backpropagated one after another give both without bias,

    tr Σ ≈ (mean_i |G_i|² - |G_B|²) / (mean_i 1/b_i - 1/B),        |G|² ≈ |G_B|² - tr Σ / B,

each averaged over steps before they are divided. The steps to a given loss go with the batch as

    S(B) = S_min (1 + 𝓑_crit / B),        𝓑_crit ≈ 𝓑 within a factor of two or three,

so that beyond B = 4 𝓑 a batch of twice the size saves less than a tenth of the steps.

Source: McCandlish, Kaplan, Amodei et al., "An empirical model of large-batch training", 2018 (appendix A.1 and equation
2.11); learning rates for batches: ibid. (equation 2.7) and Li et al., "Surge phenomenon in optimal learning rate and
batch size scaling", NeurIPS 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from fieldwright.errors import InputError
from fieldwright.training.callback import Callback, Step

CONFIDENCE = 0.9
PAYING = 0.1
"""Doubling a batch pays while it saves this share of the steps."""


@dataclass(frozen=True)
class NoiseScale:
    """tr Σ and |G|², their ratio 𝓑 with a band of confidence `CONFIDENCE`, and from how many steps they are.

    ``high`` is infinite where |G|² cannot be told from zero: then noise dominates, and 𝓑 is above ``low``.
    """

    noise: float
    signal: float
    low: float
    high: float
    measured: int

    @property
    def value(self) -> float:
        return self.noise / self.signal if self.signal > 0 else math.inf

    def __str__(self) -> str:
        if math.isinf(self.high) or math.isinf(self.value):
            return f"above {self.low:.3g} (noise dominates: the mean gradient cannot be told from zero)"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g} with {CONFIDENCE:.0%} confidence)"


class NoiseAverage:
    """Averages of tr Σ and |G|² over about the last ``memory`` measurements, and how far they can be trusted."""

    def __init__(self, memory: int = 50) -> None:
        if memory < 1:
            raise InputError(f"noise scale: memory {memory}; at least one measurement is averaged")
        self.keep, self.measured = 1 - 1 / memory, 0
        self.sums = [0.0] * 5  # of T, Q, T², TQ, Q² with T = tr Σ, Q = |G|²

    def add(self, noise: float, signal: float) -> None:
        """Take in the two estimates of a step."""
        new = (noise, signal, noise * noise, noise * signal, signal * signal)
        self.sums = [self.keep * old + value for old, value in zip(self.sums, new, strict=True)]
        self.measured += 1

    def estimate(self) -> NoiseScale:
        """The ratio of the averages, with Fieller's interval: all r for which mean(T - r Q) may be zero.

        Errors: `InputError` before the first measurement.
        """
        if self.measured == 0:
            raise InputError("noise scale: nothing was measured yet")
        weights = _geometric(self.keep, self.measured)
        t, q, tt, tq, qq = (value / weights for value in self.sums)
        number = weights**2 / _geometric(self.keep**2, self.measured)  # of equal weights that would be as certain
        if number <= 1:
            return NoiseScale(t, q, 0.0, math.inf, self.measured)
        spread = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) ** 2 / (number - 1)
        # T̄² - 2 r T̄ Q̄ + r² Q̄² = spread · var(T - r Q), a quadratic a r² - 2 h r + c = 0
        a = q * q - spread * max(qq - q * q, 0.0)
        h = t * q - spread * (tq - t * q)
        c = t * t - spread * max(tt - t * t, 0.0)
        root = math.sqrt(max(h * h - a * c, 0.0))
        if a <= 0 or q <= 0:
            low = (h - root) / a if a < 0 and c > 0 else 0.0
            return NoiseScale(t, q, max(low, 0.0), math.inf, self.measured)
        return NoiseScale(t, q, max((h - root) / a, 0.0), max((h + root) / a, 0.0), self.measured)


def _geometric(keep: float, terms: int) -> float:
    return terms if keep == 1 else (1 - keep**terms) / (1 - keep)


def two_batch_estimate(pieces: float, inverse: float, whole: float, batch: int) -> tuple[float, float]:
    """tr Σ and |G|² from the means of |G_i|² and of 1/b_i over pieces, and |G_B|² of the batch they are part of."""
    noise = (pieces - whole) / (inverse - 1 / batch)
    return noise, whole - noise / batch


@dataclass(frozen=True)
class BatchAdvice:
    """What other batches would do for a training of ``steps`` steps of ``batch_size`` samples.

    ``seconds`` is the time of that training, where it is known.
    """

    batch_size: int
    noise: NoiseScale
    steps: int
    seconds: float | None = None

    @property
    def paying(self) -> tuple[float, float, float]:
        """The batch whose doubling saves a share `PAYING` of the steps: estimate, and ends of the band."""
        factor = (1 - 2 * PAYING) / (2 * PAYING)  # of 1 - S(2B)/S(B) = 𝓑/2 / (B + 𝓑)
        return factor * self.noise.value, factor * self.noise.low, factor * self.noise.high

    def steps_at(self, batch: float, scale: float) -> float:
        """The steps with another batch to the same loss, S(B') = S(B) (1 + 𝓑/B') / (1 + 𝓑/B)."""
        if math.isinf(scale):
            return self.steps * self.batch_size / batch
        return self.steps * (1 + scale / batch) / (1 + scale / self.batch_size)

    def rows(self) -> list[dict[str, float | int | None]]:
        """Half, the same, twice and four times the batch: steps with their band, and times.

        "seconds, as many devices" is with devices in proportion to the batch, "seconds, same device" with a time of a
        step in proportion to it. "rate, SGD" and "rate, Adam or Lion" are the best learning rates relative to today's.
        """
        rows: list[dict[str, float | int | None]] = []
        for batch in (self.batch_size / 2, self.batch_size, 2 * self.batch_size, 4 * self.batch_size):
            steps, *band = (self.steps_at(batch, s) for s in (self.noise.value, self.noise.low, self.noise.high))
            share = None if self.seconds is None else self.seconds * steps / self.steps
            rows.append(
                {
                    "batch": batch,
                    "steps": steps,
                    "least steps": min(band),
                    "most steps": max(band),
                    "seconds, as many devices": share,
                    "seconds, same device": None if share is None else share * batch / self.batch_size,
                    "rate, SGD": self._rate(batch, _linear_then_flat),
                    "rate, Adam or Lion": self._rate(batch, _surge),
                }
            )
        return rows

    def _rate(self, batch: float, law: Any) -> float:
        scale = self.noise.value if math.isfinite(self.noise.value) else 1e6 * batch
        return law(batch, scale) / law(self.batch_size, scale)

    def __str__(self) -> str:
        middle, low, high = self.paying
        if math.isinf(high) or math.isinf(middle):
            where = f"up to a batch of {low:.3g} at least, twice the samples save more than {PAYING:.0%} of the steps"
        else:
            where = (
                f"beyond a batch of {middle:.3g} ({low:.3g} to {high:.3g}) twice the samples save less than"
                f" {PAYING:.0%} of the steps"
            )
        predicted = ", ".join(f"{row['steps']:,.0f} at {row['batch']:g}" for row in self.rows())
        return f"gradient noise scale {self.noise}: {where}; steps to the same loss: {predicted}"


def _linear_then_flat(batch: float, scale: float) -> float:
    return 1 / (1 + scale / batch)


def _surge(batch: float, scale: float) -> float:
    return 2 / (math.sqrt(scale / batch) + math.sqrt(batch / scale))


class NoiseScaleMeter(Callback):
    """Measures the noise scale at every ``every``-th step, and says at the end which batches pay.

    It costs no pass over data: the pieces of gradient accumulation are compared with the whole, and where there is one
    piece, a step that is measured comes in two. That needs one more gradient in memory. ``memory`` is the number of
    measurements that an average is about. Gradients are those before clipping. With several processes each piece but
    the last, which holds all processes' gradients, counts.

    Errors: `InputError` for a batch of one sample.
    """

    columns = ("noise_scale", "noise_scale_low", "noise_scale_high")

    def __init__(self, every: int = 5, memory: int = 50) -> None:
        if every < 1:
            raise InputError(f"noise-scale: every {every}; it is a number of steps, at least 1")
        self.every, self.average = every, NoiseAverage(memory)
        self._sums: dict[nn.Parameter, Tensor] = {}
        self._pieces: list[tuple[Tensor, int]] = []

    def begin(self, step: Step) -> None:
        if step.samples < 2:
            raise InputError("noise-scale: a batch of one sample; two at least are needed to see how they differ")

    def pieces(self, index: int) -> int:
        return 2 if index % self.every == 0 else 1

    def after_piece(self, step: Step) -> None:
        if step.index % self.every:
            return
        sums = {p: p.grad.detach().clone() for p in step.operator.parameters() if p.grad is not None}
        own = [total - self._sums[p] if p in self._sums else total for p, total in sums.items()]
        self._sums = sums
        self._pieces.append((_squared(own), step.samples))

    def after_backward(self, step: Step) -> None:
        if not self._pieces:
            return
        pieces, self._pieces, self._sums = self._pieces, [], {}
        world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        if world > 1:
            pieces = pieces[:-1]  # that backward pass summed over the processes
        whole = _squared([p.grad.detach() for p in step.operator.parameters() if p.grad is not None])
        # A piece's loss was multiplied by its share of the batch, and by the processes that will be averaged over.
        norms = [squared * (step.samples / (world * samples)) ** 2 for squared, samples in pieces]
        sums = torch.stack(
            [sum(norms, torch.zeros_like(whole)), whole.new_tensor(sum(1 / samples for _, samples in pieces)),
             whole.new_tensor(len(pieces))]
        )  # fmt: skip
        if world > 1:
            torch.distributed.all_reduce(sums)
        total, inverse, number = sums.tolist()
        # One piece is the batch itself: a process with one sample has nothing to compare.
        if number and inverse / number > 1 / step.samples:
            self.average.add(*two_batch_estimate(total / number, inverse / number, float(whole), step.samples))

    def end(self, step: Step) -> str | None:
        if self.average.measured == 0:
            return None
        return str(BatchAdvice(step.samples, self.average.estimate(), step.index))

    def figures(self) -> dict[str, float]:
        if self.average.measured == 0:
            return {}
        found = self.average.estimate()
        return dict(zip(self.columns, (found.value, found.low, found.high), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": list(self.average.sums), "measured": self.average.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average.sums, self.average.measured = list(state["sums"]), state["measured"]


def _squared(tensors: list[Tensor]) -> Tensor:
    """Σ |entries|², in double precision."""
    return torch.stack([torch.linalg.vector_norm(t, dtype=_double(t)) for t in tensors]).square().sum()


def _double(tensor: Tensor) -> torch.dtype:
    if tensor.device.type == "mps":  # which has none
        return tensor.dtype
    return torch.complex128 if tensor.is_complex() else torch.float64
