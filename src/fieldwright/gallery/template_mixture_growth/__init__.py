"""Template mixtures: two half-width networks merged into a whole one, against other ways to the same width.

Source: Pham, Teterwak, Nelson, Plummer, "MixtureGrowth: Growing Neural Networks by Recombining Learned Parameters",
WACV 2024 (arXiv 2311.04251).
"""

from fieldwright.gallery.template_mixture_growth.measure import reproduce_template_mixture_growth

__all__ = ["reproduce_template_mixture_growth"]
