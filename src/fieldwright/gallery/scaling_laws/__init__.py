"""Scaling laws: how often the interval of an extrapolated error holds the truth, on synthetic and on real curves.

Source: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017 (arXiv 1712.00409).
"""

from fieldwright.gallery.scaling_laws.measure import reproduce_scaling_laws

__all__ = ["reproduce_scaling_laws"]
