"""The page of Lion-K: the theory step by step, the race on Burgers' equation, the bounded inverse problem."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fieldwright.gallery.lion_k.bounded_inverse import Inversion, invert_with_adam, invert_with_lbfgs, invert_with_lion
from fieldwright.gallery.lion_k.burgers_race import (
    ADAMW,
    CONTENDERS,
    MUON,
    SIGN,
    SPECTRAL,
    Outcome,
    burgers_race,
    torch_muon_seconds,
)
from fieldwright.gallery.lion_k.two_phases import (
    SMOOTH,
    Approach,
    Descent,
    Inequality,
    approach,
    descent,
    inequality,
)
from fieldwright.gallery.page import Claim, Reproduction, Table, spread
from fieldwright.progress import Reporter

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Effort:
    """Steps of the theory's checks, samples and steps of the race, iterations of the inversions, seeds."""

    theory_steps: int
    samples: int
    steps: int
    truths: dict[str, int]
    seeds: tuple[int, ...]


TRUTHS = {"two phases": 500, "smooth": 500}
FULL = Effort(1000, 1024, 1500, TRUTHS, (0, 1, 2))
QUICK = Effort(20, 64, 3, dict.fromkeys(TRUTHS, 3), (0, 1, 2))


@dataclass(frozen=True)
class Theory:
    """What was followed step by step."""

    descents: Sequence[Descent]
    approaches: Sequence[Approach]
    inequalities: Sequence[Inequality]


def reproduce_lion_k(quick: bool, reporter: Reporter) -> Reproduction:
    """Measure all of it."""
    effort = QUICK if quick else FULL
    theory = follow_theory(effort.theory_steps)
    outcomes = burgers_race(samples=effort.samples, steps=effort.steps, seeds=effort.seeds, reporter=reporter)
    torchs_muon = torch_muon_seconds()
    inversions = [
        method(name, seed, iterations)
        for name, iterations in effort.truths.items()
        for seed in effort.seeds
        for method in (invert_with_lion, invert_with_adam, invert_with_lbfgs)
    ]
    return page(theory, outcomes, torchs_muon, inversions, effort)


def page(
    theory: Theory,
    outcomes: Sequence[Outcome],
    torchs_muon: float,
    inversions: Sequence[Inversion],
    effort: Effort,
) -> Reproduction:
    """The page of what was measured."""
    return Reproduction(
        title="Lion-K",
        source=(
            "L. Chen, B. Liu, K. Liang, Q. Liu, *Lion Secretly Solves Constrained Optimization: As Lyapunov Predicts*, "
            "ICLR 2024, [arXiv 2310.05898](https://arxiv.org/abs/2310.05898)."
        ),
        introduction=INTRODUCTION,
        tables=[theory_table(theory), race_table(outcomes, effort, torchs_muon), inverse_table(inversions)],
        claims=claims(theory, outcomes, inversions),
        figure=draw(theory, outcomes),
        caption="What exceeds the bound, and errors on Burgers' equation",
    )


INTRODUCTION = """
Lion moves weights along the sign of a momentum and decays them. The paper shows that the decay λ makes a constraint of
it, |x| <= 1/λ, and that with the subgradient of any convex K in the sign's place the problem is
min f(x) + K*(λx)/λ; an energy H falls on the way. Its experiments are image classifiers and language models. Here the
theory is followed step by step on a function that is not convex, K is chosen for a surrogate of Burgers' equation, and
the constraint is put to use: an inverse problem between known bounds.
"""


def follow_theory(steps: int) -> Theory:
    """Energy along the equation, approach to the bound, discrete inequality."""
    return Theory(
        [descent(name, steps=steps) for name in SMOOTH],
        [approach(0.8, steps=2 * steps, rate=1e-2), approach(4.0, steps=2 * steps, rate=1e-2)],
        [inequality(name, rate=rate, steps=steps) for name in SMOOTH for rate in (1e-2, 1e-3)],
    )


def theory_table(theory: Theory) -> Table:
    """What was checked, and the worst that was seen."""
    rows = [
        {
            "check": f"H along the equation, {one.kappa}",
            "worst": f"largest rise {one.largest_rise:.1e}; fall off the derived rate by {one.rate_error:.1e}",
        }
        for one in theory.descents
    ]
    rows += [
        {
            "check": f"excess <= (1 - ηλ)^t, λ = {one.weight_decay:g}",
            "worst": f"{one.violations} violations; below 1e-3 after {_count(one.taken)} steps, at most "
            f"{one.predicted:,} predicted",
        }
        for one in theory.approaches
    ]
    rows += [
        {
            "check": f"discrete inequality, {one.kappa}, η = {one.rate:g}",
            "worst": f"{one.violations} violations; H itself rises in {one.rising:.1%} of the steps",
        }
        for one in theory.inequalities
    ]
    return Table(
        "The theory, step by step",
        "f(x) = xᵀAx/2 + Σ cos(x - 1/2) in 20 variables. The equation: λ = 0.8, ε = 0.4, α = γ = 1, fourth-order steps "
        "of 0.001. The approach: Lion, η = 0.01, from a start in [-10, 10]. The inequality: λ = 0.8, β = (0.9, 0.99).",
        rows,
    )


def race_table(outcomes: Sequence[Outcome], effort: Effort, torchs_muon: float) -> Table:
    """A row for each optimizer."""
    rows = []
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.name == name]
        rows.append(
            {
                "optimizer": name,
                "rate": f"{own[0].rate:g}",
                "test error": spread([outcome.error for outcome in own]),
                "ms an update": 1e3 * min(outcome.step_seconds for outcome in own),
                "s a training": statistics.median(outcome.seconds for outcome in own),
            }
        )
    return Table(
        "The choice of K: Burgers' equation",
        f"u at 0 -> u at 0.3 of Burgers' equation, ν = 0.02, 64 points; a perceptron 64-256-256-64, {effort.samples} "
        f"samples, batch 64, {effort.steps} steps, cosine, relative L2 loss, no weight decay, β = (0.9, 0.99) for "
        "Lion-K. Each optimizer has the best of four rates by the validation error after a third of the steps from a "
        "seed of its own. Relative L2 "
        f"error on {effort.samples // 4} other samples, median over {len(effort.seeds)} seeds (least to largest). CPU "
        "time of one thread; of an update the least of all steps. Muon is torch's algorithm with its factor in float32 "
        "and AdamW on vectors; torch.optim.Muon itself rounds to bfloat16, for which an update of the three matrices "
        f"takes {1e3 * torchs_muon:.3g} ms here.",
        rows,
        "The sign alone is on par with AdamW; the gain is in the spectral K on matrices, with the sign on vectors, in "
        "one optimizer and at one rate." + _at_the_edge(outcomes),
    )


def inverse_table(inversions: Sequence[Inversion]) -> Table:
    """A row for each truth and method."""
    rows = []
    for truth, method in dict.fromkeys((one.truth, one.method) for one in inversions):
        own = [one for one in inversions if (one.truth, one.method) == (truth, method)]
        certificates = [one.certificate for one in own if one.certificate is not None]
        rows.append(
            {
                "truth": truth,
                "method": method,
                "error of the conductivity": spread([one.error for one in own]),
                "ms an iteration": 1e3 * min(one.seconds for one in own),
                "certificate, last over first": f"{max(certificates):.1e}" if certificates else None,
            }
        )
    return Table(
        "The constraint at work: a bounded inverse problem",
        "A conductivity of 64 cells between 1 and 4 from pressures under three loads in one dimension, with noise of a "
        "thousandth. Lion-K has K of the box (λ = 1, η = 0.05, cosine) and never leaves it; Adam is clamped and has "
        "the better of two rates (0.03, 0.1), judged by the truth; L-BFGS-B is SciPy's. As many iterations for each.",
        rows,
        "The box pays where the truth lies on its bounds. L-BFGS-B is the plain choice for small problems without "
        "stochastic gradients; for the smooth truth clamping is as good.",
    )


def claims(theory: Theory, outcomes: Sequence[Outcome], inversions: Sequence[Inversion]) -> list[Claim]:
    """What the page is there to bear out."""
    rise = max(one.largest_rise for one in theory.descents)
    rate = max(one.rate_error for one in theory.descents)
    violations = sum(one.violations for one in theory.approaches) + sum(one.violations for one in theory.inequalities)
    in_time = all(one.taken is not None and one.taken <= one.predicted for one in theory.approaches)
    adamw, sign, spectral, muon = (_error(outcomes, name) for name in (ADAMW, SIGN, SPECTRAL, MUON))
    ours, torchs = (min(o.step_seconds for o in outcomes if o.name == name) for name in (SPECTRAL, MUON))
    box, clamped = (_two_phase(inversions, method) for method in ("Lion-K box", "Adam, clamped"))
    return [
        Claim("H never rises along the equation", f"largest rise {rise:.1e}", rise <= 1e-12),
        Claim("H falls at the derived rate, to 1e-4", f"{rate:.1e}", rate <= 1e-4),
        Claim("No step violates the rate of the approach or the discrete inequality", f"{violations}", violations == 0),
        Claim(
            "The bound is reached within the predicted steps",
            ", ".join(f"{_count(one.taken)} of {one.predicted:,}" for one in theory.approaches),
            in_time,
        ),
        Claim(
            "Spectral + sign is below AdamW by a fifth", f"{spectral:.2%} against {adamw:.2%}", spectral <= 0.8 * adamw
        ),
        Claim("Spectral + sign is no worse than Muon", f"{spectral:.2%} against {muon:.2%}", spectral <= muon),
        Claim("Its update takes at most twice as long as Muon's", f"{ours / torchs:.2f} times", ours <= 2 * torchs),
        Claim(
            "The sign alone is on par with AdamW, within a quarter",
            f"{sign:.2%} against {adamw:.2%}",
            0.8 * adamw <= sign <= 1.25 * adamw,
        ),
        Claim(
            "Between bounds that the truth takes, the box has at most half the error of clamping",
            f"{box:.2%} against {clamped:.2%}",
            box <= clamped / 2,
        ),
    ]


def draw(theory: Theory, outcomes: Sequence[Outcome]) -> Figure:
    """The approach beside its bound, and every seed's error a mark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for one, colour in zip(theory.approaches, ("C0", "C1"), strict=True):
        shown = [value for value in one.excess if value > 0]
        left.plot(shown, color=colour, label=f"λ = {one.weight_decay:g}")
        bound = [one.excess[0] * (1 - one.rate * one.weight_decay) ** t for t in range(len(shown))]
        left.plot(bound, ":", color=colour, label="its bound")
    left.set(xlabel="step", ylabel="excess over the bound of |x|", yscale="log", ylim=(1e-4, None))
    left.legend()
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))
    for place, name in enumerate(names):
        own = [100 * outcome.error for outcome in outcomes if outcome.name == name]
        right.plot(own, [place] * len(own), "ko", alpha=0.7)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel="relative L2 error, %", xlim=(0, None))
    right.grid(alpha=0.3)
    return figure


def _at_the_edge(outcomes: Sequence[Outcome]) -> str:
    """Who took the largest or least rate that was tried, for whom others may be better still."""
    ends = {contender.name: (min(contender.rates), max(contender.rates)) for contender in CONTENDERS}
    names = [name for name in dict.fromkeys(o.name for o in outcomes if o.rate in ends[o.name])]
    return (
        f" At the end of the rates that were tried, where others may be better still: {', '.join(names)}."
        if names
        else ""
    )


def _error(outcomes: Sequence[Outcome], name: str) -> float:
    return statistics.median(outcome.error for outcome in outcomes if outcome.name == name)


def _two_phase(inversions: Sequence[Inversion], method: str) -> float:
    return statistics.median(one.error for one in inversions if (one.truth, one.method) == ("two phases", method))


def _count(steps: int | None) -> str:
    return "no number of" if steps is None else f"{steps:,}"
