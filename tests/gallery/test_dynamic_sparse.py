"""The page of continual learning: claims are decided by their own figures, and the digits are what is said."""

import dataclasses

import pytest
import torch

from fieldwright.gallery.dynamic_sparse import digits as digits_module
from fieldwright.gallery.dynamic_sparse.digits import INDEPENDENT, digits, drawn_digits
from fieldwright.gallery.dynamic_sparse.effort import FULL, QUICK
from fieldwright.gallery.dynamic_sparse.equations import DENSE, EQUATIONS, MASKED, Learned, equation_data
from fieldwright.gallery.dynamic_sparse.measure import claims, draw, reproduce_continual_learning
from fieldwright.gallery.page import markdown
from fieldwright.progress import SILENT
from fieldwright.training import TaskMatrix

BELOW = {name: 0.9 * error for name, error in MASKED.items()}
GOOD = Learned(
    alone=DENSE, naive=dict.fromkeys(EQUATIONS, 1.0), naive_then=DENSE,
    masked_card=MASKED, masked=BELOW, masked_then=BELOW,
    identical=True, refused="full", grown=0.2,
)  # fmt: skip
RUNS = {
    key: [TaskMatrix(("a", "b"), ((value,), (value, value)), better="higher")] * 3 for key, value in INDEPENDENT.items()
}
PLAIN = [TaskMatrix(("a", "b"), ((0.9,), (0.6, 0.9)), better="higher")] * 3


def failed(learned=GOOD, runs=RUNS, plain=PLAIN):
    return [claim.statement for claim in claims([learned] * 3, runs, plain) if not claim.holds]


def test_figures_that_bear_out_every_claim_do():
    assert failed() == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"masked_then": {**GOOD.masked_then, "heat": GOOD.masked["heat"] * (1 + 1e-15)}}, "drift"),
        ({"identical": False}, "drift"),
        ({"changed_by_growth": 1}, "drift"),
        ({"masked": MASKED, "masked_then": MASKED}, "below the independent"),
        ({"naive": {**GOOD.naive, "Burgers": 0.3}}, "forgotten"),
        ({"alone": {**DENSE, "heat": 0.02}}, "2.5 times"),
        ({"grown": 0.3}, "refuses"),
        ({"refused": ""}, "refuses"),
    ],
)
def test_a_claim_fails_with_its_own_figure(change, word):
    assert [statement for statement in failed(dataclasses.replace(GOOD, **change)) if word in statement]


def test_digits_below_the_independent_run_or_forgotten_are_told():
    worse = {**RUNS, (0.9, "erk"): [TaskMatrix(("a", "b"), ((0.99,), (0.98, 0.985)), better="higher")] * 3}
    assert [s for s in failed(runs=worse) if "90% sparsity, erk" in s]
    assert [s for s in failed(runs=worse) if "Backward" in s]
    assert [s for s in failed(plain=RUNS[0.8, "erk"]) if "Backward" in s]


def test_drawn_digits_are_told_apart_by_their_means_and_say_what_they_are(monkeypatch):
    images, labels = drawn_digits(300)
    assert images.shape == (300, 64)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert torch.equal(images, drawn_digits(300)[0])
    means = torch.stack([images[:200][labels[:200] == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(images[200:], means).argmin(1)
    assert float((nearest == labels[200:]).float().mean()) > 0.8

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(digits_module.importlib, "import_module", absent)
    assert "not handwritten" in digits(QUICK).source
    assert len(digits(QUICK).task(2, test=False)[1].unique()) == 2


def test_the_equations_have_their_samples_on_one_grid():
    for name, data in equation_data(QUICK).items():
        inputs, outputs = data.train_samples.batch(range(4))
        assert inputs.shape == outputs.shape == (4, 1, 64), name
        assert len(data.train_samples) == QUICK.samples


def test_a_quick_reproduction_gives_a_whole_page():
    measured = reproduce_continual_learning(True, SILENT)
    page = markdown(dataclasses.replace(measured, quick=True, name="x"))
    assert "its figures mean nothing" in page
    assert all(name in page for name in EQUATIONS)
    assert measured.claims[0].holds  # in all bits, however short the training
    axes = draw([GOOD] * 3).axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [3] * 12
    assert FULL.seeds == (0, 1, 2)
