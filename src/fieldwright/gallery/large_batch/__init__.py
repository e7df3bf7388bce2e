"""Large batches: what closes the gap to small ones, and which batch pays.

Sources: Hoffer, Hubara, Soudry, "Train longer, generalize better", NeurIPS 2017 (arXiv 1705.08741); McCandlish, Kaplan,
Amodei et al., "An empirical model of large-batch training", 2018 (arXiv 1812.06162).
"""

from fieldwright.gallery.large_batch.measure import reproduce_large_batch

__all__ = ["reproduce_large_batch"]
