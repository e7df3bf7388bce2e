"""Datasets of ours to be converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from our_datasets import CONTENTS, COUNTS

from fieldwright.datasets import write_shard


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a dataset of a kind, with all three splits."""

    def write(kind: str) -> Path:
        root = tmp_path / "ours" / kind
        for number, (split, count) in enumerate(COUNTS.items()):
            write_shard(root / "data" / split / "a_0.hdf5", CONTENTS[kind](count, number))
        return root

    return write
