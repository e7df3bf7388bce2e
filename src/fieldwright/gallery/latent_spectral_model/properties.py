"""Properties of the latent spectral model that hold exactly or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping

import torch

from fieldwright.gallery.page import Cell, Table
from fieldwright.operators import LatentSpectralOperator, LatentSpectralPointOperator
from fieldwright.operators.spectral_block import SpectralBlock

PATCH, GRID = 4, 64
LOCALITY, CROSSING, RECTANGLE, RELOADED = "cells outside the patch", "cells inside", "rectangle", "reload"


def exact_properties() -> dict[str, float]:
    """Measured on small random operators, one number for each property.

    ``LOCALITY``, ``CROSSING``  share of the cells outside and inside its patch that a block changes after one cell of
                                its input has changed
    ``RECTANGLE``               1 where a field on 221 x 51 points comes back on as many, all finite, else 0
    ``RELOADED``                largest difference between a point-cloud operator's outputs before it is saved and after
                                it is loaded
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        block = SpectralBlock(32, (PATCH, PATCH), tokens=4, bases=12, heads=8)
        field = torch.randn(1, 32, GRID, GRID)
        pushed = field.clone()
        pushed[:, :, 9, 21] += 1
        changed = (block(pushed) - block(field)).abs().amax((0, 1)) > 0
        patch = torch.zeros(GRID, GRID, dtype=torch.bool)
        patch[8:12, 20:24] = True
        outputs = LatentSpectralOperator(1, 1).eval()(torch.randn(1, 1, 221, 51))
        whole = outputs.shape[2:] == (221, 51) and bool(outputs.isfinite().all())
        cloud = LatentSpectralPointOperator(2, 1).eval()
        values, points = torch.randn(2, 300, 2), torch.rand(2, 300, 2)
        with tempfile.TemporaryDirectory() as directory:
            cloud.save_pretrained(directory)
            loaded = LatentSpectralPointOperator.from_pretrained(directory)
        return {
            LOCALITY: float(changed[~patch].float().mean()),
            CROSSING: float(changed[patch].float().mean()),
            RECTANGLE: float(whole),
            RELOADED: float((cloud(values, points) - loaded(values, points)).abs().max()),
        }


def property_table(found: Mapping[str, float]) -> Table:
    """Section two of the page."""
    rows: list[Mapping[str, Cell]] = [
        {"property": f"one cell changes: share of its {PATCH} x {PATCH} patch that a block changes", "measured":
            f"{found[CROSSING]:.0%}"},
        {"property": "the same outside the patch", "measured": f"{found[LOCALITY]:.0%}"},
        {"property": "a field on 221 x 51 points comes back on as many", "measured":
            "yes" if found[RECTANGLE] else "no"},
        {"property": "a point-cloud operator after saving and loading, largest difference", "measured":
            f"{found[RELOADED]:.1g}"},
    ]  # fmt: skip
    return Table(
        heading="What holds exactly",
        setting="Small operators with random weights.",
        rows=rows,
        reading=(
            "Patches exchange nothing within a block: what is far apart meets on the coarse scales of the U-Net alone. "
            "No size needs padding by the user, and the map of coordinates is stored with a point-cloud operator."
        ),
    )
