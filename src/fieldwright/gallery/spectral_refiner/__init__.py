"""The spectral refiner: its spatiotemporal Fourier operator on decaying turbulence, raced and asked for what it was not
trained on.

Source: Cao, Brarda, Li, Xi, "Spectral-Refiner", ICLR 2025 (arXiv 2405.17211).
"""

from fieldwright.gallery.spectral_refiner.measure import reproduce_spectral_refiner

__all__ = ["reproduce_spectral_refiner"]
