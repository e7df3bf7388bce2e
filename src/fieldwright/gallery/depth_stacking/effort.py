"""How much of depth stacking's page is measured."""

from dataclasses import dataclass

from fieldwright.gallery.depth_stacking.language_model import Shape


@dataclass(frozen=True)
class Effort:
    """The language model's shape, its characters of text and held-out windows, steps from scratch, of the shallow base
    and after the growth (of the stack, of the other ways), learning rates tried, steps between held-out losses, seeds;
    then points per axis and samples of the operator, its steps from scratch and of its base, and its seeds.
    """

    shape: Shape
    characters: int | None
    windows: int
    scratch_steps: int
    base_steps: int
    stack_steps: int
    other_steps: int
    learning_rates: tuple[float, ...]
    every: int
    seeds: tuple[int, ...]
    points: int
    samples: int
    operator_steps: int
    operator_base_steps: int
    operator_seeds: tuple[int, ...]


FULL = Effort(
    Shape(), None, 256, 1000, 300, 780, 620, (2e-3, 3.5e-3, 6e-3), 60, (0, 1, 2),
    points=32, samples=256, operator_steps=200, operator_base_steps=80, operator_seeds=(0, 1),
)  # fmt: skip
QUICK = Effort(
    Shape(layers=4, width=16, heads=2, hidden=32, context=16), 60_000, 8, 6, 4, 5, 4, (2e-3, 3.5e-3), 2, (0, 1),
    points=16, samples=24, operator_steps=6, operator_base_steps=3, operator_seeds=(0,),
)  # fmt: skip
