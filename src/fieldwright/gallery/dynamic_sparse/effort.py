"""How much of the page on continual learning is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Samples and epochs of the equations and of the digits, and seeds of both.

    ``card_epochs`` are those of the independent run whose errors the page compares with, ``epochs`` those of the
    network of all tasks.
    """

    samples: int
    test_samples: int
    card_epochs: int
    epochs: int
    exchange: int
    digits: int
    digit_epochs: int
    seeds: tuple[int, ...]


FULL = Effort(
    samples=700,
    test_samples=300,
    card_epochs=40,
    epochs=80,
    exchange=100,
    digits=600,
    digit_epochs=60,
    seeds=(0, 1, 2),
)
QUICK = Effort(samples=24, test_samples=8, card_epochs=1, epochs=1, exchange=2, digits=80, digit_epochs=1, seeds=(0, 1))
