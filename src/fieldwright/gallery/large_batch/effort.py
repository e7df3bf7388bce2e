"""How much of the page on large batches is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Seeds of the digits and of the rest, samples, epochs, and the large batches beside those of 16."""

    seeds: tuple[int, ...]
    few_seeds: tuple[int, ...]
    glyphs: int
    test_glyphs: int
    glyph_epochs: int
    glyph_batch: int
    walk_glyphs: int
    walk_steps: int
    maps: int
    map_epochs: int
    map_batch: int
    knee_batches: tuple[int, ...]
    knee_rates: tuple[float, ...]
    knee_error: float
    knee_most_steps: int


FULL = Effort(
    seeds=(0, 1, 2, 3, 4),
    few_seeds=(0, 1, 2),
    glyphs=512,
    test_glyphs=2000,
    glyph_epochs=8,
    glyph_batch=256,
    walk_glyphs=1024,
    walk_steps=400,
    maps=1024,
    map_epochs=30,
    map_batch=512,
    knee_batches=(4, 16, 64, 256, 1024),
    knee_rates=(1e-3, 3e-3, 1e-2),
    knee_error=0.08,
    knee_most_steps=2000,
)
QUICK = Effort(
    seeds=(0, 1),
    few_seeds=(0,),
    glyphs=64,
    test_glyphs=50,
    glyph_epochs=1,
    glyph_batch=64,
    walk_glyphs=64,
    walk_steps=40,
    maps=64,
    map_epochs=1,
    map_batch=64,
    knee_batches=(4, 16, 64),
    knee_rates=(3e-3,),
    knee_error=0.8,
    knee_most_steps=40,
)
