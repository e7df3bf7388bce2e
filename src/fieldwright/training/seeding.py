"""Seeds that depend on what they are for: one number from the run's seed and a few labels.

Every draw of a training (shuffling, symmetries, dropout, a `prepare` transform) takes its own seed, a pure function of
the run's seed and of where the draw stands. So a checkpoint needs to hold no generator state, a resumed run draws what
the uninterrupted one would have drawn, and the shuffling does not depend on the number of processes.
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Int
from torch import Tensor


def derived_seed(seed: int, *labels: int | str) -> int:
    """A 63-bit seed for the draw that ``labels`` name, by BLAKE2b: related labels give unrelated seeds."""
    digest = hashlib.blake2b(repr((seed, *labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derived_generator(seed: int, *labels: int | str) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(seed, *labels))


def random_numbers(count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Integers from 0 to 2^62 for draws that are made later, one for each."""
    return torch.randint(1 << 62, (count,), generator=generator)
