"""Krylov recycling with sorting (SKR): the published gain, where it comes from, and what is left of it.

Source: Wang et al., "Accelerating data generation for neural operators via Krylov subspace recycling", ICLR 2024.
"""

from fieldwright.gallery.krylov_recycling.measure import reproduce_krylov_recycling

__all__ = ["reproduce_krylov_recycling"]
