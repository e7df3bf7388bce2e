"""The latent spectral model (LSM): what its blocks do exactly, and how it races against a plain U-Net and an FNO.

Source: Wu, Hu, Luo, Wang, Long, "Solving High-Dimensional PDEs with Latent Spectral Models", ICML 2023
(arXiv 2301.12664).
"""

from fieldwright.gallery.latent_spectral_model.measure import reproduce_latent_spectral_model

__all__ = ["reproduce_latent_spectral_model"]
